package ring

import (
	"math"
	"sync"

	"logfs/ring/record"
)

// Default limits of a ring.
const (
	DefaultLines = 10_000
	DefaultBytes = 4 << 20
)

// Blocks begin small, so that a silent service costs little, and double up to
// a sixteenth of the ring, so that dropping one block gives little away.
const (
	minBlock = 4 << 10
	maxBlock = 256 << 10
)

// Limits bound a ring. The newest record is held whatever they say.
type Limits struct {
	// Lines is the greatest number of records held; 0 or less is DefaultLines.
	Lines int
	// Bytes is the greatest number of stored bytes held, stamps included;
	// 0 or less is DefaultBytes.
	Bytes int64
}

func (l Limits) orDefaults() Limits {
	if l.Lines <= 0 {
		l.Lines = DefaultLines
	}
	if l.Bytes <= 0 {
		l.Bytes = DefaultBytes
	}
	return l
}

// Stats counts records and their stored bytes since the ring was made.
type Stats struct {
	AppendedLines, HeldLines, EvictedLines uint64
	AppendedBytes, HeldBytes, EvictedBytes uint64
	// PinnedBytes is memory of blocks the ring has dropped and a reader holds.
	PinnedBytes uint64
}

// A Ring holds the newest records of one service.
type Ring struct {
	batch Batch // the writer's; not guarded

	mu     sync.Mutex // guards all below
	limits Limits
	blocks []*block // held, oldest first; blocks[i] has the id base+i
	base   uint64
	head   Cursor // the oldest record held
	tail   Cursor // behind the newest record
	last   record.Stamp
	stats  Stats
	spare  *block // one dropped block nobody pins, to be used again
	keep   uint64 // records from this number on are not dropped
}

// A Cursor is a position between two records.
type Cursor struct {
	// Seq is the number of the record that comes next.
	Seq uint64
	// Run is the run in force there.
	Run uint64
	// Block is the id of the block the position is in, and Off the number
	// of stored bytes of that block before it.
	Block uint64
	Off   int
}

// block is memory for records. mem[:pub] is published and never changes
// until refs is 0; mem beyond it is the writer's.
type block struct {
	mem        []byte
	first, run uint64 // number of its first record, run in force there

	pub   int // guarded by Ring.mu, as are the following
	lines int // records in mem[:pub]
	refs  int // the ring's, while held, and one for each chunk
}

// New makes an empty ring whose first record gets the number 1.
func New(l Limits) *Ring {
	r := &Ring{limits: l.orDefaults(), keep: KeepNone}
	r.batch.r = r
	r.Start(1, 0)
	return r
}

// Start sets the number of the next record and the run in force, on a ring
// that has held nothing yet.
func (r *Ring) Start(next, run uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := Cursor{Seq: next, Run: run}
	r.head, r.tail, r.batch.at = c, c, c
}

// Bounds returns the number of the oldest record held and of the next record
// to come; they are equal when nothing is held.
func (r *Ring) Bounds() (first, next uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.head.Seq, r.tail.Seq
}

// Held returns the positions of the oldest record held and behind the newest.
func (r *Ring) Held() (oldest, end Cursor) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.head, r.tail
}

// Run returns the run in force: that of the newest record.
func (r *Ring) Run() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tail.Run
}

// Last returns the stamp of the newest record ever appended, 0 if none was.
func (r *Ring) Last() record.Stamp {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// Stats returns the counters as they are now.
func (r *Ring) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}

// A Chunk is the part of one block that was published when it was taken.
type Chunk struct {
	// Data is stored lines. It stays as it is until Release.
	Data []byte
	// Block is the id of the block, First the number of its first record,
	// Run the run in force there.
	Block, First, Run uint64

	r *Ring
	b *block
}

// Chunk pins what is published of the block with that id. It returns false
// when the ring holds no such block: it was dropped, or is yet to come.
func (r *Ring) Chunk(id uint64) (Chunk, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if id < r.base || id-r.base >= uint64(len(r.blocks)) {
		return Chunk{}, false
	}
	b := r.blocks[id-r.base]
	b.refs++
	return Chunk{Data: b.mem[:b.pub:b.pub], Block: id, First: b.first, Run: b.run, r: r, b: b}, true
}

// Again pins the chunk once more, for another reader: each is released once.
func (c Chunk) Again() Chunk {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	c.b.refs++
	return c
}

// Release lets go of the chunk's bytes. It must be called once.
func (c Chunk) Release() {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	c.r.unrefLocked(c.b, true)
}

// unrefLocked takes one reference off b; pinned says it was a chunk's and
// not the ring's own.
func (r *Ring) unrefLocked(b *block, pinned bool) {
	b.refs--
	switch {
	case b.refs > 0 && !pinned:
		r.stats.PinnedBytes += uint64(cap(b.mem))
	case b.refs == 0 && pinned:
		r.stats.PinnedBytes -= uint64(cap(b.mem))
		fallthrough
	case b.refs == 0:
		r.spare = b
	}
}

// KeepNone is what Keep takes for nothing.
const KeepNone = math.MaxUint64

// Keep has the records numbered from and later stay, whatever the limits say,
// until it is called again. It does not bring back what has been dropped.
func (r *Ring) Keep(from uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keep = from
	r.evictLocked()
}

// Limits returns the limits in force.
func (r *Ring) Limits() Limits {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.limits
}
