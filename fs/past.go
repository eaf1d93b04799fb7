package fs

import (
	"errors"
	"io"
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
	// Find returns the number of the first record with the stamp t or later; ok
	// is false if there is none.
	Find(t record.Stamp) (seq uint64, ok bool, err error)
	// Runs returns the runs of which there are records, oldest first.
	Runs() ([]Run, error)
	// Run returns one of them; ok is false if there is none of it.
	Run(run uint64) (r Run, ok bool, err error)
	// Parts measures the records that begin with the numbers from to to-1, in
	// pieces that From finds at once. Where numbers are missing between two
	// pieces, they cannot be had; within a piece, its sizes count the mark that
	// readers get in their place.
	Parts(from, to uint64) ([]Part, error)
}

// A Part is records of a History that follow each other.
type Part struct {
	First, Next uint64 // number of the first record, and of that behind the last
	Run         uint64 // in force at the first
	Sizes       record.Sizes
}

// A HistoryReader reads records in order. One caller at a time.
type HistoryReader interface {
	// Next returns whole stored lines that follow those before, about as many
	// as fit into buf, with the number of the first and the run in force
	// there. A number that is greater than was due says that what lies between
	// will never be had. io.EOF says that there is nothing yet that the ring
	// had already dropped when Next was called.
	Next(buf []byte) (first, run uint64, lines []byte, err error)
	// Rest lets go of what is only there to make the next Next fast.
	Rest()
	Close() error
}

// past is how a pass is fed from disk, from the moment it is overtaken until
// it has caught up. It holds no block of the ring, and between reads hardly
// any line: there may be many who lag.
type past struct {
	feeding  bool
	rejoined bool // the reader was just put back into the ring
	loading  bool // a goroutine has reader; guarded by handle.mu like all else
	closed   bool // the loading goroutine is to close reader

	reader     HistoryReader
	kept       *atomic.Int64 // counts readers, this one too; nil if it does not
	first, run uint64        // of lines
	lines      []byte        // loaded and not yet read
	piece      piece         // all that was loaded, for who reads backwards
	err        error         // of the last load: io.EOF at the end
	held       uint64        // the first number in the ring before that load
	ahead
}

func (p *past) feed() { p.feeding = true }

// close ends the feeding. The caller holds mu of h, whose past it is.
func (p *past) close(h *handle) {
	if p.loading {
		p.feeding, p.closed = false, true
		return
	}
	if r := p.reader; r != nil {
		h.n.e.fs.later(func() { _ = r.Close() }) // it was only read from
	}
	p.piece.drop()
	p.ahead.drop()
	if p.kept != nil {
		p.kept.Add(-1)
	}
	*p = past{}
}

// readPast reads from what was loaded. load says that more has to be loaded
// first; known without bytes, that this is the end. With neither, the disk has
// no more than the ring, and the reader has been put back there, or his lines
// are nowhere.
func (ps *pass) readPast(dst []byte, q request) (n int, load, known bool) {
	p := &ps.past
	if p.loading && (!p.early || p.closed) {
		return 0, true, false
	}
	ps.goal = max(q.off, ps.stretch().lines()) + ps.stretch().base
	if !p.feeding {
		p.feed()
		return 0, true, false
	}
	n = ps.copyLoaded(dst, q)
	for n == 0 && len(p.lines) == 0 && p.next() {
		n = ps.copyLoaded(dst, q)
	}
	switch {
	case n > 0:
		ps.h.n.reachFed(q.off + int64(n))
		ps.h.n.e.fs.wantAhead(ps)
		return n, false, true
	case p.loading:
		return 0, true, false
	}
	q.end, _ = ps.h.n.clip(q.end)
	return ps.pastLines(q)
}

// copyLoaded copies what the reader is told, and then from what was loaded.
func (ps *pass) copyLoaded(dst []byte, q request) (n int) {
	p := &ps.past
	n = ps.fillTold(dst, q.off)
	if len(p.lines) > 0 && ps.misses() {
		if n > 0 {
			return n
		}
		ps.skip(q.off)
		n = ps.fillTold(dst, q.off)
	}
	if len(p.lines) > 0 && n < len(dst) {
		n, p.lines, _ = ps.copyLines(dst, n, q, p.lines)
		p.first, p.run = ps.at.Seq, ps.at.Run
	}
	return n
}

// pastLines is readPast when there is no line left of what was loaded.
func (ps *pass) pastLines(q request) (n int, load, known bool) {
	p := &ps.past
	switch {
	case (p.err != nil || ps.caughtUp()) && ps.rejoin():
		return 0, false, false
	case ps.at.Seq >= q.end.Seq:
		return 0, false, true
	case errors.Is(p.err, io.EOF) && ps.at.Seq >= p.held:
		p.err = nil // the ring had them, and has dropped them since
	}
	if p.err == nil {
		return 0, true, false
	}
	if err, e := p.err, ps.h.n.e; !errors.Is(err, io.EOF) && !e.fs.dev.left.Load() {
		e.fs.later(func() {
			e.fs.dev.log.Warn("cannot read a reader's lines from disk", "service", e.Name, "err", err)
		})
	}
	p.close(ps.h)
	return 0, false, false
}

// misses says that the lines that were loaded do not go on where the reader
// is: what is due was deleted, or all that is left of the record he has read a
// part of is a mark that it is lost.
func (ps *pass) misses() bool {
	p := &ps.past
	if p.first > ps.at.Seq {
		return true
	}
	s := record.Scanner{Buf: p.lines, Seq: p.first, Run: p.run}
	rec, ok := s.Next()
	l := &ps.h.n.v.layout
	return ok && ps.part.size > 0 && ps.part != part{rec.Seq, l.size(ps.at.open, &rec), rec.Kind} && ps.part.seq == rec.Seq
}

// skip tells the reader what is missing before the lines that were loaded.
func (ps *pass) skip(off int64) {
	p, s := &ps.past, ps.stretch()
	land := pos{Cursor: ring.Cursor{Seq: p.first, Run: p.run}, off: ps.at.off}
	if stop, past := ps.h.n.passes(ps.landing(), ps.at.Seq); past {
		stop.off, land = land.off, stop
	}
	exact := s.exact
	if at := ps.at.off - s.base; s.exact && ps.part == (part{}) && at < off && at >= s.lines() {
		off = at // the mark is where it belongs: the read began behind that
	}
	told, first := ps.unread(off)
	ps.begin(off, ps.tell(told, first, land, p.lines), first, land, land.off)
	ps.stretch().exact = exact && ps.h.n.isAt(land.Seq, ps.stretch().lines())
}

// landing is the first record that was loaded.
func (ps *pass) landing() *pos {
	s := record.Scanner{Buf: ps.past.lines, Seq: ps.past.first, Run: ps.past.run}
	rec, _ := s.Next()
	return &pos{Cursor: ring.Cursor{Seq: rec.Seq, Run: rec.Run}}
}

// caughtUp says that the ring has what comes next, with some room before it
// drops it. Who reads again goes on from disk as far as he has read before.
func (ps *pass) caughtUp() bool {
	first, next := ps.h.n.v.ring.Bounds()
	return ps.lastStretch() && ps.at.Seq >= first+(next-first)/4
}

// rejoin puts a reader who stands before a record back into the ring. It
// returns false if the ring does not have that record.
func (ps *pass) rejoin() bool {
	v := ps.h.n.v
	p, c, ok := v.seek(ps.at.Seq)
	if !ok {
		return false
	}
	s, abs := ps.stretch(), p.off
	if s.reckoning == p.reckoning && s.reckoning != 0 && p.off == ps.at.off && p.open == ps.at.open {
		if c != nil {
			c.Release()
		}
		ps.past.close(ps.h)
		ps.past.rejoined, ps.at = true, p // the stretch goes on
		return true
	}
	var told []byte
	if c != nil {
		abs = v.base(p, *c)
		if ps.at.open != 0 && v.breaksAt(ps.at.open, p, *c) {
			told = []byte{'\n'}
		}
		c.Release()
	}
	off, exact := ps.at.off-s.base, s.exact
	ps.past.close(ps.h)
	ps.past.rejoined = true
	ps.begin(off, told, p.Seq, p, abs)
	ps.stretch().exact = exact
	return true
}
