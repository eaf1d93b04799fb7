package fs

import (
	"logfs/ring"
	"logfs/ring/record"
)

// What is written into the state, and read from there.

// keepNode gives n a cell. The caller holds tree.mu; nobody else has n yet.
func (t *tree) keepNode(n *node) {
	if t.state == nil {
		return
	}
	t.state.fresh.Store(t.fresh)
	if n.cell = t.state.nodes.take(); n.cell != nil {
		n.cell.entry, n.cell.what = n.e.slot, uint64(n.v.sel)<<8|uint64(n.kind)
		if n.cell.only, n.cell.ino = n.only(), 0; n.span != nil || n.order != nil {
			n.cell.ino = n.ino
		}
		n.note()
		n.cell.id.Store(n.id)
	}
}

// keepText is keepNode for a text.
func (t *tree) keepText(x *text) {
	if t.state == nil || x.link {
		return
	}
	t.state.fresh.Store(t.fresh)
	if x.cell = t.state.nodes.take(); x.cell != nil {
		x.cell.entry, x.cell.what = 0, x.ino
		x.cell.id.Store(x.id)
	}
}

func (t *tree) giveNode(c *nodeCell) {
	if c != nil {
		c.id.Store(0)
		t.state.nodes.give(c)
	}
}

// keepHandle gives the handle fh of the node id a cell. The caller holds
// tree.mu; nobody else has the handle yet.
func (t *tree) keepHandle(fh, id, unique uint64) *handleCell {
	if t.state == nil {
		return nil
	}
	c := t.state.handles.take()
	if c != nil {
		c.node, c.unique = id, unique&^resent
		c.flags.Store(0)
		c.ahead.Store(-1)
		c.at[0] = anchor{}
		t.cells[fh] = c
	}
	return c
}

func (t *tree) giveHandle(fh uint64) {
	if c := t.cells[fh]; c != nil {
		delete(t.cells, fh)
		c.fh.Store(0)
		t.state.handles.give(c)
	}
}

// keepEntry returns the slot of a service: the one it had, or a new one. The
// caller holds tree.mu.
func (t *tree) keepEntry(name string) (slot uint64, c *entryCell) {
	if c := t.known[name]; c != nil {
		delete(t.known, name)
		return c.slot.Load(), c
	}
	t.slot++
	if t.state == nil {
		return t.slot, nil
	}
	t.state.slot.Store(t.slot)
	if c = t.state.entries.take(); c != nil {
		c.name = [len(c.name)]byte{}
		copy(c.name[:len(c.name)-1], name)
		c.slot.Store(t.slot)
	}
	return t.slot, c
}

func (t *tree) giveEntry(c *entryCell) {
	if c != nil {
		c.slot.Store(0)
		t.state.entries.give(c)
	}
}

// note writes where byte 0 of n is. Nobody has seen a byte of it: the request
// after which somebody may is not answered yet, and would be sent again. The
// caller holds mu.
func (n *node) note() {
	c := n.cell
	if c == nil {
		return
	}
	c.seq, c.run = n.start.Seq, n.start.Run
	c.how = uint64(n.start.open) | uint64(n.base-n.start.off)<<8
	if sp := n.span; sp != nil && len(sp.lead) > 0 {
		c.seq, c.how = sp.first, 0 // what it is told, it is told again
	}
	if n.order != nil {
		c.seq, c.run = uint64(n.order.width), uint64(n.order.from)
	}
	c.told.Store(n.told)
	n.noteEnd()
}

// noteEnd writes where the pass over current ends. The caller holds mu.
func (n *node) noteEnd() {
	if n.cell == nil {
		return
	}
	end := n.pins.end.Seq
	if n.pins.thaw {
		end = 0
	}
	n.cell.end.Store(end)
}

// noteTold writes the size told. The caller holds mu.
func (n *node) noteTold() {
	if n.cell != nil && n.cell.told.Load() != n.told {
		n.cell.told.Store(n.told)
	}
}

// begins is the record that byte 0 is in, where positions are offsets.
func (c *nodeCell) begins() pos {
	return pos{Cursor: ring.Cursor{Seq: c.seq, Run: c.run}, off: -int64(c.how >> 8), open: record.Kind(c.how)}
}

// noteAhead writes what is about to be sent, so that the next process knows
// the reads on both sides of it for sequential. The caller holds mu.
func (h *handle) noteAhead() {
	if h.cell != nil {
		h.cell.ahead.Store(h.next)
	}
}

// arrive notes that the reader has got the last answer of another process.
func (h *handle) arrive() {
	h.next, h.ahead = h.ahead, -1
	h.note()
}

// note writes where the reader is and how he reads. The caller holds mu. When
// the mount is being left, that is not true any more: he gets no answers.
func (h *handle) note() {
	c := h.cell
	if c == nil || h.n.e.fs.dev.left.Load() {
		return
	}
	flags := c.flags.Load()&flagSecond ^ flagSecond
	c.at[flags&flagSecond] = h.last.anchor(h.next)
	c.kh, c.pid = h.kh, h.poller.Load().id()
	if h.seekEnd {
		flags |= flagSeekEnd
	}
	if h.polled {
		flags |= flagPolled
	}
	c.flags.Store(flags)
}

// anchor is from where what is read at the offset next can be found.
func (ps *pass) anchor(next int64) anchor {
	if ps.m != nil {
		return ps.m.anchor(next, ps.half && next == ps.next)
	}
	s := ps.stretch()
	a := anchor{next: next, since: s.lines()}
	at := ps.at
	if at.off-s.base > next {
		at = s.from
	}
	a.seq, a.off = at.Seq, at.off-s.base
	if next < s.lines() { // what he was told is told again
		a.seq, a.off, a.since, at.open = s.first, s.off, s.off, 0
	}
	a.set(at.Run, at.open, ps.half && next == ps.next)
	return a
}

func (a *anchor) set(run uint64, open record.Kind, half bool) {
	a.how = run<<16 | uint64(open)<<8
	if half {
		a.how |= 1
	}
}

// pos is the record of the anchor, where positions are offsets.
func (a *anchor) pos() pos {
	return pos{Cursor: ring.Cursor{Seq: a.seq, Run: a.how >> 16}, off: a.off, open: record.Kind(a.how >> 8)}
}

func (a *anchor) half() bool { return a.how&1 != 0 }
