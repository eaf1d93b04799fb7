package fs

import "sync"

// bigBuffers are what is lent to those who read a lot. They are made when they
// are wanted first, and stay.
type bigBuffers struct {
	mu   sync.Mutex // guards the following; taken last
	free []*[bigLoad]byte
	made int
}

// take returns nil if all are lent.
func (b *bigBuffers) take() (buf *[bigLoad]byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if last := len(b.free) - 1; last >= 0 {
		buf, b.free = b.free[last], b.free[:last]
	} else if b.made < maxBig {
		b.made++
		buf = new([bigLoad]byte)
	}
	return buf
}

func (b *bigBuffers) give(buf *[bigLoad]byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free = append(b.free, buf)
}

// ahead is what is loaded for a reader who goes on and on, while he is busy with
// what was loaded before. What is in spare is the loading goroutine's; handle.mu
// guards all else.
type ahead struct {
	big   *[bigLoad]byte // what lines are in, nil if that is no buffer of his own
	spare *[bigLoad]byte // what comes next is loaded to
	of    *bigBuffers    // whose they are
	early bool           // it is being loaded: lines can be read meanwhile
	got   *loaded        // it is there
}

// drop gives the buffers back.
func (a *ahead) drop() {
	for _, b := range []*[bigLoad]byte{a.big, a.spare} {
		if b != nil {
			a.of.give(b)
		}
	}
	*a = ahead{}
}

// mayLoadBig gives ps a buffer that it keeps as long as it is fed, if it reads
// as much. The caller holds handle.mu.
func (s *Server) mayLoadBig(ps *pass) bool {
	a := &ps.past.ahead
	if a.big == nil && ps.want >= maxLoad {
		a.big, a.of = s.bigs.take(), &s.bigs
	}
	return a.big != nil
}

// wantAhead has what comes next loaded, if there is somewhere to put it. The
// caller holds handle.mu.
func (s *Server) wantAhead(ps *pass) {
	p := &ps.past
	if p.loading || p.big == nil || p.got != nil || p.err != nil || p.reader == nil || p.piece.lines != nil {
		return
	}
	if p.spare == nil {
		if p.spare = s.bigs.take(); p.spare == nil {
			return
		}
	}
	p.loading, p.early = true, true
	got := &loaded{reader: p.reader, buf: p.spare[:]}
	s.later(func() { s.loadAhead(ps, got) })
}

func (s *Server) loadAhead(ps *pass, got *loaded) {
	h, p := ps.h, &ps.past
	got.held, _ = h.n.v.ring.Bounds()
	got.first, got.run, got.lines, got.err = got.reader.Next(got.buf)

	h.mu.Lock()
	p.loading, p.early, p.got = false, false, got
	if p.closed {
		p.close(h)
	}
	s.answerLoaded(ps)
	s.tellPoller(h)
}

// next goes on to what was loaded ahead.
func (p *past) next() bool {
	got := p.got
	if got == nil {
		return false
	}
	p.big, p.spare, p.got = p.spare, p.big, nil
	p.first, p.run, p.lines, p.err, p.held = got.first, got.run, got.lines, got.err, got.held
	return true
}
