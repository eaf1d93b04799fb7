package fs

import (
	"errors"
	"io"
	"math"

	"logfs/ring"
	"logfs/ring/record"
)

// A History gives back records that the ring has dropped. Its methods may
// wait for the disk; they are never called while a lock is held.
type History interface {
	// From returns a reader that begins with the first record there still is
	// whose number is seq or greater.
	From(seq uint64) (HistoryReader, error)
}

// A HistoryReader reads records in order. One caller at a time.
type HistoryReader interface {
	// Next returns whole stored lines that follow those before, about as many
	// as fit into buf, with the number of the first and the run in force
	// there. A number that is greater than was due says that what lies between
	// is not to be had. At the end of what there is now it returns io.EOF.
	Next(buf []byte) (first, run uint64, lines []byte, err error)
	Close() error
}

// past is how a handle is fed from disk, from the moment it is overtaken
// until it has caught up. It holds no block of the ring.
type past struct {
	feeding  bool
	rejoined bool // the reader was just put back into the ring
	loading  bool // a goroutine has reader and buf; guarded by handle.mu like all else
	closed   bool // the loading goroutine is to close reader

	reader     HistoryReader
	buf        []byte
	first, run uint64 // of lines
	lines      []byte // loaded and not yet read
	err        error  // of the last load: io.EOF at the end
}

// pastBuffer is how much of the disk is read at once.
const pastBuffer = 32 << 10

// close ends the feeding. The caller holds handle.mu.
func (p *past) close() {
	switch {
	case p.loading:
		p.feeding, p.closed = false, true
		return
	case p.reader != nil:
		_ = p.reader.Close() // it was only read from
	}
	*p = past{}
}

// readPast reads from what was loaded. load says that more has to be loaded
// first; without it and with n 0 the disk has no more than the ring, and the
// reader has been put back there.
func (h *handle) readPast(dst []byte, q request) (n int, load bool) {
	p := &h.past
	if p.loading {
		return 0, true
	}
	if !p.feeding {
		p.feeding = true
		return 0, true
	}
	n = h.fillTold(dst, q.off)
	if h.cur == len(h.stretches)-1 {
		q.limit = math.MaxInt64 // of the ring, whose positions say nothing here
	}
	if len(p.lines) > 0 && p.first > h.at.Seq {
		if n > 0 {
			return n, false
		}
		h.skipDeleted(q.off)
		n = h.fillTold(dst, q.off)
	}
	if len(p.lines) > 0 && n < len(dst) {
		n, p.lines, _ = h.copyLines(dst, n, q, p.lines)
		p.first = h.at.Seq
	}
	if n > 0 {
		return n, false
	}
	if (p.err != nil || h.caughtUp()) && h.rejoin(q.off) {
		return 0, false
	}
	if p.err != nil {
		if !errors.Is(p.err, io.EOF) {
			h.n.e.fs.dev.log.Warn("cannot read a reader's lines from disk", "service", h.n.e.Name, "err", p.err)
		}
		p.close()
		return 0, false
	}
	return 0, true
}

// skipDeleted tells the reader what retention has deleted before he read it.
func (h *handle) skipDeleted(off int64) {
	land := pos{Cursor: ring.Cursor{Seq: h.past.first, Run: h.past.run}, off: h.at.off}
	told, first := h.unread(off)
	h.begin(off, h.tell(told, first, land), first, land, land.off)
}

// caughtUp says that the ring has what comes next, with some room before it
// drops it.
func (h *handle) caughtUp() bool {
	first, next := h.n.v.ring.Bounds()
	return h.at.Seq >= first+(next-first)/4
}

// rejoin puts a reader who stands before a record back into the ring. It
// returns false if the ring does not have that record.
func (h *handle) rejoin(off int64) bool {
	v := h.n.v
	p, c, ok := v.seek(h.at.Seq)
	if !ok {
		return false
	}
	abs := p.off
	var told []byte
	if c != nil {
		abs = v.base(p, *c)
		if h.at.open != 0 && v.breaksAt(h.at.open, p, *c) {
			told = []byte{'\n'}
		}
		c.Release()
	}
	h.past.close()
	h.past.rejoined = true
	h.begin(off, told, p.Seq, p, abs)
	return true
}

// load loads lines for h and then answers the reads that wait for them. The
// caller has set loading.
func (s *Server) load(h *handle) {
	s.disk <- struct{}{}
	defer func() { <-s.disk }()
	h.mu.Lock()
	p := &h.past
	reader, buf, seq := p.reader, p.buf, h.at.Seq
	h.mu.Unlock()

	got := loaded{reader: reader, buf: buf}
	got.next(h.n.e.History, seq)

	h.mu.Lock()
	defer h.mu.Unlock()
	p.loading = false
	p.reader, p.buf, p.err = got.reader, got.buf, got.err
	p.first, p.run, p.lines = got.first, got.run, got.lines
	if p.closed {
		p.close()
	}
	s.answerAll(h)
}

// loaded is what a load has without any lock.
type loaded struct {
	reader     HistoryReader
	buf        []byte
	first, run uint64
	lines      []byte
	err        error
}

// next reads the next lines, skipping records before seq: a file is read from
// a place that is not exactly the one.
func (l *loaded) next(h History, seq uint64) {
	if l.reader == nil {
		if l.reader, l.err = h.From(seq); l.err != nil {
			return
		}
		l.buf = make([]byte, pastBuffer)
	}
	for len(l.lines) == 0 && l.err == nil {
		l.first, l.run, l.lines, l.err = l.reader.Next(l.buf)
		s := record.Scanner{Buf: l.lines, Seq: l.first, Run: l.run}
		for s.Seq < seq && len(s.Buf) > 0 {
			if _, ok := s.Next(); !ok {
				break
			}
		}
		l.first, l.run, l.lines = s.Seq, s.Run, s.Buf
	}
}

// answerAll answers the parked reads of h. The caller holds h.mu.
func (s *Server) answerAll(h *handle) {
	e := h.n.e
	e.mu.Lock()
	var mine []*park
	for p := range e.parked {
		if p.h == h {
			mine = append(mine, p)
		}
	}
	e.mu.Unlock()
	for _, p := range mine {
		s.answer(p)
	}
}
