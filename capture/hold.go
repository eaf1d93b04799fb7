package capture

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	holdMagic = "logfs\x00h1"
	holdHead  = 4 << 10
	// holdRoom is the room of one stream: what is not used takes no memory.
	// It holds a read and the longest unfinished line several times.
	holdRoom = 1 << 20
	holdSize = holdHead + streams*holdRoom
	// The notes are behind the word that says which is in force.
	noteAt, noteRoom = 64, 1984
	// holdWarm is how much of it an idle stream keeps.
	holdWarm = 64 << 10
	// heldLimit bounds the line limit of a run that has a Hold, so that a line has
	// room beside a read, wherever it stands.
	heldLimit = 256 << 10

	streams = 2
)

// A Hold keeps what was read from the inputs of one run and is not in the files
// yet, so that the death of this process loses and repeats nothing: its memory
// and a pipe, whose descriptors another process has open too.
//
// A read moves bytes from the input into the pipe, which takes no copy, notes
// that, and reads them from there into the memory. Nobody else reads the pipe,
// so how much it still holds tells how far a dead process came. Before lines
// are written, their numbers are noted; after that, that they are not needed
// any more. The next process compares the numbers with those in the files.
//
// The other process may be anybody's: it can spoil what is captured from it, and
// nothing else.
//
// A nil Hold is one that keeps nothing. All methods may be called from any
// goroutine.
type Hold struct {
	mu       sync.Mutex      // guards the following
	mem      []byte          // nil after Close
	r, w     int             // the pipe
	note     note            // the one in force, or about to be
	noted    [streams]uint64 // End in the one in force
	reach    [streams]uint64 // where the batch ends that is being handed on
	starting uint64          // the run of the next start mark
	again    int             // batches at the end of the note's that are to be stored again
	last     bool            // no other process will go on with the run
}

// A note is what the memory says beside the bytes. There are two, and one word
// that says which is in force: so a note changes in one step, or not at all.
type note struct {
	Run     uint64 // 0 before its start mark
	Began   int64  // Unix time in ns
	Ended   uint64 // 1 when its exit mark is in the files
	Given   uint64 // the number after the last one given to a record
	Limit   uint64 // of a line, 0 before the first is read
	Mover   uint64 // the Stream whose bytes may be in the pipe
	Spans   [streams]span
	Count   uint64 // of Batches
	Batches [maxBatches + maxMarks]batch
}

var _ [noteRoom - unsafe.Sizeof(note{})]byte
var _ [holdHead - noteAt - 2*noteRoom]byte

// A span is the bytes of one stream that are not in the files, as places in
// its room.
type span struct {
	Start, End uint64
	Expect     uint64 // End when what is in the pipe has been read
}

// end is where a span ends in the memory, with so many bytes left in the pipe.
func (s *span) end(left uint64) uint64 { return max(s.End, s.Expect-min(s.Expect, left)) }

// NewHold makes the descriptors of a Hold, for somebody who keeps them open and
// passes them on to who opens it.
func NewHold() ([]*os.File, error) {
	fd, err := newMemory()
	if err != nil {
		return nil, fmt.Errorf("cannot make memory to hold lines: %w", err)
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot make a pipe to hold lines: %w", err)
	}
	return []*os.File{file(fd), file(pipe[0]), file(pipe[1])}, nil
}

func file(fd int) *os.File { return os.NewFile(uintptr(fd), "hold") }

// HoldFiles is how many descriptors a Hold has.
const HoldFiles = 3

// Waiting returns how many bytes of a run are in no file: in the Hold of these
// descriptors, and in its inputs, as far as these tell. The process that has
// opened the Hold must be gone.
func Waiting(hold, inputs []*os.File) (n int) {
	for _, f := range append(inputs[:len(inputs):len(inputs)], hold[1]) {
		if in, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCINQ); err == nil {
			n += in
		}
	}
	mem, err := mapMemory(int(hold[0].Fd()))
	if err != nil {
		return n
	}
	defer unix.Munmap(mem)
	h := &Hold{mem: mem}
	left, _ := unix.IoctlGetInt(int(hold[1].Fd()), unix.TIOCINQ)
	note := h.slot(h.active().Load())
	for i, s := range note.Spans {
		if uint64(i+1) == note.Mover {
			s.End = s.end(uint64(left))
		}
		n += int(s.End - s.Start)
	}
	return n
}

func newMemory() (int, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("logfs-hold", flags|unix.MFD_NOEXEC_SEAL)
	if err == unix.EINVAL { // before Linux 6.3
		fd, err = unix.MemfdCreate("logfs-hold", flags)
	}
	if err != nil {
		return -1, err
	}
	if err = unix.Ftruncate(fd, holdSize); err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, holdSeals)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// holdSeals keep everybody from taking memory away that is mapped here.
const holdSeals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW

// OpenHold opens the Hold of these descriptors, which it owns from now on.
func OpenHold(files []*os.File) (*Hold, error) {
	defer closeFiles(files)
	h, err := openHold(files)
	if err != nil {
		h.Close()
		return nil, fmt.Errorf("cannot open what holds the lines: %w", err)
	}
	return h, nil
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

func openHold(files []*os.File) (*Hold, error) {
	if len(files) != HoldFiles {
		return nil, fmt.Errorf("%d descriptors: want %d", len(files), HoldFiles)
	}
	mem, err := mapMemory(int(files[0].Fd()))
	if err != nil {
		return nil, err
	}
	h := &Hold{mem: mem, r: -1, w: -1}
	if h.r, err = own(files[1]); err != nil {
		return h, err
	}
	if h.w, err = own(files[2]); err != nil {
		return h, err
	}
	// Others have the pipe too. If one of them empties it, nobody is to wait here.
	if err := unix.SetNonblock(h.r, true); err != nil {
		return h, err
	}
	return h, h.load()
}

func mapMemory(fd int) ([]byte, error) {
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil || seals&holdSeals != holdSeals {
		return nil, errors.New("the first descriptor is no sealed memory")
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Size != holdSize {
		return nil, fmt.Errorf("memory of %d bytes: want %d", st.Size, holdSize)
	}
	return unix.Mmap(fd, 0, holdSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

// load reads the note in force, and what a dead process has left in the pipe.
func (h *Hold) load() error {
	if h.mem[0] == 0 {
		copy(h.mem, holdMagic)
	}
	if string(h.mem[:len(holdMagic)]) != holdMagic {
		return errors.New("memory of an unknown format")
	}
	h.note = *h.slot(h.active().Load())
	if !h.note.sound() {
		return errContradiction
	}
	return h.finishMove()
}

var errContradiction = errors.New("memory that contradicts itself")

// maxNumber is more than any log comes to.
const maxNumber = 1 << 60

// sound says whether a process of ours can have written n.
func (n *note) sound() bool {
	if n.Mover > streams || n.Count > uint64(len(n.Batches)) || n.Given > maxNumber || n.Limit > heldLimit {
		return false
	}
	var taken [streams]uint64
	for i, s := range n.Spans {
		if s.Start > s.End || s.End > s.Expect || s.Expect > holdRoom {
			return false
		}
		taken[i] = s.Start
	}
	from := uint64(1)
	for _, b := range n.Batches[:n.Count] {
		if b.First < from || b.Next <= b.First || b.Doing == 0 || b.Doing > LostMark {
			return false
		}
		from = b.Next
		if !b.Doing.lines() {
			continue
		}
		if b.Taken < taken[b.Doing-1] || b.Taken > n.Spans[b.Doing-1].End {
			return false
		}
		taken[b.Doing-1] = b.Taken
	}
	return from <= max(n.Given, 1)
}

// finishMove completes a read during which the process before died.
func (h *Hold) finishMove() error {
	if h.note.Mover == 0 {
		return nil
	}
	left, err := unix.IoctlGetInt(h.r, unix.TIOCINQ)
	if err != nil {
		return err
	}
	s := &h.note.Spans[h.note.Mover-1]
	if uint64(left) > holdRoom-s.End {
		return errors.New("pipe that contradicts its memory")
	}
	s.End = s.end(uint64(left))
	s.Expect = s.End + uint64(left)
	h.flip()
	return h.drain(Stream(h.note.Mover))
}

func (h *Hold) active() *atomic.Uint32 { return (*atomic.Uint32)(unsafe.Pointer(&h.mem[16])) }

func (h *Hold) slot(i uint32) *note {
	return (*note)(unsafe.Pointer(&h.mem[noteAt+int(i&1)*noteRoom]))
}

// flip puts the note in force: as much of it as is used.
func (h *Hold) flip() {
	h.step("flip")
	next := h.active().Load() ^ 1
	used := unsafe.Offsetof(h.note.Batches) + uintptr(h.note.Count)*unsafe.Sizeof(batch{})
	copy(h.mem[noteAt+int(next&1)*noteRoom:], unsafe.Slice((*byte)(unsafe.Pointer(&h.note)), used))
	h.active().Store(next)
	for i := range h.noted {
		h.noted[i] = h.note.Spans[i].End
	}
	h.step("flipped")
}

// atStep, in tests, is called between any two steps after which a kill leaves
// something else.
var atStep func(h *Hold, what string)

func (h *Hold) step(what string) {
	if atStep != nil {
		atStep(h, what)
	}
}

// Close lets go of the memory here; whoever else has it keeps it.
func (h *Hold) Close() {
	if !h.lock() {
		return
	}
	defer h.mu.Unlock()
	unix.Munmap(h.mem)
	h.mem = nil
	unix.Close(h.r)
	unix.Close(h.w)
}

// lock locks a Hold that there is, and returns false for one that keeps
// nothing.
func (h *Hold) lock() bool {
	if h == nil {
		return false
	}
	h.mu.Lock()
	open := h.mem != nil
	if !open {
		h.mu.Unlock()
	}
	return open
}

// Last says that the command of the run has ended: no other process will go on
// with what its children still write.
func (h *Hold) Last() {
	if h.lock() {
		h.last = true
		h.mu.Unlock()
	}
}

func (h *Hold) isLast() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}

// limit is the line limit in force: that of the process before, because this one
// counts the pieces of its batches, or the one given.
func (h *Hold) limit(limit int) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.note.Limit == 0 {
		if limit <= 0 {
			limit = DefaultLimit
		}
		h.note.Limit = uint64(min(limit, heldLimit))
	}
	return int(h.note.Limit)
}

// relimit sets another limit, and returns false while there are batches that were
// cut by the one before.
func (h *Hold) relimit(limit int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.note.Count > 0 {
		return false
	}
	h.note.Limit = uint64(limit)
	return true
}
