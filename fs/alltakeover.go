package fs

import (
	"logfs/ring"
	"logfs/ring/record"
)

// How the next process goes on with what all services say. There is no room for
// a place in each of them: an anchor has the stamp of what was read last, and
// what has a later one comes next. So what is known of the order before that is
// lost: who reads again what he has read before the takeover may find the lines
// of different services in another order. Lines that have the same stamp as the
// last one, or that came too late for their place, may be missing or come twice.

// anchor is that of a pass that is at the offset next.
func (m *merger) anchor(next int64, half bool) anchor {
	now := record.Stamp(m.o.clock().UnixNano())
	a := anchor{seq: uint64(min(m.done, now)), off: m.off, next: next}
	var open record.Kind
	if m.last != nil {
		a.since, open = int64(m.last.st.e.slot), m.last.at.open
	}
	a.set(0, open, half)
	return a
}

// restoreOrder makes o the order of a restored node. It may wait for the disk.
func (n *node) restoreOrder(o *order) {
	if w := n.start.Seq; w > 0 && w <= maxWidth {
		o.width = int(w)
	}
	from := record.Stamp(n.start.Run)
	n.order, n.ino, n.start, n.offset = o, n.cell.ino, pos{}, pos{}
	n.shifted.Store(0)
	if from == 0 || o.beginAt(from) != nil {
		o.begin()
	}
}

// restoreMerger puts a restored pass behind its anchor. It may wait for the disk.
func (ps *pass) restoreMerger(a *anchor) {
	n := ps.h.n
	m := newMerger(n.order)
	ps.m = m
	m.o.mu.Lock()
	defer m.o.mu.Unlock()
	if a.seq == 0 {
		return
	}
	at := a.pos()
	m.off, m.done, m.moved = a.off, record.Stamp(a.seq), true
	rest := int64(0)
	for _, t := range m.threads {
		last := t.st.e.slot == uint64(a.since)
		t.after(m.done)
		if last {
			m.last, t.at.open = t, at.open
		}
		if m.o.form == formText && !(last && at.open != 0) {
			t.finishLine()
		}
		rest += t.left()
	}
	n.shiftTo(a.off + rest - m.o.size)
}

// after puts t behind the last record whose stamp is not later than key.
func (t *thread) after(key record.Stamp) {
	e := t.st.e
	if p, ok := behind(e.Ring, key); ok {
		t.at = p
		t.at.key = key
		return
	}
	head, _ := e.Ring.Held()
	t.at = pos{Cursor: head, key: key}
	if e.History == nil {
		return
	}
	if seq, ok, err := e.History.Find(key + 1); err == nil && ok && seq < head.Seq {
		t.at.Cursor = ring.Cursor{Seq: seq, Block: nowhere}
	}
}

// behind returns the position behind the last record of r whose stamp is not
// later than t; false if r holds none.
func behind(r *ring.Ring, t record.Stamp) (p pos, ok bool) {
	oldest, newest := r.Held()
	for id := newest.Block; ; id-- {
		c, held := r.Chunk(id)
		if !held {
			return p, false
		}
		s := record.Scanner{Buf: c.Data, Seq: c.First, Run: c.Run}
		for rec, more := s.Next(); more; rec, more = s.Next() {
			if rec.Time() <= t && rec.Seq >= oldest.Seq {
				ok = true
				p.Cursor = ring.Cursor{Seq: s.Seq, Run: s.Run, Block: id, Off: len(c.Data) - len(s.Buf)}
				if p.open = 0; rec.More {
					p.open = rec.Kind
				}
			}
		}
		c.Release()
		if ok || id == oldest.Block {
			return p, ok
		}
	}
}

// finishLine goes over the rest of a line in pieces: it has one place in the
// order, and has been read.
func (t *thread) finishLine() {
	kind := t.at.open
	t.at.open = 0
	for kind != 0 && t.at.Seq < t.st.end.Seq && t.grip() {
		s := record.Scanner{Buf: t.hold.Data[t.at.Off:], Seq: t.at.Seq, Run: t.at.Run}
		left := len(s.Buf)
		rec, ok := s.Next()
		if !ok && t.enter(t.at.Block+1) {
			continue
		}
		if !ok || rec.Kind != kind {
			break
		}
		t.n, t.rec = left-len(s.Buf), rec
		t.step(t.at.key)
		if kind = 0; rec.More {
			kind = rec.Kind
		}
		t.at.open = 0
	}
	t.leave()
}

// left is how many bytes t has up to the end of the order, as far as the ring has
// them.
func (t *thread) left() (n int64) {
	p := t.at
	for p.Seq < t.st.end.Seq {
		c, ok := t.st.e.Ring.Chunk(p.Block)
		if !ok {
			return n + lostGuess*int64(t.st.end.Seq-p.Seq)
		}
		p.walk(&t.st.layout, c, func(rec record.Record, _ int) bool {
			if rec.Seq < t.st.end.Seq {
				n += int64(t.st.size(p.open, &rec))
			}
			return rec.Seq < t.st.end.Seq
		})
		c.Release()
		if p.Seq < t.st.end.Seq {
			next, ok := t.st.e.Ring.Chunk(p.Block + 1)
			if !ok {
				return n
			}
			p.Cursor = ring.Cursor{Seq: next.First, Run: next.Run, Block: next.Block}
			next.Release()
		}
	}
	return n
}
