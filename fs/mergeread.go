package fs

import (
	"math"
	"slices"

	"logfs/ring"
	"logfs/ring/record"
)

// A merger is a reader's way through an order: where he is in every strand. It is
// guarded by handle.mu, and by the order's mu while it reads.
type merger struct {
	o       *order
	threads []*thread    // same indices as o.strands
	heap    []*thread    // with a record that comes, the first of all first
	off     int64        // offset of the record that comes first
	last    *thread      // which was read last
	done    record.Stamp // key of what was read last
	part    rank         // of the record that the last read ended in
	partOf  int          // its size, 0 if the read ended with a record
	// moved says that offsets are not those of the order: lines were lost, or
	// there are others than it took them to be.
	moved bool
	walks bool // it is on its way to where a read is to begin
}

// A thread is a reader's place in a strand.
type thread struct {
	st     *strand
	at     pos
	queued bool // in the heap
	over   bool // it is counted in the strand's over

	rank rank          // of the record that comes
	rec  record.Record // that record, while seen
	n    int           // its stored bytes
	seen bool
	lost *record.Record // comes before at

	hold ring.Chunk // the block of at
	held bool

	feed feed
}

// A mark is a place in an order from which a reader can go on.
type mark struct {
	off  int64
	last int   // index of the strand read last, -1 for none
	at   []pos // in each strand
}

const (
	minSpacing = 256 << 10
	maxMarks   = 64
	// markRoom bounds the memory of the marks of an order, in places.
	markRoom = 1 << 13
	// maxWalk is how much is skipped at a time, with others waiting.
	maxWalk = 4 << 20
)

func newMerger(o *order) *merger {
	m := &merger{o: o}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.readers++
	m.restart()
	return m
}

// restart goes to the beginning.
func (m *merger) restart() { m.jump(mark{last: -1}) }

// jump goes to a mark. Strands that it does not know begin at their start.
func (m *merger) jump(to mark) {
	m.heap, m.off, m.last, m.partOf, m.moved, m.done = m.heap[:0], to.off, nil, 0, false, 0
	m.join()
	for i, t := range m.threads {
		t.leave()
		t.feed.stop(t.st.e.fs)
		t.at, t.queued, t.lost = t.st.start, false, nil
		if i < len(to.at) {
			t.at = to.at[i]
		}
	}
	if to.last >= 0 {
		m.last = m.threads[to.last]
	}
}

// join adds threads for new strands.
func (m *merger) join() {
	for _, st := range m.o.strands[len(m.threads):] {
		m.threads = append(m.threads, &thread{st: st, at: st.start})
	}
}

// mark notes the place before the record that comes first.
func (m *merger) mark() {
	o := m.o
	if n := len(o.marks); m.moved || m.off < o.spacing || n > 0 && m.off < o.marks[n-1].off+o.spacing {
		return
	}
	if slices.ContainsFunc(m.threads, func(t *thread) bool { return t.lost != nil }) {
		return
	}
	at := mark{off: m.off, last: -1, at: make([]pos, len(m.threads))}
	for i, t := range m.threads {
		if at.at[i] = t.at; t == m.last {
			at.last = i
		}
	}
	o.marks = append(o.marks, at)
	if len(o.marks) > max(4, min(maxMarks, markRoom/len(m.threads))) {
		o.spacing *= 2
		for i := range len(o.marks) / 2 {
			o.marks[i] = o.marks[2*i+1]
		}
		clear(o.marks[len(o.marks)/2:])
		o.marks = o.marks[:len(o.marks)/2]
	}
}

// seek goes to off, or to a place not far before it.
func (m *merger) seek(off int64) {
	i := len(m.o.marks) - 1
	for i >= 0 && m.o.marks[i].off > off {
		i--
	}
	switch {
	case i >= 0 && (off < m.off || m.o.marks[i].off > m.off):
		m.jump(m.o.marks[i])
	case off < m.off:
		m.restart()
	}
}

// end goes to the end of the order, whose offset is off.
func (m *merger) end(off int64) {
	m.restart()
	for _, t := range m.threads {
		if t.at = t.st.end; t.st == m.o.last {
			m.last = t
		}
	}
	m.moved = off != m.o.size
	m.off, m.done = off, m.o.floor.key
}

// read fills dst from offset off. load says that nothing can be read before lines
// have been loaded from disk, or the place has been found. The caller holds
// handle.mu and the order's.
func (m *merger) read(dst []byte, off int64, whole, half bool) (n int, load bool) {
	defer m.rest()
	m.seek(off)
	load = m.queue()
	for walked := int64(0); n < len(dst) && !load && len(m.heap) > 0; {
		t := m.heap[0]
		lead, size := m.size(t)
		skip := off + int64(n) - m.off
		if m.partOf > 0 && (m.part != t.rank || m.partOf != lead+size) {
			skip = m.broken(dst, &n, off, half)
		}
		if skip < int64(lead+size) {
			if whole && n > 0 && n+lead+size-int(skip) > len(dst) {
				break
			}
			got := m.copyLine(dst[n:], t, lead, size, int(skip))
			if n += got; int(skip)+got < lead+size {
				m.part, m.partOf = t.rank, lead+size
				break
			}
		} else if walked += int64(lead + size); walked > maxWalk {
			load = true
		}
		m.partOf = 0
		m.pass(t, lead, size)
		load = m.requeue(t) || load
		m.mark()
	}
	return n, load && n == 0
}

// broken puts the record that comes first where the reader is: of the one before
// he has read a part, and the rest is gone.
func (m *merger) broken(dst []byte, n *int, off int64, half bool) (skip int64) {
	if half && *n == 0 && m.o.form == formText {
		*n = copy(dst, "\n")
	}
	m.off, m.moved, m.partOf = off+int64(*n), true, 0
	return 0
}

// size is how many bytes the record of t has, and how many come before: a line of
// another service may be unfinished.
func (m *merger) size(t *thread) (lead, size int) {
	if m.last != nil && m.last != t && m.last.at.open != 0 && m.o.form == formText {
		lead = 1
	}
	return lead, t.st.size(t.at.open, &t.rec)
}

// copyLine copies what size counts, from skip on, as far as dst goes.
func (m *merger) copyLine(dst []byte, t *thread, lead, size, skip int) int {
	b, whole := dst[:0], skip == 0 && lead+size <= len(dst)
	if !whole {
		b = make([]byte, 0, lead+size)
	}
	if lead > 0 {
		b = append(b, '\n')
	}
	if b = t.st.write(b, t.at.open, &t.rec); whole {
		return len(b)
	}
	return copy(dst, b[skip:])
}

// pass goes over the record of t.
func (m *merger) pass(t *thread, lead, size int) {
	if lead > 0 {
		m.last.at.open = 0
	}
	m.off += int64(lead + size)
	m.last, m.done, m.moved = t, t.rank.key, m.moved || t.lost != nil
	t.step(t.rank.key)
}

// queue has all threads in the heap that have something. load says that some have
// to be loaded first.
func (m *merger) queue() (load bool) {
	m.join()
	for _, t := range m.threads {
		if t.queued && t.seen {
			continue
		}
		if t.at.Seq >= t.st.end.Seq && t.lost == nil {
			m.finish(t)
			continue
		}
		found, want := t.look()
		load = load || want
		if found && !t.queued {
			t.queued = true
			m.heap = append(m.heap, t)
		} else if !found && t.queued {
			t.queued = false
			m.heap = slices.DeleteFunc(m.heap, func(o *thread) bool { return o == t })
		}
	}
	for i := len(m.heap)/2 - 1; i >= 0; i-- {
		m.sink(i)
	}
	return load
}

// finish counts t out if its service has left.
func (m *merger) finish(t *thread) {
	if !t.st.gone || t.over {
		return
	}
	t.over = true
	if t.st.over++; t.st.over >= m.o.readers {
		t.feed.stop(t.st.e.fs)
		t.leave()
		t.st.bury()
	}
}

// requeue puts the thread that was first where it belongs now.
func (m *merger) requeue(t *thread) (load bool) {
	found, load := t.look()
	if !found {
		last := len(m.heap) - 1
		t.queued = false
		m.heap[0] = m.heap[last]
		m.heap = m.heap[:last]
	}
	m.sink(0)
	return load
}

// sink moves the thread at i down to its place in the heap.
func (m *merger) sink(i int) {
	h := m.heap
	for {
		least := i
		for _, c := range [2]int{2*i + 1, 2*i + 2} {
			if c < len(h) && h[c].rank.before(h[least].rank) {
				least = c
			}
		}
		if least == i {
			return
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}

// rest lets go of the blocks.
func (m *merger) rest() {
	for _, t := range m.threads {
		t.leave()
	}
}

// stop ends the reading for good.
func (m *merger) stop() {
	m.o.mu.Lock()
	defer m.o.mu.Unlock()
	m.o.readers--
	for _, t := range m.threads {
		t.leave()
		t.feed.stop(t.st.e.fs)
	}
}

func (t *thread) leave() {
	if t.held {
		t.hold.Release()
	}
	t.hold, t.held, t.seen, t.rec = ring.Chunk{}, false, false, record.Record{}
}

// look finds the next record that has bytes, as far as the order goes. load says
// that it has to be loaded.
func (t *thread) look() (found, load bool) {
	t.seen = false
	for t.lost != nil || t.at.Seq < t.st.end.Seq {
		ok, load := t.next()
		if !ok {
			return false, load
		}
		if t.st.ranks(&t.rec, t.st.size(t.at.open, &t.rec)) {
			t.rank, t.seen = rank{t.st.keyOf(&t.at, &t.rec), t.st.e.slot}, true
			return true, false
		}
		t.step(t.at.key)
	}
	return false, false
}

// next finds the next record: rec, with n stored bytes.
func (t *thread) next() (ok, load bool) {
	switch {
	case t.lost != nil:
		t.rec, t.n = *t.lost, 0
		return true, false
	case t.feed.on:
		return t.fed()
	}
	for t.grip() {
		s := record.Scanner{Buf: t.hold.Data[t.at.Off:], Seq: t.at.Seq, Run: t.at.Run}
		left := len(s.Buf)
		if t.rec, ok = s.Next(); ok {
			t.n = left - len(s.Buf)
			return true, false
		}
		if !t.enter(t.at.Block + 1) {
			break
		}
	}
	t.leave()
	t.feed.on, t.at.Block, t.at.Off = true, nowhere, 0
	return t.fed()
}

// nowhere is the block of a thread that is fed.
const nowhere = math.MaxUint64

// grip has the block of at held.
func (t *thread) grip() bool {
	if t.held && t.hold.Block == t.at.Block {
		return true
	}
	t.leave()
	t.hold, t.held = t.st.e.Ring.Chunk(t.at.Block)
	return t.held
}

// enter goes on to a block.
func (t *thread) enter(id uint64) bool {
	c, ok := t.st.e.Ring.Chunk(id)
	if !ok {
		return false
	}
	t.leave()
	t.hold, t.held = c, true
	t.at.Cursor = ring.Cursor{Seq: c.First, Run: c.Run, Block: c.Block}
	return true
}

// step goes over the record that was found, which has the given key.
func (t *thread) step(key record.Stamp) {
	if t.lost != nil {
		at := t.at.Cursor
		t.st.step(&t.at, &t.rec, key, 0)
		t.at.Cursor, t.at.Seq, t.lost = at, t.rec.Last+1, nil
		return
	}
	t.st.step(&t.at, &t.rec, key, t.n)
	if t.feed.on {
		t.feed.lines, t.feed.first = t.feed.lines[t.n:], t.at.Seq
		t.feed.run = t.at.Run
	}
}
