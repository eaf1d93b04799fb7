package fs

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// The state is memory that another process has open too: what the process that
// goes on with the mount has to know of the nodes and handles that the kernel
// knows. It is written as things change, by a few stores that nobody waits for.
// Whenever this process is killed, the next one finds what was before a change
// or what is after it: the word that puts it in force is stored last.
//
// It has a head, and four tables of cells. A cell whose first word is 0 is
// free.
const (
	stateMagic = "logfs\x00m4" // changes with the format of the state and of requests
	headRoom   = 16 << 10

	maxEntryCells  = 1 << 14
	maxNodeCells   = 1 << 18
	maxHandleCells = 1 << 18
	maxDirCells    = 1 << 16

	entriesAt = headRoom
	nodesAt   = entriesAt + maxEntryCells*int(unsafe.Sizeof(entryCell{}))
	handlesAt = nodesAt + maxNodeCells*int(unsafe.Sizeof(nodeCell{}))
	dirsAt    = handlesAt + maxHandleCells*int(unsafe.Sizeof(handleCell{}))

	// StateSize is the size of the memory. What is not used takes none.
	StateSize = dirsAt + maxDirCells*int(unsafe.Sizeof(dirCell{}))
)

type stateHead struct {
	magic  [8]byte
	slot   atomic.Uint64    // given out last, as are the two following
	fresh  atomic.Uint64    // of node ids
	fh     atomic.Uint64    // of handles
	used   [4]atomic.Uint64 // cells of each table that have ever been taken
	init   [256]byte        // the kernel's first request
	device [64]byte         // of the mount; ends with NUL, as do the two following
	dir    [4096]byte       // as it was given
	real   [4096]byte       // without symbolic links
	wait   int64            // nanoseconds that the kernel waits for an answer; 0 for ever
}

var _ [headRoom - unsafe.Sizeof(stateHead{})]byte

// An entryCell says which slot a service has.
type entryCell struct {
	slot atomic.Uint64
	name [120]byte // ends with NUL
}

// A nodeCell is a node, or a text.
type nodeCell struct {
	id    atomic.Uint64
	entry uint64 // the slot of its service; 0 for a text
	what  uint64 // of a node its file, of a text its inode number
	told  atomic.Int64
	// The record that byte 0 is in, the run there, and what else byte 0 is
	// known by: see nodeCell.begins.
	seq, run, how uint64
	only          uint64        // the run selected, 0 for all
	ino           uint64        // if it is of a selection that reaches into the past; else 0
	end           atomic.Uint64 // number behind what a pass over current sees; 0 if the next is to begin
}

// A dirCell is a directory whose id is not made of what it is.
type dirCell struct {
	id      atomic.Uint64
	lookups atomic.Uint64
	entry   uint64    // the slot of its service
	path    [104]byte // of its place; ends with NUL
}

// A handleCell is an open node or text.
type handleCell struct {
	fh     atomic.Uint64
	node   uint64
	unique uint64        // of the request that has opened it
	uid    uint32        // of its user
	pid    uint32        // of who asked for SEEK_END, 0 if nobody did
	flags  atomic.Uint64 // which of at is in force, and how the handle is read
	kh     uint64
	ahead  atomic.Int64 // where the answer ends that is sent now, or was sent last
	at     [2]anchor
}

const (
	flagSecond = 1 << iota // at[1] is in force
	flagSeekEnd
	flagPolled
)

// An anchor is a place in a handle from which all others can be found.
type anchor struct {
	seq   uint64 // a record
	off   int64  // the offset at which its bytes begin
	since int64  // up to here, going back, records follow each other without a word between
	next  int64  // the offset behind what was read last: at off or behind it
	how   uint64 // run, stream open, half: see anchor.set
}

// A state is the memory, mapped. All that takes or gives cells is guarded by
// tree.mu; what is in a cell, by who guards what it is about. A nil state keeps
// nothing.
type state struct {
	*stateHead
	entries table[entryCell]
	nodes   table[nodeCell]
	handles table[handleCell]
	dirs    table[dirCell]
}

// openState maps memory of StateSize bytes. It stays mapped until the process
// ends: an answer may always be under way.
func openState(f *os.File) (*state, error) {
	mem, err := syscall.Mmap(int(f.Fd()), 0, StateSize, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("cannot map the state of the mount: %w", err)
	}
	s := &state{stateHead: (*stateHead)(unsafe.Pointer(&mem[0]))}
	s.entries.init(mem[entriesAt:nodesAt], &s.used[0])
	s.nodes.init(mem[nodesAt:handlesAt], &s.used[1])
	s.handles.init(mem[handlesAt:dirsAt], &s.used[2])
	s.dirs.init(mem[dirsAt:], &s.used[3])
	return s, nil
}

var errUnknownState = errors.New("the state of the mount has an unknown format")

// begin makes it the state of a mount. The magic comes last.
func (s *state) begin(init []byte, device, dir, real string, wait int64) error {
	if len(init) > len(s.init) || len(device) >= len(s.device) || len(dir) >= len(s.dir) || len(real) >= len(s.real) {
		return errors.New("no room in the state of the mount")
	}
	copy(s.init[:], init)
	copy(s.device[:], device)
	copy(s.dir[:], dir)
	copy(s.real[:], real)
	s.wait = wait
	s.slot.Store(0)
	copy(s.magic[:], stateMagic)
	return nil
}

// check says why nobody can go on with the mount of this state.
func (s *state) check() error {
	for _, t := range []struct{ used, size uint64 }{
		{s.used[0].Load(), maxEntryCells}, {s.used[1].Load(), maxNodeCells}, {s.used[2].Load(), maxHandleCells},
		{s.used[3].Load(), maxDirCells},
	} {
		if t.used > t.size {
			return errUnknownState
		}
	}
	if string(s.magic[:]) != stateMagic {
		return errUnknownState
	}
	return nil
}

// upToNUL is what is before the NUL.
func upToNUL(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}

// A table is cells of one kind.
type table[T any] struct {
	cells []T
	used  *atomic.Uint64
	free  []*T // of those used
}

func (t *table[T]) init(mem []byte, used *atomic.Uint64) {
	n := len(mem) / int(unsafe.Sizeof(*new(T)))
	t.cells, t.used = unsafe.Slice((*T)(unsafe.Pointer(&mem[0])), n), used
}

// all returns the cells that may be taken.
func (t *table[T]) all() []T { return t.cells[:t.used.Load()] }

// take returns a free cell, nil if there is none.
func (t *table[T]) take() *T {
	if last := len(t.free) - 1; last >= 0 {
		c := t.free[last]
		t.free = t.free[:last]
		return c
	}
	n := t.used.Load()
	if n >= uint64(len(t.cells)) {
		return nil
	}
	t.used.Store(n + 1)
	return &t.cells[n]
}

// give takes a cell back whose first word has been set to 0.
func (t *table[T]) give(c *T) { t.free = append(t.free, c) }
