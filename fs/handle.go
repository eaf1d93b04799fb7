package fs

import (
	"bytes"
	"sync"
	"time"

	"logfs/ring"
	"logfs/ring/record"
)

// A handle is one open of a node.
type handle struct {
	n *node

	mu   sync.Mutex // guards all below
	base int64      // absolute position of the handle's byte 0
	at   pos        // the record that what was read last ended in, or before
	next int64      // offset behind what was read last
	half bool       // what was read last did not end a line

	// A reader who lost lines is told so in his own bytes: told stands at
	// offset toldAt, and base counts for what is behind it. Offsets before
	// toldAt are those of lost lines.
	told      []byte
	toldAt    int64
	toldFirst uint64 // the first number of the last mark in told

	// hold keeps the block that a read begins in, so that a mark comes with
	// lines behind it, however fast the ring drops. Only during read.
	hold ring.Chunk
	held bool

	seekEnd bool   // SEEK_END was asked: reads as pollers do
	polled  bool   // poll was asked: reads as event loops do
	kh      uint64 // what the kernel calls the handle in poll, once polled
}

func newHandle(n *node) *handle {
	n.open()
	if n.kind == follow {
		n.e.readers.Add(1)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return &handle{n: n, base: n.base, at: n.start}
}

// close lets go of what the handle holds. No request of it is left.
func (h *handle) close() {
	if h.n.kind == follow {
		h.n.e.readers.Add(-1)
		h.n.e.unwatch(h)
	}
	h.n.close()
}

// readFrozen is READ of current and seq: the state that the pass began with.
func (h *handle) readFrozen(dst []byte, off int64) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	limit := h.n.limit()
	n := h.read(dst, off, limit, false)
	if n == 0 {
		h.n.atEnd()
	}
	return n
}

// read fills dst from offset off, up to the absolute position limit, and
// returns how many bytes that were: 0 at the end. whole asks to end with a
// line if one fits. The caller holds mu.
func (h *handle) read(dst []byte, off, limit int64, whole bool) int {
	defer h.letGo()
	at := max(off, h.toldEnd()) + h.base
	if off < h.toldAt || at < limit && !h.find(at) {
		// Full reads are for those whose offsets still mean something.
		limit, whole = max(limit, h.lose(off)), h.n.kind == follow
	}
	if whole && h.tooSmall(dst, off, limit) {
		return 0
	}
	n := h.fill(dst, off, limit, whole)
	if n > 0 {
		h.next, h.half = off+int64(n), dst[n-1] != '\n'
	}
	return n
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

func (h *handle) toldEnd() int64 { return h.toldAt + int64(len(h.told)) }

// find moves at to the record that holds the absolute position abs, or some
// records before it. It returns false if that is gone.
func (h *handle) find(abs int64) bool {
	const near = 256 << 10
	if h.at.off <= abs && abs-h.at.off < near {
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

// fill copies what the reader was told of lost lines, and then lines.
func (h *handle) fill(dst []byte, off, limit int64, whole bool) (n int) {
	if i := off - h.toldAt; i >= 0 && off < h.toldEnd() {
		n = copy(dst, h.told[i:])
	}
	for n < len(dst) && h.at.off < limit {
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
		n, more = h.copyLines(dst, n, off, limit, whole, c.Data)
		c.Release()
		if !more {
			return n
		}
	}
	return n
}

// copyLines copies from one block; more says that the block ended before dst
// and limit did.
func (h *handle) copyLines(dst []byte, n int, off, limit int64, whole bool, data []byte) (_ int, more bool) {
	l := &h.n.v.layout
	s := record.Scanner{Buf: data[h.at.Off:], Seq: h.at.Seq, Run: h.at.Run}
	for h.at.off < limit {
		left := len(s.Buf)
		rec, ok := s.Next()
		if !ok {
			return n, true
		}
		size := l.size(h.at.open, &rec)
		skip := int(off + int64(n) + h.base - h.at.off) // bytes of rec before what is asked
		if skip < size {
			if whole && n > 0 && n+size-skip > len(dst) {
				return n, false
			}
			n += copyLine(dst[n:], l, h.at.open, &rec, size, skip)
			if n == len(dst) && int64(n)+off+h.base < h.at.off+int64(size) {
				return n, false
			}
		}
		h.at.step(l, &rec, left-len(s.Buf))
		if n == len(dst) {
			return n, false
		}
	}
	return n, false
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
// he has lost lines that says nothing about where lines end, and what he
// leaves unread he asks for again. Others have to live with broken lines.
func (h *handle) tooSmall(dst []byte, off, limit int64) bool {
	const small = 4096
	if !h.seekEnd || h.half || len(h.told) == 0 || len(dst) >= small {
		return false
	}
	var line [small]byte
	n := h.peek(line[:], off, limit)
	return n > len(dst) && bytes.IndexByte(line[:len(dst)], '\n') < 0
}

// peek is fill without moving.
func (h *handle) peek(dst []byte, off, limit int64) int {
	at := h.at
	defer func() { h.at = at }()
	return h.fill(dst, off, limit, true)
}

// lose moves a reader whose lines are gone, and puts a mark that says so
// where he reads next. He lands a quarter of what is held ahead, at the start
// of a line: at the oldest record he would be overtaken again before his next
// read. It returns the end of the view.
func (h *handle) lose(off int64) int64 {
	v := h.n.v
	first := h.at.Seq
	switch {
	case off < h.toldAt || h.at.off > off+h.base && off >= h.toldEnd():
		first, h.told = h.n.start.Seq, h.told[:0]
	case off == h.toldAt && len(h.told) > 0:
		first, h.told = h.toldFirst, h.told[:0] // he has not read that yet: it becomes one mark
	case off < h.toldEnd():
		h.told = append([]byte(nil), h.told[off-h.toldAt:]...) // nor the rest of this one
	default:
		h.told = h.told[:0]
	}
	h.letGo()
	land, end := pos{}, int64(0)
	land, end, h.hold, h.held = v.land()
	if h.half && len(h.told) == 0 && v.form != formBytes {
		h.told = append(h.told, '\n')
	}
	h.toldAt, h.toldFirst = off, first
	if counted := max(first, h.at.Seq); land.Seq > counted {
		h.n.e.readerLost.Add(land.Seq - counted)
	}
	if land.Seq > first {
		if v.form == formSeq || v.form == formText && v.marks {
			rec := record.Lost(record.Stamp(time.Now().UnixNano()), land.Run, first, land.Seq-1)
			h.told = v.write(h.told, 0, &rec)
		}
	}
	base := land.off
	if h.held {
		base = v.base(land, h.hold)
	}
	h.at, h.base = land, base-h.toldEnd()
	return end
}
