package ring

import "logfs/ring/record"

// A Batch is records on their way into the ring: encoded where they will
// stay, but not visible to any reader before Commit. So they can be written
// to disk first, and what readers have seen is never newer than the files.
type Batch struct {
	r  *Ring
	at Cursor // the number and run of the next Add

	first, run uint64 // at at Begin
	cur        *block // the block being filled; nil before the first record
	n, lines   int    // bytes and records in it, published or not
	from       int    // where this batch begins in cur
	fresh      []*block
	fill       []fill   // what Commit publishes, a row for each block touched
	chunks     [][]byte // what Chunks returns
	last       record.Stamp
}

// fill is what a block holds once the batch is committed.
type fill struct {
	b        *block
	n, lines int
}

// Begin starts a batch. There is one at a time; it belongs to the ring and is
// used again for the next.
func (r *Ring) Begin() *Batch {
	b := &r.batch
	b.first, b.run, b.from = b.at.Seq, b.at.Run, b.n
	b.fresh, b.fill, b.chunks = b.fresh[:0], b.fill[:0], b.chunks[:0]
	return b
}

// First returns the number of the batch's first record.
func (b *Batch) First() uint64 { return b.first }

// Next returns the number of the record after the batch's last.
func (b *Batch) Next() uint64 { return b.at.Seq }

// Run returns the run in force at the batch's first record.
func (b *Batch) Run() uint64 { return b.run }

// Add appends one record. text must not contain a newline; it is copied.
// Text that only a daemon can make must be passed for a mark.
func (b *Batch) Add(t record.Stamp, k record.Kind, more bool, text []byte) {
	b.room(record.Overhead + len(text))
	line := record.Append(b.cur.mem[b.n:b.n], t, k, more, text)
	if k == record.Mark {
		b.mark(line)
	}
	b.added(len(line), t)
}

// Skip makes seq the number and run the run of the next record. What lies
// between is not to be had: if records came before, a lost mark stamped t takes
// its place, so that no reader passes over it without a word. Numbers never go
// back.
func (b *Batch) Skip(t record.Stamp, seq, run uint64) {
	if run != b.at.Run {
		b.leap(b.at.Seq, run)
	}
	switch {
	case seq <= b.at.Seq:
	case b.last == 0: // the first of all
		b.leap(seq, run)
	default:
		b.Add(t, record.Mark, false, record.AppendLost(nil, seq-b.at.Seq))
	}
}

// leap makes seq the number and run the run of the next record, which begins a
// block.
func (b *Batch) leap(seq, run uint64) {
	b.seal()
	b.cur = nil
	b.at.Seq, b.at.Run = seq, run
}

func (b *Batch) added(n int, t record.Stamp) {
	b.n += n
	b.lines++
	b.at.Seq++
	b.last = t
}

// mark counts a mark that takes several numbers or begins a run.
func (b *Batch) mark(line []byte) {
	s := record.Scanner{Buf: line, Seq: b.at.Seq, Run: b.at.Run}
	if r, ok := s.Next(); ok {
		b.at.Seq, b.at.Run = r.Last, r.Run
	}
}

// room makes cur a block with n bytes left.
func (b *Batch) room(n int) {
	if b.cur != nil && len(b.cur.mem)-b.n >= n {
		return
	}
	size := minBlock
	if b.cur != nil {
		size = 2 * len(b.cur.mem)
	}
	b.seal()
	b.cur = b.r.newBlock(n, size)
	b.cur.first, b.cur.run = b.at.Seq, b.at.Run
	b.fresh = append(b.fresh, b.cur)
	b.n, b.lines, b.from = 0, 0, 0
}

// seal notes what the batch put into cur.
func (b *Batch) seal() {
	if b.cur == nil || b.n == b.from {
		return
	}
	b.fill = append(b.fill, fill{b.cur, b.n, b.lines})
	b.chunks = append(b.chunks, b.cur.mem[b.from:b.n:b.n])
	b.from = b.n
}

// Chunks returns the batch in stored form, as slices of whole lines that lie
// in the ring itself. They are valid until Commit.
func (b *Batch) Chunks() [][]byte {
	b.seal()
	return b.chunks
}

// Commit shows the batch to readers and drops what the limits no longer let
// the ring hold.
func (b *Batch) Commit() { b.commit(nil) }

// CommitHeld is Commit for a writer who is not done with what Chunks returned:
// that stays as it is until the chunks returned here, which are the same, are
// released.
func (b *Batch) CommitHeld() (held []Chunk) {
	b.commit(&held)
	b.chunks = nil // the writer's
	return held
}

func (b *Batch) commit(held *[]Chunk) {
	b.seal()
	r := b.r
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, nb := range b.fresh {
		nb.refs = 1
	}
	if held != nil {
		*held = b.pinLocked()
	}
	r.blocks = append(r.blocks, b.fresh...)
	if r.stats.AppendedLines == 0 && len(b.fill) > 0 {
		r.head = startOf(r.base, r.blocks[0])
	}
	for _, f := range b.fill {
		r.publishLocked(f)
	}
	r.tail.Seq, r.tail.Run = b.at.Seq, b.at.Run
	if len(b.fill) > 0 {
		r.last = b.last
		r.tail.Block, r.tail.Off = r.base+uint64(len(r.blocks))-1, b.n
	} else if r.stats.AppendedLines == 0 {
		r.head = r.tail
	}
	r.evictLocked()
}

func (b *Batch) pinLocked() (held []Chunk) {
	for i, f := range b.fill {
		f.b.refs++
		held = append(held, Chunk{Data: b.chunks[i], First: f.b.first, Run: f.b.run, r: b.r, b: f.b})
	}
	return held
}

func (r *Ring) publishLocked(f fill) {
	lines, bytes := uint64(f.lines-f.b.lines), uint64(f.n-f.b.pub)
	f.b.pub, f.b.lines = f.n, f.lines
	r.stats.AppendedLines += lines
	r.stats.AppendedBytes += bytes
	r.stats.HeldLines += lines
	r.stats.HeldBytes += bytes
}
