package fs

import (
	"slices"
	"sync"
	"sync/atomic"
)

const (
	// minLoad and maxLoad bound how much is read from disk at once. A reader
	// who asks for less than minLoad keeps what is over until he asks again.
	minLoad = 4 << 10
	maxLoad = 64 << 10
	// bigLoad is for who reads a lot at once. There are maxBig buffers of it.
	bigLoad = 256 << 10
	maxBig  = 4
	// maxOpen is how many readers keep their file open between reads. Others
	// open it again each time.
	maxOpen = 32
)

// loadBuffers are for the lines that are being loaded.
var loadBuffers = sync.Pool{New: func() any { return new([maxLoad]byte) }}

// jobs are what has to wait for the disk. Ten thousand readers may: they queue,
// and a few goroutines, which end when the queue does, serve them.
type jobs struct {
	mu      sync.Mutex // guards the following; taken last
	queue   []func()
	serving int
}

// later has job called, which may wait for the disk, and without any lock.
func (s *Server) later(job func()) { s.jobs.add(job) }

// askLater is later for what is found out about a whole log: that may take a
// while, and readers do not wait for it.
func (s *Server) askLater(job func()) { s.asks.add(job) }

func (j *jobs) add(job func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.queue = append(j.queue, job)
	if j.serving < maxJobs {
		j.serving++
		go j.serve()
	}
}

func (j *jobs) serve() {
	for job := j.next(); job != nil; job = j.next() {
		job()
	}
}

// next returns what has waited longest. With nil, the caller has to end.
func (j *jobs) next() func() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.queue) == 0 {
		j.serving--
		j.queue = nil
		return nil
	}
	job := j.queue[0]
	j.queue[0] = nil
	j.queue = j.queue[1:]
	return job
}

// wantLoad has lines loaded for ps. The caller holds handle.mu.
func (s *Server) wantLoad(ps *pass) {
	if !ps.past.loading {
		ps.past.loading = true
		s.later(func() { s.load(ps) })
	}
}

// load loads lines for ps, answers the reads that wait for them, and tells who
// polls.
func (s *Server) load(ps *pass) {
	if ps.m != nil {
		s.loadMerged(ps)
		return
	}
	buf := loadBuffers.Get().(*[maxLoad]byte)
	defer loadBuffers.Put(buf)

	h, p := ps.h, &ps.past
	h.mu.Lock()
	got := s.beginLoad(ps, buf)
	h.mu.Unlock()
	got.held, _ = h.n.v.ring.Bounds()

	got.load(h.n.e.History)
	s.keep(&got)

	h.mu.Lock()
	p.loading = false
	p.reader, p.kept, p.err, p.held = got.reader, got.kept, got.err, got.held
	p.first, p.run, p.lines = got.first, got.run, got.lines
	p.piece.drop()
	p.piece = got.piece // the reader stands behind no other
	if p.closed {
		p.close(h)
	} else {
		ps.at = got.at
	}
	s.answerLoaded(ps)
	if ps.idle() && p.feeding && p.err != nil && len(p.lines) == 0 && ps.rejoin() {
		p.rejoined = false // a poller is told whether the ring has news
	}
	if p.piece.lines == nil && p.big == nil {
		p.lines = append([]byte(nil), p.lines...) // buf is somebody else's now
	}
	s.tellPoller(h)
}

// beginLoad returns what is to be loaded, and to where. The caller holds
// handle.mu.
func (s *Server) beginLoad(ps *pass, buf *[maxLoad]byte) (l loaded) {
	p, n := &ps.past, ps.h.n
	l = loaded{reader: p.reader, kept: p.kept, buf: buf[:]}
	l.way = way{l: &n.v.layout, at: ps.at, goal: ps.goal, want: int64(ps.want), back: ps.back, only: n.only()}
	if ps.part.size > 0 {
		l.goal = ps.at.off // what is left of the record may be a mark by now
	}
	switch {
	case l.mayKeep(&s.pieces):
	case s.mayLoadBig(ps):
		l.buf = p.big[:]
	default:
		l.buf = buf[:ps.loadSize()]
	}
	return l
}

// tellPoller tells who polls h that lines are there. The caller has locked
// handle.mu, which it unlocks.
func (s *Server) tellPoller(h *handle) {
	if h.n.e.watches(h) {
		h.n.e.notify(h)
	} else {
		h.mu.Unlock()
	}
}

// answerLoaded answers the read that has waited for ps, and then those that
// may have waited for a pass. The caller holds handle.mu.
func (s *Server) answerLoaded(ps *pass) {
	parked := slices.Clone(ps.h.parked)
	for _, p := range parked {
		if p.pass == ps {
			s.answer(p)
		}
	}
	for _, p := range parked {
		s.answer(p)
	}
}

// loadSize is how many stored bytes will do for the read that waits. Their
// text is shorter; a seq record is longer, but not twice as long.
func (ps *pass) loadSize() int {
	size := ps.want
	if ps.h.n.v.form == formSeq {
		size /= 2
	}
	return min(max(size, minLoad), maxLoad)
}

// keep keeps the file open until the next load, unless many others are.
func (s *Server) keep(l *loaded) {
	switch {
	case l.reader == nil || l.kept != nil:
	case s.kept.Add(1) <= maxOpen:
		l.kept = &s.kept
	default:
		s.kept.Add(-1)
		l.reader.Rest()
	}
}

// loaded is what a load has without any lock.
type loaded struct {
	reader     HistoryReader
	kept       *atomic.Int64
	buf        []byte
	first, run uint64
	lines      []byte
	err        error
	held       uint64
	way
	piece piece
}
