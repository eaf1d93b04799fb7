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
// A nil Hold is one that keeps nothing. All methods may be called from any
// goroutine.
type Hold struct {
	mu       sync.Mutex      // guards the following
	mem      []byte          // nil after Close
	r, w     int             // the pipe
	note     note            // the one in force, or about to be
	reach    [streams]uint64 // where the batch ends that is being handed on
	skip     uint64          // pieces of the first batch that are in the files already
	starting uint64          // the run of the next start mark
	again    int             // batches at the end of the note's that are to be stored again
}

// A note is what the memory says beside the bytes. There are two, and one word
// that says which is in force: so a note changes in one step, or not at all.
type note struct {
	Run     uint64 // 0 before its start mark
	Began   int64  // Unix time in ns
	Ended   uint64 // 1 when its exit mark is in the files
	Given   uint64 // the number after the last one given to a record
	Mover   uint64 // the Stream whose bytes may be in the pipe
	Spans   [streams]span
	Count   uint64 // of Batches
	Batches [maxBatches]batch
}

var _ [noteRoom - unsafe.Sizeof(note{})]byte
var _ [holdHead - noteAt - 2*noteRoom]byte

// A span is the bytes of one stream that are not in the files, as places in
// its room.
type span struct {
	Start, End uint64
	Expect     uint64 // End when what is in the pipe has been read
}

// A batch is records that have the numbers First to Next-1 and are not known to
// be in the files. Those of one stream follow each other from Start on; this one
// ends at Taken.
type batch struct {
	First, Next uint64
	Doing       Doing
	Taken       uint64 // of a start mark: the run
}

// maxBatches is how many batches are kept that wait for a disk.
const maxBatches = 32

// Doing is what is being stored.
type Doing uint64

const (
	OutLines  Doing = Doing(Stdout)
	ErrLines  Doing = Doing(Stderr)
	StartMark Doing = 3
	ExitMark  Doing = 4
	LostMark  Doing = 5
)

func (d Doing) lines() bool { return d == OutLines || d == ErrLines }

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
	for _, s := range h.slot(h.active().Load()).Spans {
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
	for i := range h.note.Spans {
		if s := &h.note.Spans[i]; s.Start > s.End || s.End > s.Expect || s.Expect > holdRoom {
			return errContradiction
		}
	}
	if h.note.Mover > streams || h.note.Count > maxBatches {
		return errContradiction
	}
	for _, b := range h.batches() {
		if b.First > b.Next || b.Doing == 0 || b.Doing > LostMark ||
			b.Doing.lines() && b.Taken > h.note.Spans[b.Doing-1].End {
			return errContradiction
		}
	}
	return h.finishMove()
}

var errContradiction = errors.New("memory that contradicts itself")

func (h *Hold) batches() []batch { return h.note.Batches[:h.note.Count] }

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
	if s.Expect > s.End {
		s.End = max(s.End, s.Expect-min(s.Expect, uint64(left)))
	}
	s.Expect = s.End + uint64(left)
	h.flip()
	return h.drain(Stream(h.note.Mover))
}

func (h *Hold) active() *atomic.Uint32 { return (*atomic.Uint32)(unsafe.Pointer(&h.mem[16])) }

func (h *Hold) slot(i uint32) *note {
	return (*note)(unsafe.Pointer(&h.mem[noteAt+int(i&1)*noteRoom]))
}

// flip puts the note in force.
func (h *Hold) flip() {
	next := h.active().Load() ^ 1
	*h.slot(next) = h.note
	h.active().Store(next)
}

func (h *Hold) room(s Stream) []byte {
	from := holdHead + int(s-1)*holdRoom
	return h.mem[from : from+holdRoom]
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

// errNoSplice says that an input cannot be moved, only read.
var errNoSplice = errors.New("cannot splice")

// errFull cannot happen while lines are taken before more is read.
var errFull = errors.New("no room to hold lines")

// read moves what fd holds into the room of s and returns it. No bytes are the
// end of the input; the error is unix.EAGAIN if there is nothing.
func (h *Hold) read(s Stream, fd int) ([]byte, error) {
	h.begin(s)
	room := h.makeRoom(s)
	if room == 0 {
		return nil, errFull
	}
	n, err := unix.Splice(fd, nil, h.w, nil, room, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return nil, unix.EAGAIN
	case err != nil:
		return nil, errNoSplice
	case n == 0:
		return nil, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	span := &h.note.Spans[s-1]
	from := span.End
	span.Expect = span.End + uint64(n)
	h.flip()
	if err := h.drain(s); err != nil {
		return nil, err
	}
	return h.room(s)[from:span.End], nil
}

// begin notes whose bytes the pipe gets.
func (h *Hold) begin(s Stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.note.Mover != uint64(s) {
		h.note.Mover = uint64(s)
		h.flip()
	}
}

// drain reads the pipe up to what is expected.
func (h *Hold) drain(s Stream) error {
	span := &h.note.Spans[s-1]
	for span.End < span.Expect {
		n, err := unix.Read(h.r, h.room(s)[span.End:span.Expect])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("cannot read the pipe that holds lines: %w", err)
		case n <= 0:
			return errors.New("cannot read the pipe that holds lines: it is empty")
		default:
			span.End += uint64(n)
		}
	}
	return nil
}

// makeRoom moves what is needed to the front, where that overwrites nothing, and
// returns how much may be read. When the room is full of lines that wait for a
// disk, the oldest are given up here.
func (h *Hold) makeRoom(s Stream) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	span := &h.note.Spans[s-1]
	for {
		n := span.End - span.Start
		if n == 0 || span.End > holdWarm && n <= span.Start {
			h.toFront(s)
		}
		if room := holdRoom - int(span.End); room >= readSize/4 || h.note.Count == 0 {
			return min(readSize, room)
		}
		h.pop()
		h.flip()
	}
}

func (h *Hold) toFront(s Stream) {
	span := &h.note.Spans[s-1]
	if span.Start == 0 {
		return
	}
	room := h.room(s)
	back := span.Start
	copy(room, room[back:span.End])
	span.Start, span.End, span.Expect = 0, span.End-back, span.End-back
	for i, b := range h.batches() {
		if b.Doing == Doing(s) {
			h.note.Batches[i].Taken -= back
		}
	}
	h.flip()
}

// pop takes the first batch for stored.
func (h *Hold) pop() {
	switch b := h.note.Batches[0]; b.Doing {
	case StartMark:
		h.note.Run = b.Taken
	case ExitMark:
		h.note.Ended = 1
	case OutLines, ErrLines:
		h.note.Spans[b.Doing-1].Start = b.Taken
	}
	h.remove(0)
}

func (h *Hold) remove(i int) {
	copy(h.note.Batches[i:], h.batches()[i+1:])
	h.note.Count--
	h.again = min(h.again, int(h.note.Count))
}

// add takes bytes, at most as many as makeRoom has said, that were read without
// the pipe.
func (h *Hold) add(s Stream, text []byte) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	span := &h.note.Spans[s-1]
	from := span.End
	span.End += uint64(copy(h.room(s)[from:], text))
	span.Expect = span.End
	h.flip()
	return h.room(s)[from:span.End]
}

// held returns the bytes that a dead process has left.
func (h *Hold) held(s Stream) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	span := &h.note.Spans[s-1]
	return h.room(s)[span.Start:span.End]
}

// A retake is pieces that have to be handed on together, because they had their
// numbers before other lines.
type retake struct {
	stream Stream
	pieces uint64
	skip   uint64 // pieces before them that are in the files already
}

// retakes returns what is to be stored again, in order.
func (h *Hold) retakes() (list []retake) {
	h.mu.Lock()
	defer h.mu.Unlock()
	skip := h.skip
	for _, b := range h.batches()[int(h.note.Count)-h.again:] {
		list = append(list, retake{Stream(b.Doing), b.Next - b.First - skip, skip})
		skip = 0
	}
	return list
}

// skipped notes that the first pieces of the first batch are in the files.
func (h *Hold) skipped(bytes int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := &h.note.Batches[int(h.note.Count)-h.again]
	h.note.Spans[b.Doing-1].Start += uint64(bytes)
	b.First += h.skip
	h.skip = 0
	h.flip()
}

// took notes that the batch about to be handed on ends rest bytes before the
// end of what was read.
func (h *Hold) took(s Stream, rest int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reach[s-1] = h.note.Spans[s-1].End - uint64(rest)
}

// grow gives the pipe the size of a hot input.
func (h *Hold) grow() {
	if h.lock() {
		unix.FcntlInt(uintptr(h.w), unix.F_SETPIPE_SZ, hotPipe)
		h.mu.Unlock()
	}
}

// cool gives memory back that only a busy stream needs.
func (h *Hold) cool() {
	if !h.lock() {
		return
	}
	defer h.mu.Unlock()
	for i := range h.note.Spans {
		span := &h.note.Spans[i]
		if span.End <= holdWarm || span.Start < span.End {
			continue
		}
		room := h.room(Stream(i + 1))
		h.toFront(Stream(i + 1))
		_ = unix.Madvise(room[holdWarm:], unix.MADV_REMOVE) // costs memory only
	}
}

// Begin notes that the records first to next-1 are about to be stored. If they
// are not the whole batch that was handed on, rest is what comes behind them.
func (h *Hold) Begin(what Doing, first, next uint64, rest []Piece) {
	if !h.lock() {
		return
	}
	defer h.mu.Unlock()
	b := batch{First: first, Next: next, Doing: what}
	switch what {
	case StartMark:
		b.Taken = h.starting
	case OutLines, ErrLines:
		b.Taken = h.reach[what-1] - uint64(length(rest))
	}
	if !h.extend(b) {
		h.insert(b)
	}
	h.note.Given = next
	h.flip()
}

// extend makes lines part of the batch before them, while that is small: then
// many small ones need no room when they wait.
func (h *Hold) extend(b batch) bool {
	last := int(h.note.Count) - 1
	if last < 0 || h.again > 0 || !b.Doing.lines() {
		return false
	}
	before := &h.note.Batches[last]
	if before.Doing != b.Doing || before.Next != b.First || b.Taken-h.start(last) > holdWarm {
		return false
	}
	before.Next, before.Taken = b.Next, b.Taken
	return true
}

// start is where the lines of a batch begin.
func (h *Hold) start(i int) uint64 {
	doing := h.note.Batches[i].Doing
	for i--; i >= 0; i-- {
		if h.note.Batches[i].Doing == doing {
			return h.note.Batches[i].Taken
		}
	}
	return h.note.Spans[doing-1].Start
}

// insert puts b before the batches that are to be stored again, in the place of
// the one it is, and has those be numbered behind it.
func (h *Hold) insert(b batch) {
	if h.note.Count == maxBatches {
		h.pop()
	}
	for b.Doing.lines() && h.again > 0 {
		// What comes now, comes first. Another that should have come first has an
		// end that is not known yet.
		first := int(h.note.Count) - h.again
		same := h.note.Batches[first].Doing == b.Doing
		h.remove(first)
		h.again = int(h.note.Count) - first
		if same {
			break
		}
	}
	at := int(h.note.Count) - h.again
	copy(h.note.Batches[at+1:], h.batches()[at:])
	h.note.Batches[at] = b
	h.note.Count++
	for i := at + 1; i < int(h.note.Count); i++ {
		later, from := &h.note.Batches[i], h.note.Batches[i-1].Next
		if later.First < from {
			later.First, later.Next = from, from+later.Next-later.First
		}
	}
}

// Stored notes that the files have all records before the number next.
func (h *Hold) Stored(next uint64) {
	if !h.lock() {
		return
	}
	defer h.mu.Unlock()
	before := h.note.Count
	for int(h.note.Count) > h.again && h.note.Batches[0].Next <= next {
		h.pop()
	}
	if h.note.Count != before {
		h.flip()
	}
}

// Starting says which run the next start mark begins, and when: Unix time in ns.
func (h *Hold) Starting(run uint64, began int64) {
	if !h.lock() {
		return
	}
	defer h.mu.Unlock()
	h.starting, h.note.Began = run, began
}

// Held is what Recover has found.
type Held struct {
	Run   uint64 // 0: it has not begun
	Began int64  // Unix time in ns, 0 if that died with the process
	Ended bool
	Lost  uint64 // records that got numbers and are not in the files
}

// Recover compares the note with the files, whose next number and present run
// are given, and has the inputs go on where these end. The lost records are
// those from next on; they must have got their mark before lines are taken.
func (h *Hold) Recover(next, run uint64) Held {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := &h.note
	if n.Run != 0 && n.Run < run {
		n.Given = next // somebody else has used the numbers since
	}
	for n.Count > 0 && n.Batches[0].Next <= next {
		h.pop()
	}
	lost := h.forget(next)
	h.flip()
	return Held{Run: n.Run, Began: n.Began, Ended: n.Ended == 1, Lost: lost}
}

// forget leaves the batches of lines that are to be stored again, numbered as
// they will be, and counts the numbers before them that are nobody's now. Marks
// are made anew by those who have made them.
func (h *Hold) forget(next uint64) (lost uint64) {
	n := &h.note
	if n.Count == 0 {
		lost = n.Given - min(next, n.Given)
	} else if first := n.Batches[0].First; first > next {
		lost = first - next
	}
	all := n.Batches
	lines := n.Batches[:0]
	for _, b := range all[:n.Count] {
		switch {
		case b.Doing.lines():
			lines = append(lines, b)
		case b.Doing == LostMark:
			lost += b.Next - max(b.First, next)
		}
	}
	n.Count, h.again = uint64(len(lines)), len(lines)
	if len(lines) > 0 && lines[0].First < next {
		h.skip = next - lines[0].First
	}
	from := next + lost
	for i := range lines {
		b := &lines[i]
		if size := b.Next - b.First; i > 0 || h.skip == 0 {
			b.First, b.Next = from, from+size
		}
		from = b.Next
	}
	n.Given = from
	return lost
}
