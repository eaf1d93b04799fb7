package daemon

import (
	"errors"
	"io"

	"logfs/fs"
	"logfs/ring/record"
	"logfs/rotate"
)

// history gives readers of the tree what the ring has dropped: from the files,
// and while these are late from the memory of the writer. So a reader is told
// that lines are lost when the files will never have them, and no sooner.
type history struct{ l *Log }

// From implements fs.History.
func (h history) From(seq uint64) (fs.HistoryReader, error) {
	return &historyReader{l: h.l, seq: seq}, nil
}

type historyReader struct {
	l   *Log
	seq uint64         // of the record that is due
	r   *rotate.Reader // nil if it does not stand before seq
}

// Next implements fs.HistoryReader.
func (h *historyReader) Next(buf []byte) (first, run uint64, lines []byte, err error) {
	s, ok := h.l.unwritten(h.seq, buf)
	for !ok && err == nil && len(s.Lines) == 0 {
		if s, err = h.stored(buf); errors.Is(err, io.EOF) {
			// The files may have been given up, or have it, since.
			if s, ok = h.l.unwritten(h.seq, buf); ok {
				err = nil
			}
		}
	}
	if !ok {
		if h.r != nil {
			h.seq = max(h.seq, h.r.Due())
		}
		return s.First, s.Run, s.Lines, err
	}
	h.leave()
	next := record.Scanner{Buf: s.Lines, Seq: s.First, Run: s.Run}
	for more := true; more; {
		_, more = next.Next()
	}
	h.seq = max(h.seq, next.Seq)
	return s.First, s.Run, s.Lines, err
}

// stored reads on in the files.
func (h *historyReader) stored(buf []byte) (s rotate.Segment, err error) {
	if h.r == nil {
		if h.r, err = h.l.dir.From(h.seq); err != nil {
			return s, err
		}
	}
	return h.r.Next(buf)
}

// leave gives up the place in the files.
func (h *historyReader) leave() {
	if h.r != nil {
		h.r.Close()
		h.r = nil
	}
}

// Rest implements fs.HistoryReader.
func (h *historyReader) Rest() {
	if h.r != nil {
		h.r.Rest()
	}
}

// Close implements fs.HistoryReader.
func (h *historyReader) Close() error {
	h.leave()
	return nil
}

// unwritten returns lines from the number seq on, copied to buf, if neither the
// files nor the ring have it: what the writer has in hand, and marks for what
// is lost, followed by lines that the ring has still.
func (l *Log) unwritten(seq uint64, buf []byte) (s rotate.Segment, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := &l.writer
	switch {
	case !w.late || seq < w.whole.first:
		return s, false
	case seq < w.whole.next:
		return w.whole.copyFrom(seq, buf), true
	case seq >= w.lost.next:
		return s, false
	}
	lost := w.lost.stretch(l.stampLocked() - 1)
	if c, ok := l.ring.Chunk(w.at.Block); ok {
		defer c.Release()
		lost.chunks = append(lost.chunks, c.Data[w.at.Off:])
	}
	return lost.copyFrom(seq, buf), true
}

// copyFrom copies the records of s from the number seq on, as many as fit into
// buf, at least one.
func (s *stretch) copyFrom(seq uint64, buf []byte) rotate.Segment {
	at := record.Scanner{Seq: s.first, Run: s.run}
	got := rotate.Segment{Lines: buf[:0]}
	for _, c := range s.chunks {
		at.Buf = c
		for {
			before := at
			rec, ok := at.Next()
			if !ok {
				break
			}
			line := before.Buf[:len(before.Buf)-len(at.Buf)]
			switch {
			case rec.Last < seq:
				continue
			case len(got.Lines) == 0:
				got.First, got.Run = before.Seq, before.Run
			case len(got.Lines)+len(line) > len(buf):
				return got
			}
			got.Lines = append(got.Lines, line...)
		}
	}
	return got
}

// Find implements fs.History.
func (h history) Find(t record.Stamp) (seq uint64, ok bool, err error) { return h.l.dir.Find(t) }

// Runs implements fs.History.
func (h history) Runs() ([]fs.Run, error) {
	var runs []fs.Run
	for _, r := range h.l.dir.Runs() {
		runs = append(runs, fs.Run(r))
	}
	return runs, nil
}

// Run implements fs.History.
func (h history) Run(run uint64) (fs.Run, bool, error) {
	r, ok, err := h.l.dir.Run(run)
	return fs.Run(r), ok, err
}

// Parts implements fs.History. What the writer has in hand comes behind what is
// in the files.
func (h history) Parts(from, to uint64) ([]fs.Part, error) {
	stored, err := h.l.dir.Parts(from, to)
	if err != nil {
		return nil, err
	}
	var parts []fs.Part
	for _, p := range stored {
		parts = append(parts, fs.Part(p))
		from = max(from, p.Next)
	}
	for buf := make([]byte, 64<<10); from < to; {
		s, ok := h.l.unwritten(from, buf)
		if !ok || len(s.Lines) == 0 {
			break
		}
		p, next := partOf(s, from, to)
		if p.Next > 0 {
			parts = append(parts, p)
		}
		if next <= from {
			break
		}
		from = next
	}
	return parts, nil
}

// partOf measures the records of s that begin with the numbers from to to-1, and
// returns the number after the last it has looked at.
func partOf(s rotate.Segment, from, to uint64) (p fs.Part, next uint64) {
	at := record.Scanner{Buf: s.Lines, Seq: s.First, Run: s.Run}
	for at.Seq < to {
		run := at.Run
		rec, ok := at.Next()
		if !ok {
			break
		}
		if rec.Seq < from {
			continue
		}
		if p.Next == 0 {
			p.First, p.Run = rec.Seq, run
		}
		p.Sizes.Add(&rec)
		p.Next = rec.Last + 1
	}
	return p, at.Seq
}
