package fs

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"sync"
	"time"

	"logfs/ring"
	"logfs/ring/record"
)

// The lines of several services as one.
//
// Every record has a key: the greatest stamp of its service up to it, so that a
// clock that steps back does not change the order within a service. Records are
// merged by their keys, those with the same key in the order of the services'
// slots, and then by number. A line in pieces has one key in the text form: it
// stays together as long as its pieces are there.
//
// An order is what a node knows of that. It goes ahead in rounds: a round adds
// what is due, sorted, behind what has been added before. A record that comes
// too late for its place gets a greater key, which the order remembers. So the
// merge of a node is a function of the records, and every reader of the node
// finds the same bytes at an offset, whenever he reads them.

// reorder is how long a record waits for those of other services that may have
// been stamped before it.
const reorder = 30 * time.Millisecond

// key is the key of rec behind a record with the key before, where a line of the
// stream open is unfinished.
func (l *layout) key(before record.Stamp, open record.Kind, rec *record.Record) record.Stamp {
	if open == rec.Kind && l.form == formText {
		return before
	}
	return max(before, rec.Time())
}

// ranks says whether rec, which has size bytes, has a place among the records of
// others. A mark that is not shown has one, because it ends a line, and so has an
// empty piece, because it may begin one.
func (l *layout) ranks(rec *record.Record, size int) bool {
	return size > 0 || l.form == formText && (rec.Kind == record.Mark || l.sel.takes(rec.Kind))
}

// A strand is one service in an order. All but what is fixed is guarded by the
// order's mu.
type strand struct {
	e *Entry
	layout
	start  pos        // where byte 0 of the node is in it
	end    pos        // behind what the order has
	raised []lateness // ascending
	leaves bool       // the service is no more
	gone   bool       // and the order has all of it
	over   int        // and so many readers have, too
	cut    bool       // a line was ended before it was finished, at end
}

// A lateness says that keys from the number seq on are at least key: the record came
// too late.
type lateness struct {
	seq uint64
	key record.Stamp
}

// maxRaises bounds how many an order remembers of a service. Only a clock that
// was put back makes that many; who reads again what was before them may find
// the lines of different services in another order.
const maxRaises = 1 << 10

// keyOf is the key of rec at p.
func (st *strand) keyOf(p *pos, rec *record.Record) record.Stamp {
	key := st.key(p.key, p.open, rec)
	if len(st.raised) == 0 || st.raised[0].seq > rec.Last {
		return key
	}
	i := sort.Search(len(st.raised), func(i int) bool { return st.raised[i].seq > rec.Last })
	return max(key, st.raised[i-1].key)
}

func (st *strand) raise(seq uint64, key record.Stamp) {
	if len(st.raised) == maxRaises {
		st.raised = append(st.raised[:0], st.raised[maxRaises/2:]...)
	}
	st.raised = append(st.raised, lateness{seq, key})
}

// step moves p over rec, which has the given key and n stored bytes.
func (st *strand) step(p *pos, rec *record.Record, key record.Stamp, n int) {
	p.key = key
	if st.sel.takes(rec.Kind) || st.breaks(p.open, rec) {
		p.open = st.after(rec)
	}
	p.Off += n
	p.Seq, p.Run = rec.Last+1, rec.Run
}

// A rank is the place of a record in the order.
type rank struct {
	key  record.Stamp
	slot uint64
}

func (a rank) before(b rank) bool { return a.key < b.key || a.key == b.key && a.slot < b.slot }

// An order is the merge that a node shows.
type order struct {
	form  form
	sel   streams
	width int          // of the names
	from  record.Stamp // of the point that it begins at, 0 if it is what the rings hold

	members func() []*Entry   // who is there now
	admits  func(*Entry) bool // whether those who may read what was there may read it; nil for any
	changed func() uint64     // another number when that is not the same
	clock   func() time.Time

	mu      sync.Mutex // guards all below; ring locks and tree.mu are taken under it
	strands []*strand
	readers int     // mergers
	seen    uint64  // what changed had returned
	floor   rank    // of the last record
	last    *strand // which that is of
	size    int64   // bytes up to it
	marks   []mark  // ascending
	spacing int64   // of marks
}

// begin begins with what the rings hold, all of it.
func (o *order) begin() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.strands, o.floor, o.last, o.size, o.marks, o.spacing = nil, rank{}, nil, 0, nil, minSpacing
	o.seen = o.changed()
	for _, e := range o.admitted() {
		st := &strand{e: e, layout: o.layout(e)}
		o.size += st.settle(e.mergedView(st.layout))
		o.strands = append(o.strands, st)
		o.ordered(st)
	}
	o.cut()
}

// admitted are the services that are there now and that its readers may read.
// Who could open the file could read all that there were then.
func (o *order) admitted() []*Entry {
	all := o.members()
	if o.admits == nil {
		return all
	}
	return slices.DeleteFunc(all, func(e *Entry) bool { return !o.admits(e) })
}

// openToAll has every service join: the file is read by who may read them all.
func (o *order) openToAll() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.admits = nil
}

// layout is how a service is shown.
func (o *order) layout(e *Entry) layout {
	l := layout{sel: o.sel, form: o.form, service: e.Name, keyed: true}
	if o.form == formText {
		l.marks = o.sel == selAll && e.looks().Marks
		l.prefix = prefixOf(e.Name, o.width)
	}
	return l
}

// settle makes what v holds now the strand, and returns how many bytes that is:
// the first line that is shown begins there, also if it did before.
func (st *strand) settle(v *view) int64 {
	for {
		head, end := v.catchUp()
		more, ok := st.anew(v, head, end)
		if ok {
			st.start, st.end = head, end
			st.start.open = 0
			return end.off - head.off + more
		}
	}
}

// anew returns by how much what follows is longer if no line is unfinished at p.
func (st *strand) anew(v *view, p, end pos) (more int64, ok bool) {
	if p.open == 0 || p.Seq >= end.Seq || st.form != formText {
		return 0, true
	}
	for {
		c, ok := v.ring.Chunk(p.Block)
		if !ok {
			return 0, false
		}
		found := false
		p.walk(&st.layout, c, func(rec record.Record, _ int) bool {
			found = rec.Seq >= end.Seq || st.sel.takes(rec.Kind) || st.breaks(p.open, &rec)
			if found && rec.Seq < end.Seq {
				more = int64(st.size(0, &rec) - st.size(p.open, &rec))
			}
			return !found
		})
		c.Release()
		if found || p.Seq >= end.Seq || !v.enterNext(&p) {
			return more, true
		}
	}
}

// ordered notes how far st goes now.
func (o *order) ordered(st *strand) {
	if r := (rank{st.end.key, st.e.slot}); o.last == nil || o.floor.before(r) {
		o.floor, o.last = r, st
	}
}

// cut ends the lines that are unfinished and have been followed by lines of
// others.
func (o *order) cut() {
	for _, st := range o.strands {
		if st != o.last && st.end.open != 0 && o.form == formText {
			st.end.open, st.cut = 0, true
			o.size++
		}
	}
}

// freeze adds what the rings hold.
func (o *order) freeze() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.round(math.MaxInt64, math.MaxInt64)
}

// advance adds what is due, and returns when it has to be called again because
// something is not: 0 for when there is news.
func (o *order) advance() (again time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := record.Stamp(o.clock().UnixNano())
	limit := o.limit(now)
	if o.round(limit, now+record.Stamp(reorder)) {
		return reorder
	}
	return 0
}

// limit is the greatest key that nothing can come before any more, or the window
// back from now, if that is more. It is asked before the rings are: what was
// committed until then is in them.
func (o *order) limit(now record.Stamp) record.Stamp {
	late := now - record.Stamp(reorder)
	limit := now - 1
	for _, st := range o.strands {
		if limit <= late {
			return late
		}
		if st.gone {
			continue
		}
		if st.e.Due == nil {
			return late
		}
		limit = min(limit, st.e.Due(now)-1)
	}
	return max(limit, late)
}

// round adds the records with keys up to limit, and those that are so far in the
// future that the clock must have been put back. It returns whether there are
// others.
func (o *order) round(limit, future record.Stamp) (rest bool) {
	o.join()
	floor := o.floor
	for _, st := range o.strands {
		if st.gone {
			continue
		}
		if st.behind() && o.extend(st, floor, limit, future) {
			rest = true
		}
		st.gone = st.leaves && !st.behind()
	}
	o.cut()
	return rest
}

// join adds the strands of new services, and has those leave that are gone.
func (o *order) join() {
	seen := o.changed()
	if seen == o.seen {
		return
	}
	o.seen = seen
	known := map[*Entry]*strand{}
	for _, st := range o.strands {
		known[st.e] = st
	}
	for _, e := range o.admitted() {
		if known[e] == nil {
			o.strands = append(o.strands, o.newStrand(e))
		}
		delete(known, e)
	}
	for _, st := range known {
		st.leaves = true
	}
}

// bury lets go of a service that is gone, when all have read it. Who reads again
// what was before finds the lines of others.
func (st *strand) bury() {
	st.e = &Entry{Service: Service{Name: st.e.Name, Ring: ring.New(ring.Limits{Lines: 1, Bytes: 1})}, fs: st.e.fs, slot: st.e.slot}
}

// newStrand is that of a service that was not there when the node was looked up:
// it begins with what it has said since it came.
func (o *order) newStrand(e *Entry) *strand {
	st := &strand{e: e, layout: o.layout(e)}
	p, ok := locate(e.Ring, e.joined)
	if !ok {
		p.Cursor, _ = e.Ring.Held()
	}
	st.start, st.end = p, p
	return st
}

// behind says whether the ring has more than st.
func (st *strand) behind() bool {
	_, next := st.e.Ring.Bounds()
	return next > st.end.Seq
}

// extend adds to st what is due. Records with a rank before floor are too late
// for it. It returns whether there are others.
func (o *order) extend(st *strand, floor rank, limit, future record.Stamp) (rest bool) {
	p := &st.end
	_, next := st.e.Ring.Bounds() // before any block is taken: it has all before that
	c, ok := st.e.Ring.Chunk(p.Block)
	if !ok {
		o.leap(st, floor)
		c, ok = st.e.Ring.Chunk(p.Block)
	}
	for ok {
		s := record.Scanner{Buf: c.Data[p.Off:], Seq: p.Seq, Run: p.Run}
		for !rest {
			left := len(s.Buf)
			rec, whole := s.Next()
			if !whole {
				break
			}
			rest = !o.add(st, &rec, left-len(s.Buf), floor, limit, future)
		}
		c.Release()
		if rest || p.Seq >= next {
			break
		}
		if c, ok = st.e.Ring.Chunk(p.Block + 1); ok {
			p.Cursor = ring.Cursor{Seq: max(p.Seq, c.First), Run: c.Run, Block: c.Block}
		}
	}
	return rest
}

// add adds rec, if it is due.
func (o *order) add(st *strand, rec *record.Record, n int, floor rank, limit, future record.Stamp) bool {
	p := &st.end
	size := st.size(p.open, rec)
	if !st.ranks(rec, size) {
		st.step(p, rec, p.key, n)
		return true
	}
	key := st.keyOf(p, rec)
	if late := (rank{key, st.e.slot}); late.before(floor) {
		key = floor.key + 1
		st.raise(rec.Seq, key)
	} else if key > limit && key <= future {
		return false
	} else if st.cut {
		st.raise(rec.Seq, key) // who reads all of it at once is not to join it again
	}
	st.cut = false
	st.step(p, rec, key, n)
	o.size += int64(size)
	o.ordered(st)
	return true
}

// leap has what the ring has dropped before anybody asked in the order, unseen.
func (o *order) leap(st *strand, floor rank) {
	p := &st.end
	head, _ := st.e.Ring.Held()
	if head.Seq > p.Seq {
		o.size += lostGuess * int64(head.Seq-p.Seq)
		p.key, p.open = max(p.key, floor.key+1), 0
		st.raise(p.Seq, floor.key+1)
		o.ordered(st)
	}
	p.Cursor = head
}

// locate returns where the record with the number seq is in r, or where it will
// be, if it is the next one.
func locate(r *ring.Ring, seq uint64) (p pos, ok bool) {
	oldest, newest := r.Held()
	if seq < oldest.Seq || seq > newest.Seq {
		return p, false
	}
	for id := newest.Block; ; id-- {
		c, ok := r.Chunk(id)
		if !ok {
			return p, false
		}
		if c.First <= seq {
			defer c.Release()
			return locateIn(c, seq)
		}
		c.Release()
		if id == oldest.Block {
			return p, false
		}
	}
}

func locateIn(c ring.Chunk, seq uint64) (p pos, ok bool) {
	s := record.Scanner{Buf: c.Data, Seq: c.First, Run: c.Run}
	var open record.Kind
	for s.Seq < seq {
		rec, ok := s.Next()
		if !ok {
			return p, false
		}
		if open = 0; rec.More {
			open = rec.Kind
		}
	}
	p.Cursor = ring.Cursor{Seq: s.Seq, Run: s.Run, Block: c.Block, Off: len(c.Data) - len(s.Buf)}
	p.open = open
	return p, s.Seq == seq
}

// prefixOf is what comes before the lines of a service: names are padded, so that
// columns line up.
func prefixOf(name string, width int) string {
	return fmt.Sprintf("%-*s | ", width, name)
}

// maxWidth bounds how wide names are padded to be.
const maxWidth = 32

// widthOf is the width for these names.
func widthOf(all []*Entry) (width int) {
	for _, e := range all {
		width = max(width, len(e.Name))
	}
	return min(width, maxWidth)
}

// mergedViews are the views of one service that orders begin with. There is one
// for each layout, and layouts change with the names of other services.
type mergedViews struct {
	mu sync.Mutex
	m  map[layout]*view
}

// maxMergedViews is enough for all files, with one width of names.
const maxMergedViews = 8

func (e *Entry) mergedView(l layout) *view {
	e.merged.mu.Lock()
	defer e.merged.mu.Unlock()
	v := e.merged.m[l]
	if v == nil {
		if len(e.merged.m) >= maxMergedViews || e.merged.m == nil {
			e.merged.m = map[layout]*view{}
		}
		v = &view{ring: e.Ring, layout: l}
		e.merged.m[l] = v
	}
	return v
}
