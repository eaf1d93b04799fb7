package fs

import (
	"errors"
	"io"
	"sync/atomic"

	"logfs/ring/record"
)

// A feed is how a thread gets what the ring has dropped.
type feed struct {
	on         bool
	wants      bool // lines have to be loaded
	reader     HistoryReader
	kept       *atomic.Int64 // as that of past, like all that follows
	first, run uint64
	lines      []byte
	err        error
	held       uint64
}

// stop ends the feeding.
func (f *feed) stop(s *Server) {
	if r := f.reader; r != nil {
		s.later(func() { _ = r.Close() }) // it was only read from
	}
	if f.kept != nil {
		f.kept.Add(-1)
	}
	*f = feed{}
}

// fed is next from what was loaded.
func (t *thread) fed() (ok, load bool) {
	f := &t.feed
	for {
		if len(f.lines) > 0 && f.first > t.at.Seq {
			t.miss(f.first, f.run, f.lines)
			t.rec, t.n = *t.lost, 0
			return true, false
		}
		if len(f.lines) > 0 {
			s := record.Scanner{Buf: f.lines, Seq: f.first, Run: f.run}
			if t.rec, ok = s.Next(); ok {
				t.n = len(f.lines) - len(s.Buf)
				return true, false
			}
			f.lines = nil
		}
		switch {
		case (f.err != nil || t.caughtUp()) && t.rejoin(t.at.Seq):
			return t.next()
		case errors.Is(f.err, io.EOF) && t.at.Seq >= f.held:
			f.err = nil // the ring had them, and has dropped them since
		}
		if f.err == nil && t.st.e.History != nil {
			f.wants = true
			return false, true
		}
		if !t.land() {
			return false, false
		}
		return t.next()
	}
}

// caughtUp says that the ring has what comes next, with some room before it drops
// it.
func (t *thread) caughtUp() bool {
	first, next := t.st.e.Ring.Bounds()
	return t.at.Seq >= first+(next-first)/4
}

// rejoin goes on in the ring with the number seq, if that is there.
func (t *thread) rejoin(seq uint64) bool {
	p, ok := locate(t.st.e.Ring, seq)
	if !ok {
		return false
	}
	t.feed.stop(t.st.e.fs)
	t.at.Cursor = p.Cursor
	return true
}

// land goes on in the ring, a quarter of what it holds ahead. What lies between
// is lost.
func (t *thread) land() bool {
	if err := t.feed.err; err != nil && !errors.Is(err, io.EOF) {
		e := t.st.e
		e.fs.later(func() {
			e.fs.dev.log.Warn("cannot read a reader's lines from disk", "service", e.Name, "err", err)
		})
	}
	from := t.at
	first, next := t.st.e.Ring.Bounds()
	if !t.rejoin(max(from.Seq, first+(next-first)/4)) {
		return false
	}
	at := t.at.Cursor
	if t.at.Cursor = from.Cursor; at.Seq > from.Seq {
		var lines []byte
		if c, ok := t.st.e.Ring.Chunk(at.Block); ok {
			defer c.Release()
			lines = c.Data[at.Off:]
		}
		t.miss(at.Seq, at.Run, lines)
	}
	t.at.Cursor = at
	return true
}

// miss has a mark come before anything else: the numbers up to seq are lost.
// lines begin with that.
func (t *thread) miss(seq, run uint64, lines []byte) {
	stamp, ok := record.ParseStamp(lines)
	if !ok {
		stamp = t.at.key + 1
	}
	lost := record.Lost(stamp-1, run, t.at.Seq, seq-1)
	t.lost = &lost
	t.st.e.readerLost.Add(seq - t.at.Seq)
}

// wanting returns the threads whose lines have to be loaded.
func (m *merger) wanting() (all []*thread) {
	for _, t := range m.threads {
		if t.feed.wants {
			all = append(all, t)
		}
	}
	return all
}

// loadSizeOf is how much is loaded at a time for each of so many threads.
func loadSizeOf(threads int) int {
	const room = 1 << 20
	return min(max(room/max(threads, 1), minLoad), maxLoad)
}

// fetch loads lines from the number seq on. It may wait for the disk.
func (f *feed) fetch(h History, seq uint64, buf []byte) {
	f.lines, f.err = nil, nil
	if f.reader == nil {
		if f.reader, f.err = h.From(seq); f.err != nil {
			return
		}
	}
	for len(f.lines) == 0 && f.err == nil {
		f.first, f.run, f.lines, f.err = f.reader.Next(buf)
		s := record.Scanner{Buf: f.lines, Seq: f.first, Run: f.run}
		for s.Seq < seq {
			if _, ok := s.Next(); !ok {
				break
			}
		}
		f.first, f.run, f.lines = s.Seq, s.Run, s.Buf
	}
	f.lines = append([]byte(nil), f.lines...)
}
