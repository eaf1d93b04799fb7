package fs

import (
	"bytes"
	"slices"
	"sync"
	"time"

	"logfs/ring"
	"logfs/ring/record"
)

// A handle is one open of a node.
type handle struct {
	n *node

	mu   sync.Mutex // guards all below
	next int64      // offset behind what was read last
	half bool       // what was read last did not end a line

	// Offsets of a handle are those of a view, until the reader is overtaken:
	// what he gets then has other places. Each time begins a stretch.
	stretches []stretch
	cur       int // the stretch that at is in
	at        pos // the record that what was read last ended in, or before
	past      past
	parked    []*park // reads of this handle that wait

	// hold keeps the block that a read begins in, so that a mark comes with
	// lines behind it, however fast the ring drops. Only during read.
	hold ring.Chunk
	held bool

	seekEnd bool   // SEEK_END was asked: reads as pollers do
	polled  bool   // poll was asked: reads as event loops do
	kh      uint64 // what the kernel calls the handle in poll, once polled
}

// A stretch is a run of offsets that have one relation to absolute positions.
type stretch struct {
	off   int64  // where it begins
	told  []byte // what the reader is told there, before lines come
	first uint64 // the first number of the last mark in told
	base  int64  // the absolute position of offset 0, behind told
	from  pos    // the record that comes behind told
}

func (s *stretch) lines() int64 { return s.off + int64(len(s.told)) }

// maxStretches bounds what a handle remembers. Who reads backwards beyond it
// is told that he lost what is there.
const maxStretches = 32

func newHandle(n *node) *handle {
	n.open()
	if n.kind == follow {
		n.e.readers.Add(1)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return &handle{n: n, at: n.start, stretches: []stretch{{base: n.base, from: n.start}}}
}

// close lets go of what the handle holds. No request of it is left.
func (h *handle) close() {
	h.mu.Lock()
	h.past.close()
	h.mu.Unlock()
	if h.n.kind == follow {
		h.n.e.readers.Add(-1)
		h.n.e.unwatch(h)
	}
	h.n.close()
}

// abandon forgets the reads that wait: nobody can be answered any more.
func (h *handle) abandon() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range slices.Clone(h.parked) {
		p.finish()
	}
}

// A request is what one READ asks for.
type request struct {
	off   int64
	limit int64 // absolute position of the end of what there is
	// whole asks to end with a line if one fits.
	whole bool
}

// read fills dst and returns how many bytes that were: 0 at the end. load
// says that nothing can be read before lines have been loaded from disk. The
// caller holds mu.
func (h *handle) read(dst []byte, q request) (n int, load bool) {
	defer h.letGo()
	s := h.turn(q.off)
	if q.off < s.off {
		q.limit = max(q.limit, h.lose(q.off))
	}
	if h.cur < len(h.stretches)-1 {
		q.limit = h.stretches[h.cur+1].off + s.base
	}
	const tries = 3 // memory, disk, and memory again behind the lost lines
	for range tries {
		n, known := h.readMemory(dst, q)
		if known {
			return h.done(dst, q.off, n), false
		}
		if h.n.e.History != nil {
			if n, load = h.readPast(dst, q); n > 0 || load {
				return h.done(dst, q.off, n), load
			}
		}
		if !h.past.rejoined {
			// Full reads are for those whose offsets still mean something.
			q.limit, q.whole = max(q.limit, h.lose(q.off)), h.n.kind == follow
		}
		h.past.rejoined = false
	}
	return 0, false
}

// readMemory reads from the ring and what is pinned. It returns false if they
// do not have what comes next.
func (h *handle) readMemory(dst []byte, q request) (n int, known bool) {
	s := h.stretch()
	at := max(q.off, s.lines()) + s.base
	switch {
	case h.past.feeding: // the limit is the ring's, whose positions say nothing now
		return 0, false
	case at > q.limit && q.off >= s.lines():
		return 0, true
	case at < q.limit && !h.find(at):
		return 0, false
	}
	if q.whole && h.tooSmall(dst, q) {
		return 0, true
	}
	n = h.fill(dst, q)
	return n, n > 0 || h.at.off >= q.limit
}

// done notes what was read.
func (h *handle) done(dst []byte, off int64, n int) int {
	if n > 0 {
		h.next, h.half = off+int64(n), dst[n-1] != '\n'
	}
	return n
}

func (h *handle) stretch() *stretch { return &h.stretches[h.cur] }

// turn makes the stretch of offset off the one that at is in.
func (h *handle) turn(off int64) *stretch {
	i := len(h.stretches) - 1
	for i > 0 && h.stretches[i].off > off {
		i--
	}
	s := &h.stretches[i]
	if i != h.cur || h.at.off > max(off, s.lines())+s.base {
		h.cur, h.at = i, s.from
		h.past.close()
	}
	return s
}

// begin begins a new stretch at offset off, and forgets those behind it. told
// comes first and then the record at p, whose first byte is at the absolute
// position abs.
func (h *handle) begin(off int64, told []byte, first uint64, p pos, abs int64) {
	keep := len(h.stretches)
	for keep > 0 && h.stretches[keep-1].off >= off {
		keep--
	}
	h.stretches = append(h.stretches[:keep], stretch{off: off, told: told, first: first, from: p})
	if drop := len(h.stretches) - maxStretches; drop > 0 {
		h.stretches = append(h.stretches[:0], h.stretches[drop:]...)
	}
	h.cur, h.at = len(h.stretches)-1, p
	h.stretch().base = abs - h.stretch().lines()
	h.n.shift(h.stretch().base)
}

// letGo releases what hold keeps.
func (h *handle) letGo() {
	if h.held {
		h.hold.Release()
	}
	h.hold, h.held = ring.Chunk{}, false
}

// chunk returns a block for reading, pinned for the caller.
func (h *handle) chunk(id uint64) (ring.Chunk, bool) {
	if h.held && h.hold.Block == id {
		return h.hold.Again(), true
	}
	return h.n.chunk(id)
}

// find moves at to the record that holds the absolute position abs, or some
// records before it. It returns false if that is not in memory.
func (h *handle) find(abs int64) bool {
	const near = 256 << 10
	if h.at.off <= abs && abs-h.at.off < near {
		if h.held && h.hold.Block == h.at.Block {
			return true
		}
		h.letGo()
		if h.hold, h.held = h.n.chunk(h.at.Block); h.held {
			return true
		}
	}
	p, ok := h.n.find(abs)
	if ok {
		h.at = p
	}
	return ok
}

// fill copies what the reader is told, and then lines from memory.
func (h *handle) fill(dst []byte, q request) (n int) {
	n = h.fillTold(dst, q.off)
	for n < len(dst) && h.at.off < q.limit {
		c, ok := h.chunk(h.at.Block)
		if !ok {
			return n
		}
		if h.at.Off >= len(c.Data) {
			c.Release()
			if c, ok = h.chunk(h.at.Block + 1); !ok {
				return n
			}
			h.at.Cursor = ring.Cursor{Seq: c.First, Run: c.Run, Block: c.Block}
		}
		more := false
		n, _, more = h.copyLines(dst, n, q, c.Data[h.at.Off:])
		c.Release()
		if !more {
			return n
		}
	}
	return n
}

func (h *handle) fillTold(dst []byte, off int64) int {
	s := h.stretch()
	if off >= s.lines() {
		return 0
	}
	return copy(dst, s.told[off-s.off:])
}

// copyLines copies from stored lines that begin at at, and moves at. It
// returns n, now with what it copied, and what is left of lines; more says
// that they ended before dst and the limit did.
func (h *handle) copyLines(dst []byte, n int, q request, lines []byte) (_ int, rest []byte, more bool) {
	l := &h.n.v.layout
	s := record.Scanner{Buf: lines, Seq: h.at.Seq, Run: h.at.Run}
	for h.at.off < q.limit {
		before := s.Buf
		rec, ok := s.Next()
		if !ok {
			return n, nil, true
		}
		size := l.size(h.at.open, &rec)
		skip := int(q.off + int64(n) + h.stretch().base - h.at.off) // bytes of rec before what is asked
		if skip < size {
			if q.whole && n > 0 && n+size-skip > len(dst) {
				return n, before, false
			}
			got := copyLine(dst[n:], l, h.at.open, &rec, size, skip)
			if n += got; skip+got < size {
				return n, before, false
			}
		}
		h.at.step(l, &rec, len(before)-len(s.Buf))
		if n == len(dst) {
			return n, s.Buf, false
		}
	}
	return n, s.Buf, false
}

// copyLine copies a record's bytes from skip on, as far as dst goes.
func copyLine(dst []byte, l *layout, open record.Kind, rec *record.Record, size, skip int) int {
	if skip == 0 && size <= len(dst) {
		return len(l.write(dst[:0], open, rec))
	}
	return copy(dst, l.write(make([]byte, 0, size), open, rec)[skip:])
}

// tooSmall says that dst is not to be filled because it would break a line.
// A poller such as tail asks for as many bytes as the size has grown by. Once
// he has been overtaken that says nothing about where lines end, and what he
// leaves unread he asks for again. Others have to live with broken lines.
func (h *handle) tooSmall(dst []byte, q request) bool {
	const small = 4096
	if !h.seekEnd || h.half || len(h.stretches) == 1 || len(dst) >= small {
		return false
	}
	var line [small]byte
	n := h.peek(line[:], q)
	return n > len(dst) && bytes.IndexByte(line[:len(dst)], '\n') < 0
}

// peek is fill without moving.
func (h *handle) peek(dst []byte, q request) int {
	at := h.at
	defer func() { h.at = at }()
	return h.fill(dst, q)
}

// lose moves a reader whose lines are gone, and puts a mark that says so
// where he reads next. He lands a quarter of what is held ahead, at the start
// of a line: at the oldest record he would be overtaken again before his next
// read. It returns the end of the view.
func (h *handle) lose(off int64) int64 {
	v := h.n.v
	h.past.close()
	h.letGo()
	land, end := pos{}, int64(0)
	land, end, h.hold, h.held = v.land()
	abs := land.off
	var next []byte
	if h.held {
		abs, next = v.base(land, h.hold), h.hold.Data[land.Off:]
	}
	told, first := h.unread(off)
	h.begin(off, h.tell(told, first, land, next), first, land, abs)
	return end
}

// unread returns what the reader has not read yet of what he was told, and
// the first number he has not been told of.
func (h *handle) unread(off int64) (told []byte, first uint64) {
	s := h.stretch()
	switch {
	case off == s.off && len(s.told) > 0:
		return nil, s.first // nothing of it: it becomes one mark with the next
	case off > s.off && off < s.lines():
		return append([]byte(nil), s.told[off-s.off:]...), h.at.Seq
	case off < s.off || h.at.off > off+s.base:
		return nil, s.from.Seq
	}
	return nil, h.at.Seq
}

// tell appends to told that the numbers from first to land are lost. next is
// stored lines that begin with the record at land: the mark is older than it.
func (h *handle) tell(told []byte, first uint64, land pos, next []byte) []byte {
	stamp, ok := record.ParseStamp(next)
	if !ok {
		stamp = record.Stamp(time.Now().UnixNano())
	}
	v := h.n.v
	if h.half && len(told) == 0 && v.form != formBytes {
		told = append(told, '\n')
	}
	if counted := max(first, h.at.Seq); land.Seq > counted {
		h.n.e.readerLost.Add(land.Seq - counted)
	}
	if land.Seq > first && (v.form == formSeq || v.form == formText && v.marks) {
		rec := record.Lost(stamp-1, land.Run, first, land.Seq-1)
		told = v.write(told, 0, &rec)
	}
	return told
}
