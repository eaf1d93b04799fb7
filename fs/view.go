package fs

import (
	"sort"
	"sync"

	"logfs/ring"
	"logfs/ring/record"
)

// streams says of which streams a directory shows the lines.
type streams uint8

const (
	selAll streams = iota
	selOut
	selErr
	streamKinds
)

// takes says whether records of kind k are in the selection.
func (s streams) takes(k record.Kind) bool {
	switch s {
	case selOut:
		return k == record.Out
	case selErr:
		return k == record.Err
	}
	return true
}

// A form says how records are written.
type form uint8

const (
	formText  form = iota // as current and follow of a service
	formBytes             // as current and follow of stdout and stderr
	formSeq               // as seq
)

// layout is all that decides which bytes a view has.
type layout struct {
	sel     streams
	form    form
	service string
	marks   bool // marks are shown in the text form
	// prefix comes before every line of the text form where the lines of
	// several services are.
	prefix string
	// keyed has positions tell the key of the record before them, see merge.go.
	keyed bool
}

// shows says whether rec has bytes in this layout.
func (l *layout) shows(rec *record.Record) bool {
	if !l.sel.takes(rec.Kind) {
		return false
	}
	return rec.Kind != record.Mark || l.form == formSeq || l.marks
}

// breaks says whether rec ends a line of another stream that was left open:
// the text form then puts a newline before it. Where one stream is shown, only
// marks do that.
func (l *layout) breaks(open record.Kind, rec *record.Record) bool {
	return l.form == formText && open != 0 && open != rec.Kind && (l.sel == selAll || rec.Kind == record.Mark)
}

// begins says whether a shown line begins with rec.
func (l *layout) begins(open record.Kind, rec *record.Record) bool { return open != rec.Kind }

// size is how many bytes rec has when a line of the stream open is unfinished
// before it.
func (l *layout) size(open record.Kind, rec *record.Record) (n int) {
	if l.breaks(open, rec) {
		n = 1
	}
	if !l.shows(rec) {
		return n
	}
	switch l.form {
	case formText:
		if l.begins(open, rec) {
			n += len(l.prefix)
		}
		return n + rec.TextLen(l.service)
	case formBytes:
		return n + rec.BytesLen()
	}
	return n + rec.SeqLen(l.service)
}

// write appends what size counts.
func (l *layout) write(dst []byte, open record.Kind, rec *record.Record) []byte {
	if l.breaks(open, rec) {
		dst = append(dst, '\n')
	}
	if !l.shows(rec) {
		return dst
	}
	switch l.form {
	case formText:
		if l.begins(open, rec) {
			dst = append(dst, l.prefix...)
		}
		return rec.AppendText(dst, l.service)
	case formBytes:
		return rec.AppendBytes(dst)
	}
	return rec.AppendSeq(dst, l.service)
}

// after is the stream whose line is unfinished after rec, 0 for none.
func (l *layout) after(rec *record.Record) record.Kind {
	if rec.More {
		return rec.Kind
	}
	return 0
}

// A pos is the start of a record in a view.
type pos struct {
	ring.Cursor
	off  int64       // absolute position in the view
	open record.Kind // the stream whose line is unfinished here
	// reckoning says which positions off can be compared with: those of the
	// same reckoning. It is 0 where off is not a position in a view, and Block
	// and Off say nothing.
	reckoning uint32
	key       record.Stamp // of the record before, if the layout is keyed
}

// step moves p over rec, whose stored line takes n bytes.
func (p *pos) step(l *layout, rec *record.Record, n int) {
	size := l.size(p.open, rec)
	if l.keyed && l.ranks(rec, size) {
		p.key = l.key(p.key, p.open, rec)
	}
	p.off += int64(size)
	if l.sel.takes(rec.Kind) || l.breaks(p.open, rec) {
		p.open = l.after(rec)
	}
	p.Off += n
	p.Seq, p.Run = rec.Last+1, rec.Run
}

// A view knows where in the bytes of a layout the records of a ring begin. It
// finds that out when asked, not when lines come, so that a service nobody
// reads pays nothing. All methods are safe for concurrent use.
type view struct {
	layout
	ring *ring.Ring

	mu     sync.Mutex // guards all below
	blocks []pos      // where each held block begins, by id, oldest first
	head   pos        // the oldest record held
	end    pos        // behind the newest record measured
	begun  bool
	runs   []ringRun // that the ring has records of, oldest first, and some before
	// reckoning is that of all positions from now on. A new one begins when
	// the size of records had to be guessed, see restartLocked.
	reckoning uint32
}

// lostGuess is how long a view takes a record to have been that the ring
// dropped before the view was asked. It has to be more than 0, so that a reader
// before it is seen to be overtaken; what sizes are told then, see node.shift.
const lostGuess = 80

// catchUp measures what has come since the last call, and returns the
// positions of the oldest record and of the end.
func (v *view) catchUp() (head, end pos) {
	v.mu.Lock()
	defer v.mu.Unlock()
	oldest, newest := v.ring.Held()
	if !v.begun || v.end.Block < oldest.Block {
		v.restartLocked(oldest)
	}
	v.measureLocked(newest)
	v.trimLocked(oldest)
	return v.head, v.end
}

// restartLocked begins anew at the oldest record: the block that was measured
// last is gone from the ring.
func (v *view) restartLocked(oldest ring.Cursor) {
	at := pos{Cursor: oldest}
	switch missed := oldest.Seq - v.end.Seq; {
	case !v.begun:
		v.reckoning = 1
	case missed > 0:
		v.reckoning++
		at.off = v.end.off + lostGuess*int64(missed)
	default:
		at.off, at.open = v.end.off, v.end.open
	}
	at.reckoning = v.reckoning
	if at.reckoning != v.end.reckoning {
		v.runs = v.runs[:0]
	}
	v.begun, v.head, v.end, v.blocks = true, at, at, append(v.blocks[:0], at)
	v.enterRunLocked()
}

// measureLocked walks from the end to newest.
func (v *view) measureLocked(newest ring.Cursor) {
	for v.end.Seq < newest.Seq {
		c, ok := v.ring.Chunk(v.end.Block)
		if !ok {
			return // dropped since Held was asked; the next call restarts
		}
		v.end.walk(&v.layout, c, v.markLocked)
		c.Release()
		if v.end.Seq >= newest.Seq || !v.enterNext(&v.end) {
			return
		}
		v.blocks = append(v.blocks, v.end)
		v.enterRunLocked()
	}
}

// enterNext moves p from behind one block to the start of the next.
func (v *view) enterNext(p *pos) bool {
	c, ok := v.ring.Chunk(p.Block + 1)
	if !ok {
		return false
	}
	defer c.Release()
	p.Cursor = ring.Cursor{Seq: c.First, Run: c.Run, Block: c.Block}
	return true
}

// walk moves p over the records of c, as far as they are whole and yield
// agrees. yield gets the record and the size of its stored line, before p
// has moved over it.
func (p *pos) walk(l *layout, c ring.Chunk, yield func(rec record.Record, n int) bool) {
	s := record.Scanner{Buf: c.Data[p.Off:], Seq: p.Seq, Run: p.Run}
	for {
		left := len(s.Buf)
		rec, ok := s.Next()
		if !ok || !yield(rec, left-len(s.Buf)) {
			return
		}
		p.step(l, &rec, left-len(s.Buf))
	}
}

// trimLocked forgets blocks before oldest, and moves head there.
func (v *view) trimLocked(oldest ring.Cursor) {
	drop := sort.Search(len(v.blocks), func(i int) bool { return v.blocks[i].Block >= oldest.Block })
	if drop > 0 && drop < len(v.blocks) {
		v.blocks = append(v.blocks[:0], v.blocks[drop:]...)
	}
	if v.head.Block < oldest.Block && v.blocks[0].Block == oldest.Block {
		v.head = v.blocks[0]
	}
	c, ok := v.ring.Chunk(v.head.Block)
	if !ok {
		return
	}
	defer c.Release()
	v.head.walk(&v.layout, c, func(rec record.Record, _ int) bool { return rec.Seq < oldest.Seq })
}

// base is the first byte a reader sees who begins at p, in the block c: behind
// the newline that belongs to a line before p.
func (v *view) base(p pos, c ring.Chunk) int64 {
	off, open := p.off, p.open
	if open == 0 {
		return off
	}
	p.walk(&v.layout, c, func(rec record.Record, _ int) bool {
		if v.breaks(open, &rec) {
			off++
		}
		return false
	})
	return off
}

// land returns the start of the first line behind the oldest quarter of what
// is held, the end of the view, and the block of the line, pinned: found is
// false if no line begins there.
func (v *view) land() (p, end pos, c ring.Chunk, found bool) {
	for {
		head, last := v.catchUp()
		p, c, found, ok := v.lineFrom(head.off+(last.off-head.off)/4, last.Seq)
		if ok {
			return p, last, c, found
		}
	}
}

// lineFrom returns the start of the first line at or behind the absolute
// position abs, and its block, pinned; if none is found, the end of the view,
// whose number is end.
// It returns ok false if the ring has dropped the place meanwhile.
func (v *view) lineFrom(abs int64, end uint64) (p pos, c ring.Chunk, found, ok bool) {
	p = v.find(abs)
	c, ok = v.ring.Chunk(p.Block)
	for ok {
		p.walk(&v.layout, c, func(record.Record, int) bool { return p.off < abs || p.open != 0 })
		if p.Off < len(c.Data) {
			return p, c, true, true
		}
		c.Release()
		if c, ok = v.ring.Chunk(p.Block + 1); !ok {
			return p, c, false, p.Seq >= end
		}
		p.Cursor = ring.Cursor{Seq: c.First, Run: c.Run, Block: c.Block}
	}
	return p, c, false, false
}

// breaksAt says whether the record at p, in the block c, breaks a line of the
// stream open.
func (v *view) breaksAt(open record.Kind, p pos, c ring.Chunk) (breaks bool) {
	p.walk(&v.layout, c, func(rec record.Record, _ int) bool {
		breaks = v.breaks(open, &rec)
		return false
	})
	return breaks
}

// seek returns the position of the record with the number seq, and its block,
// pinned: nil at the end of the view. It returns false if the ring does not
// hold such a record, and it is not the next to come.
func (v *view) seek(seq uint64) (p pos, c *ring.Chunk, ok bool) {
	p, c, ok = v.seekNext(seq)
	if ok && p.Seq != seq { // a number within a lost mark
		if c != nil {
			c.Release()
		}
		return pos{}, nil, false
	}
	return p, c, ok
}

// seekNext is seek of the first record with the number seq or greater.
func (v *view) seekNext(seq uint64) (p pos, c *ring.Chunk, ok bool) {
	head, end := v.catchUp()
	if seq < head.Seq || seq > end.Seq {
		return pos{}, nil, false
	}
	if seq == end.Seq {
		return end, nil, true
	}
	p = v.findSeq(seq)
	if p.Seq > seq {
		return pos{}, nil, false
	}
	for p.Seq < seq {
		chunk, ok := v.ring.Chunk(p.Block)
		if !ok {
			return pos{}, nil, false
		}
		p.walk(&v.layout, chunk, func(rec record.Record, _ int) bool { return rec.Seq < seq })
		if p.Seq >= seq && p.Off < len(chunk.Data) {
			return p, &chunk, true
		}
		chunk.Release()
		if !v.enterNext(&p) {
			return p, nil, p.Seq >= seq
		}
	}
	chunk, ok := v.ring.Chunk(p.Block)
	return p, &chunk, ok
}

// findSeq returns the start of the last block that begins at or before the
// record with the number seq.
func (v *view) findSeq(seq uint64) pos {
	v.mu.Lock()
	defer v.mu.Unlock()
	i := sort.Search(len(v.blocks), func(i int) bool { return v.blocks[i].Seq > seq })
	if i == 0 || v.blocks[i-1].Seq < v.head.Seq {
		return v.head
	}
	return v.blocks[i-1]
}

// find returns the start of the last block that begins at or before the
// absolute position abs.
func (v *view) find(abs int64) pos {
	v.mu.Lock()
	defer v.mu.Unlock()
	return findBlock(v.blocks, v.head, abs)
}

// findBlock is find in blocks, which begin with the record head.
func findBlock(blocks []pos, head pos, abs int64) pos {
	i := sort.Search(len(blocks), func(i int) bool { return blocks[i].off > abs })
	if i == 0 || blocks[i-1].off < head.off {
		return head
	}
	return blocks[i-1]
}

// blocksFrom returns where the held blocks with the id from or greater begin.
func (v *view) blocksFrom(from uint64) []pos {
	v.mu.Lock()
	defer v.mu.Unlock()
	i := sort.Search(len(v.blocks), func(i int) bool { return v.blocks[i].Block >= from })
	return append([]pos(nil), v.blocks[i:]...)
}
