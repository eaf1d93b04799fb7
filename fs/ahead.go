package fs

import "sync/atomic"

// ahead is what is loaded for a reader who goes on and on, while he is busy with
// what was loaded before. All but spare is guarded by handle.mu.
type ahead struct {
	big   *[bigLoad]byte // what lines are in, nil if that is no buffer of his own
	spare *[bigLoad]byte // what comes next is loaded to
	bigs  *atomic.Int64  // counts buffers
	early bool           // it is being loaded: lines can be read meanwhile
	got   *loaded        // it is there
}

// take gets a buffer, unless too many have one.
func (a *ahead) take(bigs *atomic.Int64) *[bigLoad]byte {
	if bigs.Add(1) > maxBig {
		bigs.Add(-1)
		return nil
	}
	a.bigs = bigs
	return bigBuffers.Get().(*[bigLoad]byte)
}

// drop gives the buffers back.
func (a *ahead) drop() {
	for _, b := range []*[bigLoad]byte{a.big, a.spare} {
		if b != nil {
			bigBuffers.Put(b)
			a.bigs.Add(-1)
		}
	}
	*a = ahead{}
}

// mayLoadBig gives ps a buffer that it keeps as long as it is fed, if it reads
// as much. The caller holds handle.mu.
func (s *Server) mayLoadBig(ps *pass) bool {
	a := &ps.past.ahead
	if a.big == nil && ps.want >= maxLoad {
		a.big = a.take(&s.bigs)
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
		if p.spare = p.take(&s.bigs); p.spare == nil {
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
	s.tellLoaded(ps)
}

// tellLoaded answers the reads that wait for ps, and tells who polls. The caller
// has locked handle.mu, which it unlocks.
func (s *Server) tellLoaded(ps *pass) {
	h := ps.h
	s.answerLoaded(ps)
	if h.n.e.watches(h) {
		h.n.e.notify(h)
	} else {
		h.mu.Unlock()
	}
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
