package fs

import (
	"math"
	"slices"
	"sync"
	"syscall"
	"time"

	"logfs/ring"
	"logfs/ring/record"
)

// A span is what a node knows whose selection reaches into the past. Its byte 0
// is found when it is looked up, and its offsets are counted from there: where
// they are in the view is found from the sizes of what lies between. It pins
// nothing.
type span struct {
	run uint64 // that of all its records; 0 for any

	// lead is what is told at byte 0: that the numbers from first on are gone.
	lead  []byte
	first uint64
	marks []landmark // where offsets are, growing; guarded by node.mu

	mu        sync.Mutex // guards the following; only view.mu is locked under it
	until     pos        // behind the last record of the run; number 0 while that is not known
	anchor    landmark   // a record whose offset is known
	measuring bool
}

// A landmark is a record with its offset: that of its first byte or, if the line
// of another stream is open there, of the newline that may come before.
type landmark struct {
	off      int64
	seq, run uint64
	open     record.Kind
}

// ownReckoning is that of a node whose positions are its offsets, because it
// ends before the ring begins.
const ownReckoning = 1<<32 - 1

// settleSpan finds out where the selection begins, and its size. It may wait
// for the disk, and nobody else has n yet.
func (n *node) settleSpan(sel *selection, now time.Time) error {
	from, asked, err := n.origin(sel, now)
	for tries := 0; err == nil; tries++ {
		var ok bool
		if ok, err = n.measure(from, asked); ok {
			break
		}
		if tries == 10 { // the ring drops all it has faster than this
			err = syscall.EAGAIN
		}
	}
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.first.Store(n.base)
	n.freezeLocked()
	return nil
}

// origin returns the first number of the selection. asked says that it was
// named: then it is told if it is gone.
func (n *node) origin(sel *selection, now time.Time) (from uint64, asked bool, err error) {
	sp := n.span
	if sel.run > 0 {
		over := n.e.Ring.Run() > sel.run // asked first: if so, its last record is known
		r, ok, err := n.e.findRun(sel.run)
		if err != nil || !ok {
			return 0, false, noneOr(err)
		}
		from = r.First
		if over {
			sp.until.Seq = r.Last + 1
		}
	}
	if sel.ranged {
		if from, asked, err = n.e.begin(sel.point, from, now); err != nil {
			return 0, false, err
		}
	}
	if u := sp.until.Seq; u > 0 {
		from = min(from, u)
	}
	return from, asked, nil
}

func noneOr(err error) error {
	if err == nil {
		return syscall.ENOENT
	}
	return err
}

// begin returns the first number from p on, at least least.
func (e *Entry) begin(p point, least uint64, now time.Time) (from uint64, asked bool, err error) {
	var boot time.Time
	if p.kind == pointBoot {
		if boot, err = bootTime(now); err != nil {
			return 0, false, err
		}
	}
	o := p.at(now, boot)
	if o.byTime {
		from, err = e.findTime(o.at)
		return max(from, least), false, err
	}
	return max(o.seq, least), o.seq > 0 && o.seq >= least, nil
}

// findTime returns the number of the first record with the stamp t or later,
// that of the next one to come if there is none. The ring may have records that
// retention has deleted.
func (e *Entry) findTime(t record.Stamp) (uint64, error) {
	before := uint64(math.MaxUint64)
	if e.History != nil {
		seq, ok, err := e.History.Find(t)
		if err != nil {
			return 0, err
		}
		if ok {
			before = seq
		}
	}
	return min(findHeld(e.Ring, t, before), before), nil
}

// findHeld returns the number of the first record in the ring with the stamp t
// or later among those before the number before, that of the next one to come if
// there is none.
func findHeld(r *ring.Ring, t record.Stamp, before uint64) uint64 {
	at, end := r.Held()
	for c, ok := r.Chunk(at.Block); ok; c, ok = r.Chunk(c.Block + 1) {
		s := record.Scanner{Buf: c.Data, Seq: c.First, Run: c.Run}
		for rec, more := s.Next(); more && rec.Seq < before; rec, more = s.Next() {
			if rec.Seq >= at.Seq && rec.Time() >= t {
				c.Release()
				return rec.Seq
			}
		}
		c.Release()
		if s.Seq >= before {
			break
		}
	}
	return end.Seq
}

// measure finds out where byte 0 is if the selection begins with the number
// from. It returns false if the ring has dropped what was being looked at.
func (n *node) measure(from uint64, asked bool) (ok bool, err error) {
	sp, v := n.span, n.v
	head, end := v.catchUp()
	if u := sp.until.Seq; u > 0 && u <= head.Seq {
		return true, n.measurePast(from, u, asked)
	}
	if from > end.Seq { // nothing of it has been said yet
		n.start, n.base = pos{}, 0
		n.start.Seq, n.start.Run, sp.anchor = from, end.Run, landmark{seq: from}
		return true, nil
	}
	m := meter{l: &v.layout}
	if from < head.Seq {
		if err := m.history(n.e.History, from, head.Seq, asked); err != nil {
			return false, err
		}
	}
	p, c, ok := v.seekNext(max(from, head.Seq))
	if !ok {
		return false, nil
	}
	abs := p.off
	var next []byte
	if c != nil {
		defer c.Release()
		abs, next = v.base(p, *c), c.Data[p.Off:]
	}
	m.reach(&p, next, from, asked)
	n.begins(&m, p, abs)
	if u := sp.until.Seq; u > 0 {
		return n.ends(u), nil
	}
	return true, nil
}

// begins puts byte 0 where m has begun: m has come to the record at p, whose
// first byte is at the absolute position abs.
func (n *node) begins(m *meter, p pos, abs int64) {
	sp := n.span
	n.base, n.reckoning = abs-m.at.off, p.reckoning
	sp.lead, sp.first, sp.marks = m.lead, m.first, m.marks
	sp.anchor = m.at
	if len(m.marks) == 0 {
		n.start = p
		return
	}
	n.start = m.marks[0].pos(n.base)
}

// ends notes where the run ends, whose last record is in the ring. It returns
// false if that is not there any more.
func (n *node) ends(until uint64) bool {
	p, c, ok := n.v.seekNext(until)
	if c != nil {
		c.Release()
	}
	n.span.until = p
	return ok
}

// measurePast is measure of a run that has ended, and that the ring has dropped.
func (n *node) measurePast(from, until uint64, asked bool) error {
	sp, m := n.span, meter{l: &n.v.layout}
	if err := m.history(n.e.History, from, until, asked); err != nil {
		return err
	}
	n.start = pos{}
	n.start.Seq = until
	if len(m.marks) > 0 {
		n.start = m.marks[0].pos(0)
	}
	n.base, n.reckoning = 0, ownReckoning
	sp.lead, sp.first, sp.marks, sp.anchor = m.lead, m.first, m.marks, m.at
	sp.until.off, sp.until.reckoning = m.at.off, ownReckoning
	return nil
}

// pos is the record at l, where offset 0 is at the absolute position base.
func (l *landmark) pos(base int64) (p pos) {
	p.Seq, p.Run, p.off, p.open = l.seq, l.run, l.off+base, l.open
	return p
}

// clip returns the end of what n shows if the view ends at end. over says that
// nothing more will come: the run has ended.
func (n *node) clip(end pos) (_ pos, over bool) {
	sp := n.span
	if sp == nil || sp.run == 0 {
		return end, false
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.until.Seq == 0 {
		sp.until = n.v.endOf(sp.run)
	}
	switch {
	case sp.until.Seq == 0:
		return end, n.v.exited(sp.run)
	case sp.until.Seq > end.Seq: // of a pass that began before that
		return end, false
	}
	return sp.until, true
}

// stopAt notes that the first record of a later run was met.
func (n *node) stopAt(seq uint64) {
	sp := n.span
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.until.Seq == 0 {
		sp.until.Seq = seq
	}
}

// bounds is view.catchUp, as far as n shows it.
func (n *node) bounds() (head, end pos, over bool) {
	head, end = n.v.catchUp()
	end, over = n.clip(end)
	return head, end, over
}

// landmark returns the last landmark at or before the offset off.
func (n *node) landmark(off int64) (l landmark, ok bool) {
	if n.span == nil {
		return l, false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return lastAt(n.span.marks, off)
}

// spanSizeLocked is size of a span, whose view ends at end.
func (n *node) spanSizeLocked(end pos) int64 {
	known := n.reckoning != 0 && end.reckoning == n.reckoning
	if !known && !n.findAgainLocked() {
		n.measureLater()
	}
	if n.reckoning != 0 && end.reckoning == n.reckoning {
		n.told = max(n.told, end.off-n.base)
		n.span.mu.Lock()
		n.span.anchor = landmark{off: end.off - n.base, seq: end.Seq, run: end.Run, open: end.open}
		n.span.mu.Unlock()
	}
	n.told = max(n.told, n.reached.Load())
	n.noteTold()
	return n.told
}

// findAgainLocked finds the view's place of byte 0, if the ring has the anchor.
func (n *node) findAgainLocked() bool {
	sp := n.span
	sp.mu.Lock()
	at := sp.anchor
	sp.mu.Unlock()
	p, c, ok := n.v.seek(at.seq)
	if !ok {
		return false
	}
	abs := p.off
	m := meter{l: &n.v.layout, at: at}
	if c != nil {
		abs = n.v.base(p, *c)
		m.seam(c.Data[p.Off:])
		c.Release()
	}
	n.base, n.reckoning = abs-m.at.off, p.reckoning
	n.first.Store(n.base)
	return true
}

// measureLater finds out on a goroutine of its own where the offsets of n are in
// the view: the ring has gone on too far to tell.
func (n *node) measureLater() {
	sp := n.span
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.measuring || n.e.History == nil {
		return
	}
	sp.measuring = true
	at, until := sp.anchor, sp.until.Seq
	n.e.fs.askLater(func() { n.measureAgain(at, until) })
}

// measureAgain goes on from the anchor to what the ring has now, or to the end
// of the run. It may wait for the disk.
func (n *node) measureAgain(at landmark, until uint64) {
	sp := n.span
	if sp.run > 0 && until == 0 && n.e.Ring.Run() > sp.run {
		if r, ok, err := n.e.findRun(sp.run); err == nil && ok {
			until = r.Last + 1
		}
	}
	head, _ := n.v.catchUp()
	to, past := head.Seq, until > 0 && until <= head.Seq
	if past {
		to = until
	}
	m, before := meter{l: &n.v.layout, at: at}, n.marksBefore(at)
	err := m.history(n.e.History, at.seq, to, true)

	n.mu.Lock()
	defer n.mu.Unlock()
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.measuring = false; err != nil {
		return
	}
	sp.anchor, sp.until.Seq = m.at, until
	if len(sp.marks) == 0 {
		sp.marks = append(before, m.marks...)
	}
	if past {
		sp.until.off, sp.until.reckoning = m.at.off, ownReckoning
		n.base, n.reckoning = 0, ownReckoning
		n.first.Store(0)
	}
}

// marksBefore finds the landmarks of a node of another process, from the record
// at that is known of it back to byte 0.
func (n *node) marksBefore(at landmark) []landmark {
	if n.start.Seq >= at.seq {
		return nil
	}
	m := meter{l: &n.v.layout}
	if err := m.history(n.e.History, n.start.Seq, at.seq, false); err != nil {
		return nil
	}
	for i := range m.marks {
		m.marks[i].off += at.off - m.at.off
	}
	return slices.DeleteFunc(m.marks, func(l landmark) bool { return l.off < 0 })
}

// stretch is that with which a handle of n begins. The caller holds mu.
func (n *node) stretch() stretch {
	s := stretch{base: n.base, reckoning: n.reckoning, from: n.start}
	if n.span != nil {
		s.told, s.first, s.exact = n.span.lead, n.span.first, true
	}
	return s
}

// only is the run that n shows, 0 if it shows all.
func (n *node) only() uint64 {
	if n.span == nil {
		return 0
	}
	return n.span.run
}

// passes says whether a reader who lands at land, because what comes behind the
// number at is gone, is beyond the run, and returns its end.
func (n *node) passes(land *pos, at uint64) (stop pos, past bool) {
	run := n.only()
	if run == 0 || land.Run <= run {
		return stop, false
	}
	if _, over := n.clip(*land); !over {
		n.stopAt(at)
	}
	n.span.mu.Lock()
	defer n.span.mu.Unlock()
	stop = n.span.until
	stop.reckoning, stop.Run = 0, run
	stop.Seq = max(stop.Seq, at)
	return stop, true
}

// isAt says whether the record with the number seq is a landmark with that
// offset.
func (n *node) isAt(seq uint64, off int64) bool {
	l, ok := n.landmark(off)
	return ok && l.seq == seq && l.off == off
}

// reachFed notes that a reader who is fed from disk can read up to the offset
// off, and probably further.
func (n *node) reachFed(off int64) {
	if n.span == nil {
		off += maxLoad
	}
	n.reach(off)
}

// restoredSpan is that of a node of another process: it is found out again
// where its offsets are.
func restoredSpan(c *nodeCell) *span {
	at := c.begins()
	return &span{run: c.only, anchor: landmark{off: at.off, seq: at.Seq, open: at.open}}
}

// moveAnchor makes the record that offsets are counted from the anchor.
func (n *node) moveAnchor() {
	if n.span != nil {
		n.span.anchor = landmark{off: n.offset.off, seq: n.offset.Seq, open: n.offset.open}
	}
}
