package fs

// takeMerged is take where lines are merged: all reads go one way.
func (h *handle) takeMerged(off int64) *pass {
	if ps := &h.main; ps.free(off) {
		return ps
	}
	return nil
}

// readMerged is read of what several services say.
func (ps *pass) readMerged(dst []byte, q request) (n int, load bool) {
	if ps.past.loading {
		return 0, true
	}
	nd, m := ps.h.n, ps.m
	nd.advance()
	m.o.mu.Lock()
	n, load = m.read(dst, q.off, q.whole, ps.half && q.off == ps.next)
	if n == 0 && !load {
		nd.shiftTo(m.off - m.o.size) // as far as the order goes
	}
	m.o.mu.Unlock()
	if n > 0 {
		nd.reach(q.off + int64(n))
	}
	return ps.done(dst, q.off, n), load
}

// shiftTo notes that offsets of a handle are by so much greater than those of the
// order.
func (n *node) shiftTo(by int64) {
	if by > 0 {
		raise(&n.shifted, by)
	}
}

// endMerged is skipToEnd.
func (ps *pass) endMerged(told int64) int64 {
	if ps.past.loading {
		return told
	}
	nd, m := ps.h.n, ps.m
	nd.advance()
	m.o.mu.Lock()
	defer m.o.mu.Unlock()
	off := max(told, m.o.size)
	m.end(off)
	nd.shiftTo(off - m.o.size)
	ps.half = ps.half && ps.next == off
	ps.next = off
	return off
}

// readyMerged is ready.
func (ps *pass) readyMerged(off int64) (ready, load bool) {
	ps.h.n.advance()
	m := ps.m
	m.o.mu.Lock()
	defer m.o.mu.Unlock()
	defer m.rest()
	m.seek(off)
	load = m.queue()
	return !load && len(m.heap) > 0, load
}

// loadMerged is load.
func (s *Server) loadMerged(ps *pass) {
	h := ps.h
	h.mu.Lock()
	want := ps.m.wanting()
	h.mu.Unlock()
	buf := loadBuffers.Get().(*[maxLoad]byte)
	for _, t := range want { // the threads are this goroutine's while loading is set
		f := &t.feed
		f.wants = false
		f.held, _ = t.st.e.Ring.Bounds()
		f.fetch(t.st.e.History, t.at.Seq, buf[:loadSizeOf(len(ps.m.threads))])
		s.keepFeed(f)
	}
	loadBuffers.Put(buf)

	h.mu.Lock()
	if ps.past.loading = false; ps.past.closed {
		ps.m.stop()
	}
	s.answerLoaded(ps)
	if h.n.e.watches(h) {
		h.n.e.notify(h)
	} else {
		h.mu.Unlock()
	}
}

// keepFeed is keep.
func (s *Server) keepFeed(f *feed) {
	switch {
	case f.reader == nil || f.kept != nil:
	case s.kept.Add(1) <= maxOpen:
		f.kept = &s.kept
	default:
		s.kept.Add(-1)
		f.reader.Rest()
	}
}
