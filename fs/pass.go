package fs

import (
	"bytes"
	"math"
	"slices"
	"time"

	"logfs/ring"
	"logfs/ring/record"
)

// A pass is a reader's way through the offsets of a handle: where he is, and
// what is being fetched for him. All of it is guarded by handle.mu.
type pass struct {
	h    *handle
	busy bool  // a read that waits has it
	next int64 // offset behind what it read last
	half bool  // that did not end a line

	// Offsets of a handle are those of a view, until the reader is overtaken:
	// what he gets then has other places. Each time begins a stretch.
	stretches []stretch
	cur       int    // the stretch that at is in
	id        uint32 // of that stretch
	own       bool   // the stretches are not those of main
	at        pos    // the record that what was read last ended in, or before
	part      part   // of that record, if it was not read to its end
	past      past
	m         *merger // instead, where lines of several services are merged
	want      int     // how much the read asked for that began the load
	goal      int64   // the absolute position that it began at
	back      bool    // he reads backwards

	// hold keeps the block that a read begins in, so that a mark comes with
	// lines behind it, however fast the ring drops. Only during read.
	hold ring.Chunk
	held bool
}

// A stretch is a run of offsets that have one relation to absolute positions.
type stretch struct {
	id    uint32
	off   int64  // where it begins
	told  []byte // what the reader is told there, before lines come
	first uint64 // the first number of the last mark in told
	base  int64  // the absolute position of offset 0, behind told
	from  pos    // the record that comes behind told
	// reckoning is that of its positions, 0 if they are none in a view.
	reckoning uint32
	exact     bool // its offsets are those that the node has found out
}

func (s *stretch) lines() int64 { return s.off + int64(len(s.told)) }

// A part is a record of which the reader has read a part, size 0 if none.
type part struct {
	seq  uint64
	size int
	kind record.Kind
}

// maxStretches bounds what a handle remembers. Who reads backwards beyond it
// is told that he lost what is there.
const maxStretches = 32

// A request is what one READ asks for.
type request struct {
	off int64
	end pos // of what there is
	// whole asks to end with a line if one fits.
	whole bool
	limit int64 // absolute position in the stretch of where to stop
}

// free says whether a read at off may use ps: lines that are being loaded are
// for the read that goes on where the last one ended.
func (ps *pass) free(off int64) bool { return !ps.busy && (!ps.past.loading || ps.next == off) }

// idle says that nobody waits for ps.
func (ps *pass) idle() bool { return !ps.busy && !ps.past.loading }

// reaches says whether ps is on the way to off, so that it is worth going on
// from where it is.
func (ps *pass) reaches(off int64) bool {
	if !ps.idle() || ps.own || ps.next > off {
		return false
	}
	return ps.cur == len(ps.stretches)-1 || ps.stretches[ps.cur+1].off > off
}

// join makes ps go the way of main, unless it is one that goes on at off and
// has stretches of its own.
func (ps *pass) join(off int64) {
	m := &ps.h.main
	if ps.own && ps.next == off || !ps.own && slices.EqualFunc(ps.stretches, m.stretches, sameStretch) {
		return
	}
	if ps.own {
		ps.past.close(ps.h)
		ps.next, ps.half, ps.part, ps.id = -1, false, part{}, math.MaxUint32
	}
	ps.own, ps.stretches = false, slices.Clone(m.stretches)
	ps.cur = slices.IndexFunc(ps.stretches, func(s stretch) bool { return s.id == ps.id })
}

func sameStretch(a, b stretch) bool { return a.id == b.id }

// stop ends ps for good.
func (ps *pass) stop() {
	ps.past.close(ps.h)
	if ps.m != nil && !ps.past.loading {
		ps.m.stop()
	}
}

// read fills dst and returns how many bytes that were: 0 at the end. load
// says that nothing can be read before lines have been loaded from disk. The
// caller holds mu.
func (ps *pass) read(dst []byte, q request) (n int, load bool) {
	if ps.m != nil {
		return ps.readMerged(dst, q)
	}
	defer ps.letGo()
	s := ps.turn(q.off)
	ps.half = ps.half && q.off == ps.next
	if q.off < s.off {
		ps.lose(&q)
	} else if !ps.lastStretch() {
		// What was told at the next stretch stays where it was told.
		dst = dst[:min(int64(len(dst)), ps.stretches[ps.cur+1].off-q.off)]
	}
	const tries = 3 // memory, disk, and memory again behind the lost lines
	for range tries {
		q.end, _ = ps.h.n.clip(q.end)
		q.limit = ps.limit(q.end)
		n, known := ps.readMemory(dst, q)
		if known {
			return ps.done(dst, q.off, n), false
		}
		if ps.h.n.e.History != nil {
			if n, load, known = ps.readPast(dst, q); known || load {
				return ps.done(dst, q.off, n), load
			}
		}
		if !ps.past.rejoined {
			// Full reads are for those whose offsets still mean something.
			ps.lose(&q)
			q.whole = ps.h.n.kind == follow
		}
		ps.past.rejoined = false
	}
	return 0, false
}

// limit is where the stretch ends, as a position in it. Where its positions
// are not those that end is one of, it has to be found by going there.
func (ps *pass) limit(end pos) int64 {
	s := ps.stretch()
	switch {
	case !ps.lastStretch():
		return ps.stretches[ps.cur+1].off + s.base
	case s.reckoning == end.reckoning && s.reckoning != 0 && !ps.past.feeding:
		return end.off
	}
	return math.MaxInt64
}

// readMemory reads from the ring and what is pinned. It returns false if they
// do not have what comes next.
func (ps *pass) readMemory(dst []byte, q request) (n int, known bool) {
	s := ps.stretch()
	at := max(q.off, s.lines()) + s.base
	switch {
	case ps.past.feeding:
		return 0, false
	case at >= q.limit && q.off >= s.lines():
		ps.arrive(at, q.end)
		return 0, true
	case at < q.limit && !ps.find(at):
		return 0, false
	}
	if q.whole && ps.tooSmall(dst, q) {
		return 0, true
	}
	n = ps.fill(dst, q)
	return n, n > 0 || ps.at.off >= q.limit || ps.at.Seq >= q.end.Seq
}

// done notes what was read.
func (ps *pass) done(dst []byte, off int64, n int) int {
	if n > 0 {
		ps.next, ps.half = off+int64(n), dst[n-1] != '\n'
		if ps.h.n.span != nil { // whose size may be known later than its bytes
			ps.h.n.reach(ps.next)
		}
		ps.h.next, ps.h.last, ps.h.ahead = ps.next, ps, -1
		ps.h.poller.Load().read()
	}
	return n
}

func (ps *pass) stretch() *stretch { return &ps.stretches[ps.cur] }

func (ps *pass) lastStretch() bool { return ps.cur == len(ps.stretches)-1 }

// turn makes the stretch of offset off the one that at is in.
func (ps *pass) turn(off int64) *stretch {
	i := len(ps.stretches) - 1
	for i > 0 && ps.stretches[i].off > off {
		i--
	}
	s := &ps.stretches[i]
	target := max(off, s.lines()) + s.base
	if s.id != ps.id || ps.at.off > target {
		same := ps.id == s.id
		ps.back = same || ps != &ps.h.main
		ps.cur, ps.id, ps.part = i, s.id, part{}
		if !same || !ps.past.again(&ps.at, target) {
			ps.at = s.from
			ps.past.close(ps.h)
		}
	}
	ps.jump(s, target)
	return s
}

// begin begins a new stretch at offset off, and forgets those behind it. told
// comes first and then the record at p, whose first byte is at the absolute
// position abs.
func (ps *pass) begin(off int64, told []byte, first uint64, p pos, abs int64) {
	keep := len(ps.stretches)
	for keep > 0 && ps.stretches[keep-1].off >= off {
		keep--
	}
	h := ps.h
	h.ids++
	s := stretch{id: h.ids, off: off, told: told, first: first, from: p}
	s.base, s.reckoning = abs-s.lines(), p.reckoning
	ps.stretches = append(ps.stretches[:keep], s)
	if drop := len(ps.stretches) - maxStretches; drop > 0 {
		ps.stretches = append(ps.stretches[:0], ps.stretches[drop:]...)
	}
	ps.cur, ps.id, ps.at, ps.part = len(ps.stretches)-1, s.id, p, part{}
	ps.own = ps != &h.main
	if p.reckoning != 0 {
		h.n.shift(s.base)
	}
}

// skipToEnd goes to the end, without a word of what is skipped: it is not
// lost. It returns the offset of the end, told if that means nothing here.
func (ps *pass) skipToEnd(told int64) int64 {
	if ps.m != nil {
		return ps.endMerged(told)
	}
	_, end, _ := ps.h.n.bounds()
	s := ps.turn(math.MaxInt64 >> 1)
	off := max(told, ps.next, s.lines())
	if s.reckoning != end.reckoning {
		ps.past.close(ps.h)
		ps.begin(off, nil, end.Seq, end, end.off)
	} else if off = max(end.off-s.base, s.lines()); off > s.lines() {
		ps.past.close(ps.h)
		ps.at, ps.part = end, part{}
	}
	ps.next, ps.half = off, ps.half && ps.next == off
	return off
}

// ready says whether a read at off would not wait; load says that lines have
// to be loaded before that is known.
func (ps *pass) ready(off int64) (ready, load bool) {
	p := &ps.past
	if p.loading && (!p.early || p.closed || len(p.lines) == 0) {
		return false, false
	}
	if ps.m != nil {
		return ps.readyMerged(off)
	}
	head, end, _ := ps.h.n.bounds()
	if p.feeding && len(p.lines) == 0 && p.err != nil && ps.at.Seq >= end.Seq && !ps.rejoin() {
		return false, false // he waits for a record that is yet to come
	}
	if p.feeding {
		ready = len(p.lines) > 0 || p.err != nil || p.got != nil
		return ready, !ready
	}
	s := ps.stretch()
	switch at := off + s.base; {
	case !ps.lastStretch() || off < s.lines():
		return true, false
	case s.reckoning == end.reckoning && s.reckoning != 0 && (s.reckoning == head.reckoning && at >= head.off || at >= end.off):
		return at < end.off, false
	case ps.h.n.e.History == nil:
		return true, false
	}
	p.feed()
	ps.goal = off + s.base
	return false, true
}

// letGo releases what hold keeps.
func (ps *pass) letGo() {
	if ps.held {
		ps.hold.Release()
	}
	ps.hold, ps.held = ring.Chunk{}, false
}

// chunk returns a block for reading, pinned for the caller.
func (ps *pass) chunk(id uint64) (ring.Chunk, bool) {
	if ps.held && ps.hold.Block == id {
		return ps.hold.Again(), true
	}
	return ps.h.n.chunk(id)
}

// find moves at to the record that holds the absolute position abs, or some
// records before it. It returns false if that is not in memory.
func (ps *pass) find(abs int64) bool {
	const near = 256 << 10
	if ps.at.reckoning != 0 && ps.at.off <= abs && abs-ps.at.off < near {
		if ps.held && ps.hold.Block == ps.at.Block {
			return true
		}
		ps.letGo()
		if ps.hold, ps.held = ps.h.n.chunk(ps.at.Block); ps.held {
			return true
		}
	}
	p, ok := ps.h.n.find(abs)
	if !ok || p.reckoning != ps.stretch().reckoning {
		return false
	}
	ps.at = p
	return true
}

// fill copies what the reader is told, and then lines from memory.
func (ps *pass) fill(dst []byte, q request) (n int) {
	n = ps.fillTold(dst, q.off)
	for n < len(dst) && ps.at.off < q.limit && ps.at.Seq < q.end.Seq {
		c, ok := ps.chunk(ps.at.Block)
		if !ok {
			return n
		}
		if ps.at.Off >= len(c.Data) {
			c.Release()
			if c, ok = ps.chunk(ps.at.Block + 1); !ok {
				return n
			}
			ps.at.Cursor = ring.Cursor{Seq: c.First, Run: c.Run, Block: c.Block}
		}
		more := false
		n, _, more = ps.copyLines(dst, n, q, c.Data[ps.at.Off:])
		c.Release()
		if !more {
			return n
		}
	}
	return n
}

func (ps *pass) fillTold(dst []byte, off int64) int {
	s := ps.stretch()
	if off >= s.lines() {
		return 0
	}
	return copy(dst, s.told[off-s.off:])
}

// copyLines copies from stored lines that begin at at, and moves at. It
// returns n, now with what it copied, and what is left of lines; more says
// that they ended before dst and the limit did.
func (ps *pass) copyLines(dst []byte, n int, q request, lines []byte) (_ int, rest []byte, more bool) {
	l, only := &ps.h.n.v.layout, ps.h.n.only()
	s := record.Scanner{Buf: lines, Seq: ps.at.Seq, Run: ps.at.Run}
	for ps.at.off < q.limit && ps.at.Seq < q.end.Seq {
		before := s.Buf
		rec, ok := s.Next()
		if !ok {
			return n, nil, true
		}
		if only > 0 && rec.Run > only {
			ps.h.n.stopAt(rec.Seq)
			return n, before, false
		}
		size := l.size(ps.at.open, &rec)
		skip := int(q.off + int64(n) + ps.stretch().base - ps.at.off) // bytes of rec before what is asked
		if skip < size {
			if q.whole && n > 0 && n+size-skip > len(dst) {
				return n, before, false
			}
			got := copyLine(dst[n:], l, ps.at.open, &rec, size, skip)
			if n += got; skip+got < size {
				ps.part = part{rec.Seq, size, rec.Kind}
				return n, before, false
			}
		}
		ps.at.step(l, &rec, len(before)-len(s.Buf))
		if n == len(dst) {
			return n, s.Buf, false
		}
	}
	return n, s.Buf, false
}

// copyLine copies a record's bytes from skip on, as far as dst goes.
func copyLine(dst []byte, l *layout, open record.Kind, rec *record.Record, size, skip int) int {
	if skip == 0 && size <= len(dst) {
		return len(l.write(dst[:0], open, rec))
	}
	return copy(dst, l.write(make([]byte, 0, size), open, rec)[skip:])
}

// tooSmall says that dst is not to be filled because it would break a line.
// A poller such as tail asks for as many bytes as the size has grown by. Once
// he has been overtaken that says nothing about where lines end, and what he
// leaves unread he asks for again. Others have to live with broken lines.
func (ps *pass) tooSmall(dst []byte, q request) bool {
	const small = 4096
	if !ps.h.seekEnd || ps.half || len(ps.stretches) == 1 || len(dst) >= small {
		return false
	}
	var line [small]byte
	n := ps.peek(line[:], q)
	return n > len(dst) && bytes.IndexByte(line[:len(dst)], '\n') < 0
}

// peek is fill without moving.
func (ps *pass) peek(dst []byte, q request) int {
	at, part := ps.at, ps.part
	defer func() { ps.at, ps.part = at, part }()
	return ps.fill(dst, q)
}

// lose moves a reader whose lines are gone, and puts a mark that says so
// where he reads next. He lands a quarter of what is held ahead, at the start
// of a line: at the oldest record he would be overtaken again before his next
// read. q gets the end of the view.
func (ps *pass) lose(q *request) {
	v := ps.h.n.v
	ps.past.close(ps.h)
	ps.letGo()
	var land, end pos
	land, end, ps.hold, ps.held = v.land()
	abs := land.off
	var next []byte
	if stop, past := ps.h.n.passes(&land, ps.at.Seq); past {
		land, abs, end = stop, ps.at.off, stop
	} else if ps.held {
		abs, next = v.base(land, ps.hold), ps.hold.Data[land.Off:]
	}
	told, first := ps.unread(q.off)
	ps.begin(q.off, ps.tell(told, first, land, next), first, land, abs)
	if end.Seq > q.end.Seq {
		q.end = end
	}
}

// unread returns what the reader has not read yet of what he was told, and
// the first number he has not been told of.
func (ps *pass) unread(off int64) (told []byte, first uint64) {
	s := ps.stretch()
	switch {
	case off == s.off && len(s.told) > 0:
		return nil, s.first // nothing of it: it becomes one mark with the next
	case off > s.off && off < s.lines():
		return append([]byte(nil), s.told[off-s.off:]...), ps.at.Seq
	case off < s.off || ps.at.off > off+s.base:
		return nil, s.from.Seq
	}
	return nil, ps.at.Seq
}

// tell appends to told that the numbers from first to land are lost. next is
// stored lines that begin with the record at land: the mark is older than it.
func (ps *pass) tell(told []byte, first uint64, land pos, next []byte) []byte {
	v := ps.h.n.v
	if ps.half && len(told) == 0 && v.form != formBytes {
		told = append(told, '\n')
	}
	if counted := max(first, ps.at.Seq); land.Seq > counted {
		ps.h.n.e.readerLost.Add(land.Seq - counted)
	}
	if land.Seq > first {
		told = v.lost(told, first, land.Seq-1, land.Run, next)
	}
	return told
}

// stampOf is the stamp that stored lines begin with, or that of now.
func stampOf(lines []byte) record.Stamp {
	if t, ok := record.ParseStamp(lines); ok {
		return t
	}
	return record.Stamp(time.Now().UnixNano())
}
