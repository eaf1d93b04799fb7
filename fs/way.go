package fs

import (
	"sync/atomic"

	"logfs/ring/record"
)

// A way leads from a record to the one that a read begins in.
type way struct {
	want int64 // how many bytes are wanted from goal on
	l    *layout
	at   pos    // the record that comes next
	goal int64  // the absolute position that is wanted, in the stretch
	back bool   // what lies before it is going to be wanted next
	only uint64 // the run that is shown, 0 for all
}

// A piece is stored lines that are kept because their reader goes backwards.
type piece struct {
	at    pos
	end   int64 // the absolute position behind them
	lines []byte
	kept  *atomic.Int64 // counts pieces
}

const (
	// maxPiece is how much lies in a piece before what was read, about.
	maxPiece = 256 << 10
	// maxPieces is how many readers have one. Others go the whole way again.
	maxPieces = 16
	// maxWay is after how much others get their turn.
	maxWay = 8 << 20
)

// mayKeep says whether a piece is to be loaded. pieces counts them.
func (l *loaded) mayKeep(pieces *atomic.Int64) bool {
	if !l.back || l.goal <= l.at.off {
		return false
	}
	if l.piece.kept = pieces; pieces.Add(1) > maxPieces {
		l.piece.drop()
		l.piece = piece{}
	}
	return l.piece.kept != nil
}

// load reads lines, from the record that the goal is in.
func (l *loaded) load(h History) {
	if l.reader == nil {
		if l.reader, l.err = h.From(l.at.Seq); l.err != nil {
			l.piece.drop()
			l.piece = piece{}
			return
		}
	}
	if l.piece.kept != nil {
		l.loadPiece()
		return
	}
	for went := 0; len(l.lines) == 0 && l.err == nil && went < maxWay; went += len(l.buf) {
		l.next()
		l.goOn()
	}
}

// next reads the next lines, and skips those before at.
func (l *loaded) next() {
	l.first, l.run, l.lines, l.err = l.reader.Next(l.buf)
	s := record.Scanner{Buf: l.lines, Seq: l.first, Run: l.run}
	for s.Seq < l.at.Seq {
		if _, ok := s.Next(); !ok {
			break
		}
	}
	l.first, l.run, l.lines = s.Seq, s.Run, s.Buf
}

// goOn takes the records off lines that end before the goal.
func (l *loaded) goOn() {
	if len(l.lines) == 0 || l.first > l.at.Seq && !l.overGap() {
		return
	}
	s := record.Scanner{Buf: l.lines, Seq: l.first, Run: l.run}
	for l.step(&s, l.goal) {
	}
	l.first, l.run, l.lines = s.Seq, s.Run, s.Buf
}

// step takes one record off s that ends at or before the absolute position to.
func (w *way) step(s *record.Scanner, to int64) bool {
	before := *s
	rec, ok := s.Next()
	if !ok {
		return false
	}
	if w.at.off+int64(w.l.size(w.at.open, &rec)) > to || w.only > 0 && rec.Run > w.only {
		*s = before
		return false
	}
	w.at.step(w.l, &rec, len(before.Buf)-len(s.Buf))
	return true
}

// overGap goes over numbers that are missing, if the goal is behind the mark
// that tells of them.
func (l *loaded) overGap() bool {
	rec := record.Lost(0, l.run, l.at.Seq, l.first-1)
	to := l.at.off + int64(l.l.size(l.at.open, &rec))
	if to > l.goal || l.at.off == l.goal {
		return false
	}
	l.at.off, l.at.open, l.at.Seq, l.at.Run = to, 0, l.first, l.run
	return true
}

// loadPiece reads lines from some way before the goal to some way behind it.
func (l *loaded) loadPiece() {
	p := l.piece
	var starts []pos // of what was read, with Off in p.lines
	for l.err == nil && l.at.off < l.goal+l.want {
		l.next()
		if len(l.lines) == 0 {
			break
		}
		if l.first > l.at.Seq {
			if l.at.off >= l.goal || !l.overGap() {
				break
			}
			p.lines, starts = p.lines[:0], starts[:0]
		}
		l.at.Off = len(p.lines)
		starts = append(starts, l.at)
		p.lines = append(p.lines, l.lines...)
		s := record.Scanner{Buf: l.lines, Seq: l.first, Run: l.run}
		for l.step(&s, 1<<62) {
		}
		if len(s.Buf) > 0 { // a later run
			p.lines = p.lines[:len(p.lines)-len(s.Buf)]
			break
		}
		for len(starts) > 1 && starts[1].off <= l.goal-maxPiece {
			starts = p.shorten(starts)
		}
	}
	l.lines = nil
	if len(starts) == 0 {
		p.drop()
		l.piece = piece{}
		return
	}
	p.at, p.end = starts[0], l.at.off
	p.at.Off = 0
	l.piece, l.at, l.first, l.run, l.lines = p, p.at, p.at.Seq, p.at.Run, p.lines
}

// drop gives the place of a piece to another.
func (p *piece) drop() {
	if p.kept != nil {
		p.kept.Add(-1)
	}
}

// shorten drops what was read first.
func (p *piece) shorten(starts []pos) []pos {
	n := starts[1].Off
	p.lines = append(p.lines[:0], p.lines[n:]...)
	starts = starts[1:]
	for i := range starts {
		starts[i].Off -= n
	}
	return starts
}

// again goes back to the beginning of the piece, if the absolute position target
// is in it.
func (p *past) again(at *pos, target int64) bool {
	if p.loading || !p.feeding || p.piece.lines == nil || target < p.piece.at.off {
		return false
	}
	*at = p.piece.at
	p.first, p.run, p.lines = at.Seq, at.Run, p.piece.lines
	return true
}

// holds says whether the piece of ps has the offset off.
func (ps *pass) holds(off int64) bool {
	if !ps.idle() || ps.own || ps.past.piece.lines == nil {
		return false
	}
	at := off + ps.stretch().base
	return ps.past.piece.at.off <= at && at < ps.past.piece.end
}

// jump goes to the landmark before the absolute position target of the stretch
// s, if that is far ahead.
func (ps *pass) jump(s *stretch, target int64) {
	const far = maxLoad
	if !s.exact || ps.past.loading || target-ps.at.off < far {
		return
	}
	if ps.back {
		target -= maxPiece
	}
	l, ok := ps.h.n.landmark(target - s.base)
	if ok && l.off+s.base-ps.at.off >= far && l.seq > ps.at.Seq {
		ps.at, ps.part = l.pos(s.base), part{}
		ps.past.close(ps.h)
	}
}

// arrive makes at the end, if that is at the absolute position abs.
func (ps *pass) arrive(abs int64, end pos) {
	if abs == end.off && ps.stretch().reckoning == end.reckoning && ps.at.Seq < end.Seq {
		ps.at, ps.part = end, part{}
	}
}
