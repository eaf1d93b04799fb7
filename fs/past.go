package fs

import (
	"errors"
	"io"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"logfs/ring"
	"logfs/ring/record"
)

// A History gives back records that the ring has dropped. From and Next may
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
	// Rest lets go of what is only there to make the next Next fast.
	Rest()
	Close() error
}

// past is how a handle is fed from disk, from the moment it is overtaken
// until it has caught up. It holds no block of the ring, and between reads
// hardly any line: there may be many who lag.
type past struct {
	feeding  bool
	rejoined bool // the reader was just put back into the ring
	loading  bool // a goroutine has reader; guarded by handle.mu like all else
	closed   bool // the loading goroutine is to close reader

	reader     HistoryReader
	kept       *atomic.Int64 // counts readers, this one too; nil if it does not
	first, run uint64        // of lines
	lines      []byte        // loaded and not yet read
	err        error         // of the last load: io.EOF at the end
	held       uint64        // the first number in the ring before that load
	tries      int           // loads since lines came
}

const (
	// minLoad and maxLoad bound how much is read from disk at once. A reader
	// who asks for less than minLoad keeps what is over until he asks again.
	minLoad = 4 << 10
	maxLoad = 64 << 10
	// maxOpen is how many readers keep their file open between reads. Others
	// open it again each time.
	maxOpen = 32
)

// loadBuffers are for the lines that are being loaded.
var loadBuffers = sync.Pool{New: func() any { return new([maxLoad]byte) }}

// close ends the feeding. The caller holds handle.mu.
func (p *past) close() {
	switch {
	case p.loading:
		p.feeding, p.closed = false, true
		return
	case p.reader != nil:
		p.closeReader()
	}
	*p = past{}
}

func (p *past) closeReader() {
	_ = p.reader.Close() // it was only read from
	if p.reader = nil; p.kept != nil {
		p.kept.Add(-1)
		p.kept = nil
	}
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
		p.first, p.tries = h.at.Seq, 0
	}
	if n > 0 {
		h.n.reach(q.off + int64(n) + maxLoad)
		return n, false
	}
	if (p.err != nil || h.caughtUp()) && h.rejoin(q.off) {
		return 0, false
	}
	const tries = 3
	if p.tries++; errors.Is(p.err, io.EOF) && h.at.Seq >= p.held && p.tries <= tries {
		p.err = nil // they have been written, and dropped, since
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
	h.begin(off, h.tell(told, first, land, h.past.lines), first, land, land.off)
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

// loadQueue is who waits for lines from disk. Ten thousand may: they queue, and a
// few goroutines, which end when the queue does, serve them.
type loadQueue struct {
	mu      sync.Mutex // guards the following; taken last
	queue   []*handle
	serving int
}

// wantLoad has lines loaded for h. The caller holds h.mu.
func (s *Server) wantLoad(h *handle) {
	if h.past.loading {
		return
	}
	h.past.loading = true
	s.loads.mu.Lock()
	defer s.loads.mu.Unlock()
	s.loads.queue = append(s.loads.queue, h)
	if s.loads.serving < maxLoads {
		s.loads.serving++
		go s.serveLoads()
	}
}

func (s *Server) serveLoads() {
	for h := s.nextLoad(); h != nil; h = s.nextLoad() {
		s.load(h)
	}
}

// nextLoad returns who has waited longest. With nil, the caller has to end.
func (s *Server) nextLoad() *handle {
	l := &s.loads
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		l.serving--
		l.queue = nil
		return nil
	}
	h := l.queue[0]
	l.queue[0] = nil
	l.queue = l.queue[1:]
	return h
}

// load loads lines for h and answers the reads that wait for them.
func (s *Server) load(h *handle) {
	buf := loadBuffers.Get().(*[maxLoad]byte)
	defer loadBuffers.Put(buf)

	h.mu.Lock()
	p := &h.past
	got := loaded{reader: p.reader, buf: buf[:h.loadSize()]}
	seq := h.at.Seq
	h.mu.Unlock()
	got.held, _ = h.n.v.ring.Bounds()

	got.next(h.n.e.History, seq)

	h.mu.Lock()
	defer h.mu.Unlock()
	p.loading = false
	p.reader, p.err, p.held = got.reader, got.err, got.held
	p.first, p.run, p.lines = got.first, got.run, got.lines
	if p.closed {
		p.close()
	}
	for _, r := range slices.Clone(h.parked) {
		s.answer(r)
	}
	p.lines = append([]byte(nil), p.lines...) // buf is somebody else's now
	if !p.loading {
		s.keep(p)
	}
}

// loadSize is how many stored bytes will do for the reads that wait. Their
// text is shorter; a seq record is longer, but not twice as long.
func (h *handle) loadSize() int {
	want := minLoad
	for _, r := range h.parked {
		size := int(r.size)
		if h.n.v.form == formSeq {
			size /= 2
		}
		want = max(want, size)
	}
	return min(want, maxLoad)
}

// keep keeps the file open until the next load, unless many others are.
func (s *Server) keep(p *past) {
	switch {
	case p.reader == nil || p.kept != nil:
	case s.kept.Add(1) <= maxOpen:
		p.kept = &s.kept
	default:
		s.kept.Add(-1)
		p.reader.Rest()
	}
}

// loaded is what a load has without any lock.
type loaded struct {
	reader     HistoryReader
	buf        []byte
	first, run uint64
	lines      []byte
	err        error
	held       uint64
}

// next reads the next lines, and skips those before seq.
func (l *loaded) next(h History, seq uint64) {
	if l.reader == nil {
		if l.reader, l.err = h.From(seq); l.err != nil {
			return
		}
	}
	for len(l.lines) == 0 && l.err == nil {
		l.first, l.run, l.lines, l.err = l.reader.Next(l.buf)
		s := record.Scanner{Buf: l.lines, Seq: l.first, Run: l.run}
		for s.Seq < seq {
			if _, ok := s.Next(); !ok {
				break
			}
		}
		l.first, l.run, l.lines = s.Seq, s.Run, s.Buf
	}
}
