package fs

import (
	"syscall"
	"time"

	"logfs/ring"
	"logfs/ring/record"
)

// The directory of all services. It has an entry as they do, which has no lines
// of its own: its nodes have an order, and its handles merge the lines of others.
const (
	allName = "all"
	// allSlot is greater than that of any service.
	allSlot = 1 << 39
	// gapAll is how long the readers of all are not woken again.
	gapAll = 2 * time.Millisecond
)

func newAll(s *Server) *Entry {
	e := newEntry(Service{Name: allName, Ring: ring.New(ring.Limits{Lines: 1, Bytes: 1})}, s, allSlot)
	s.tree.slots[allSlot] = e
	return e
}

// isAll says whether e is not a service, but all of them.
func (e *Entry) isAll() bool { return e.slot == allSlot }

// everyone returns the services, in any order.
func (t *tree) everyone() []*Entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]*Entry, 0, len(t.entries))
	for _, e := range t.entries {
		all = append(all, e)
	}
	return all
}

// newOrder is that of a file that is looked up now.
func (s *Server) newOrder(sel streams, k fileKind) *order {
	o := &order{sel: sel, form: formText, members: s.tree.everyone, changed: s.changes.Load, clock: time.Now}
	looks := s.allLooks()
	o.admits = func(e *Entry) bool { return s.looksOf([]*Entry{e}).allow(looks) }
	if k == seq {
		o.form = formSeq
	}
	o.width = widthOf(s.tree.everyone())
	return o
}

// allow says whether all may read whom of lets in, its owner aside.
func (l Looks) allow(of Looks) bool {
	wants := of.Mode & 0o077
	if of.Gid != l.Gid {
		wants |= wants >> 3 & 0o007
	}
	return l.Mode&wants == wants
}

// mayReadAll says whether a user may read every service there ever will be.
func (s *Server) mayReadAll(uid uint32) bool { return uid == 0 || uid == s.owner.Uid }

// allLooks lets in who may read every service.
func (s *Server) allLooks() Looks {
	all := s.tree.everyone()
	if len(all) == 0 {
		return Looks{Uid: s.owner.Uid, Gid: s.owner.Gid, Mode: 0o500}
	}
	return s.looksOf(all)
}

// looksOf lets in who may read all of these.
func (s *Server) looksOf(all []*Entry) Looks {
	const read = 0o5
	owner, group, others := uint32(read), uint32(read), uint32(read)
	gids := map[uint32]bool{}
	for _, e := range all {
		l := e.looks()
		gids[l.Gid] = true
		// Whom a service keeps out as its owner, or for his group, must not come
		// in as somebody else.
		owner &= l.Mode >> 6
		group &= owner & (l.Mode >> 3)
		others &= group & l.Mode
	}
	l := Looks{Uid: s.owner.Uid, Gid: s.owner.Gid}
	if len(gids) > 1 {
		group = others
	}
	for gid := range gids {
		if len(gids) == 1 {
			l.Gid = gid
		}
	}
	l.Mode = owner<<6 | group<<3 | others
	return l
}

// lastLine is when any service spoke last.
func (s *Server) lastLine() time.Time {
	var last record.Stamp
	for _, e := range s.tree.everyone() {
		last = max(last, e.Ring.Last())
	}
	if last == 0 {
		return s.born
	}
	return time.Unix(0, int64(last))
}

// mayBe says whether there can be such a directory: what all services say
// together has no runs, and no numbers.
func (d *directory) mayBe() bool {
	return !d.e.isAll() || d.run == 0 && d.kind != dirRuns && !(d.ranged && d.point.kind == pointNumber)
}

// settleAll makes an order begin at a point. It may wait for the disk; nobody else
// has n yet.
func (n *node) settleAll(p point, now time.Time) (err error) {
	var boot time.Time
	if p.kind == pointBoot {
		if boot, err = bootTime(now); err != nil {
			return err
		}
	}
	return n.order.beginAt(max(p.at(now, boot).at, 1))
}

// advance adds to the order what is due, and sees to it that somebody comes back
// when more is.
func (n *node) advance() {
	if n.kind != follow {
		return
	}
	if n.e.isGone() {
		n.order.freeze()
		return
	}
	if again := n.order.advance(); again > 0 {
		n.e.wakeIn(again)
	}
}

// orderSizeLocked is size of a node with an order.
func (n *node) orderSizeLocked() int64 {
	if n.kind == follow {
		n.advance()
	} else if n.opens > 0 {
		n.freezeLocked()
	}
	n.told = max(n.told, n.order.length()+n.shifted.Load(), n.reached.Load())
	n.noteTold()
	return n.told
}

// length is how many bytes the order has.
func (o *order) length() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.size
}

// wakeIn wakes those who wait after a while, or before.
func (e *Entry) wakeIn(d time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.armed || e.gone {
		return
	}
	e.armed = true
	if e.timer == nil {
		e.timer = time.AfterFunc(d, e.wakeLate)
	} else {
		e.timer.Reset(d)
	}
}

// wakeReadersOfAll is Wake for those who read what all services say. They are
// woken on another goroutine than the writer's.
func (s *Server) wakeReadersOfAll() {
	if a := s.all; a.count.Load() > 0 && a.mayWake(gapAll) {
		go a.wakeAll()
	}
}

// beginAt makes the order begin with what was said at the moment from or later, and
// end with what the rings hold. It may wait for the disk; nobody else has o yet.
func (o *order) beginAt(from record.Stamp) error {
	o.begin()
	o.from, o.size = from, 0
	for _, st := range o.strands {
		seq, err := st.e.findTime(from)
		if err != nil {
			return err
		}
		size, err := st.beginAt(seq)
		if err != nil {
			return err
		}
		o.size += size
		if st.cut {
			o.size++
		}
	}
	return nil
}

// beginAt makes the strand begin with the number seq, and returns its size up to
// its end, which stays: what is said while the disk is waited for comes behind what
// the others have now. Of what is only on disk every record is taken for a line: a line in
// pieces makes it too great.
func (st *strand) beginAt(seq uint64) (size int64, err error) {
	v := st.e.mergedView(st.layout)
	for range 10 {
		head, end := v.catchUp()
		p, c, ok := v.seekNext(max(seq, head.Seq))
		if !ok {
			continue
		}
		if c != nil {
			c.Release()
		}
		if end.reckoning != st.end.reckoning || p.Seq > st.end.Seq {
			end.open = st.end.open
			st.end = end
		}
		st.start = p
		st.start.open, st.start.key = 0, 0
		size = max(st.end.off-p.off, 0)
		if seq < head.Seq && st.e.History != nil {
			err = st.reachBack(seq, head.Seq, &size)
		}
		return size, err
	}
	return 0, syscall.EAGAIN
}

// reachBack makes the strand begin on disk, as far as there is anything from the
// number from to to-1.
func (st *strand) reachBack(from, to uint64, size *int64) error {
	parts, err := st.e.History.Parts(from, to)
	for i, p := range parts {
		if *size += st.total(&p.Sizes); i == 0 {
			st.start = pos{Cursor: ring.Cursor{Seq: max(from, p.First), Run: p.Run, Block: nowhere}}
		}
	}
	return err
}

// total is how many bytes records of these sizes have, if none is a piece of a
// line.
func (st *strand) total(s *record.Sizes) int64 {
	n := int64(len(st.prefix)) * st.linesOf(s)
	switch {
	case st.form != formText || st.sel == selAll:
		return n + st.layout.total(s)
	case st.sel == selOut:
		return n + s.Out.Text
	}
	return n + s.Err.Text
}

// linesOf is how many lines have the prefix, if none is in pieces.
func (l *layout) linesOf(s *record.Sizes) (n int64) {
	if l.sel != selErr {
		n += s.Out.Records
	}
	if l.sel != selOut {
		n += s.Err.Records
	}
	if l.marks {
		n += s.Marks.Records
	}
	return n
}
