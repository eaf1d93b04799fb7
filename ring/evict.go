package ring

import "logfs/ring/record"

// Resize sets other limits. What they no longer let the ring hold is dropped
// at once, as far as Keep allows; a greater ring fills up with what comes.
// Readers go on as after any drop.
func (r *Ring) Resize(l Limits) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.limits, r.spare = l.orDefaults(), nil
	r.evictLocked()
}

// blockSizeLocked is the size blocks grow to.
func (r *Ring) blockSizeLocked() int {
	return int(min(max(r.limits.Bytes/16, minBlock), maxBlock))
}

// newBlock returns memory of size bytes, or of what the limits make of that,
// and at least n: the spare block if that will do. It is the writer's call; the
// lock is for limits and spare.
func (r *Ring) newBlock(n, size int) *block {
	r.mu.Lock()
	b := r.spare
	r.spare = nil
	n = max(n, min(size, r.blockSizeLocked()))
	r.mu.Unlock()
	if b != nil && len(b.mem) >= n {
		*b = block{mem: b.mem}
		return b
	}
	return &block{mem: make([]byte, n)}
}

// evictLocked drops the oldest records until the limits are kept.
func (r *Ring) evictLocked() {
	for r.overLocked() && r.stats.HeldLines > 1 && r.head.Seq < r.keep {
		if !r.evictBlockLocked() {
			r.evictRecordLocked()
		}
	}
}

func startOf(id uint64, b *block) Cursor {
	return Cursor{Seq: b.first, Run: b.run, Block: id}
}

func (r *Ring) overLocked() bool {
	return r.stats.HeldLines > uint64(r.limits.Lines) || r.stats.HeldBytes > uint64(r.limits.Bytes)
}

// evictBlockLocked drops the whole oldest block if the ring is over its
// limits without it too.
func (r *Ring) evictBlockLocked() bool {
	if len(r.blocks) < 2 || r.head.Off > 0 || r.blocks[1].first > r.keep {
		return false
	}
	b := r.blocks[0]
	lines, bytes := uint64(b.lines), uint64(b.pub)
	if r.stats.HeldLines-lines < uint64(r.limits.Lines) && r.stats.HeldBytes-bytes < uint64(r.limits.Bytes) {
		return false
	}
	if r.stats.HeldLines-lines == 0 {
		return false
	}
	r.evictedLocked(lines, bytes)
	r.dropLocked()
	return true
}

// evictRecordLocked drops the oldest record.
func (r *Ring) evictRecordLocked() {
	b := r.blocks[0]
	s := record.Scanner{Buf: b.mem[r.head.Off:b.pub], Seq: r.head.Seq, Run: r.head.Run}
	if _, ok := s.Next(); !ok {
		panic("ring: a held block ends before its records do")
	}
	n := b.pub - r.head.Off - len(s.Buf)
	r.evictedLocked(1, uint64(n))
	r.head.Off, r.head.Seq, r.head.Run = r.head.Off+n, s.Seq, s.Run
	r.dropEmptyLocked()
}

func (r *Ring) evictedLocked(lines, bytes uint64) {
	r.stats.HeldLines -= lines
	r.stats.HeldBytes -= bytes
	r.stats.EvictedLines += lines
	r.stats.EvictedBytes += bytes
}

// dropEmptyLocked drops the oldest block when none of its records is held
// and it is not the one being filled.
func (r *Ring) dropEmptyLocked() {
	for len(r.blocks) > 1 && r.head.Off == r.blocks[0].pub {
		r.dropLocked()
	}
}

// dropLocked lets go of the oldest block; the next one is the oldest then.
func (r *Ring) dropLocked() {
	r.unrefLocked(r.blocks[0], false)
	last := copy(r.blocks, r.blocks[1:])
	r.blocks[last] = nil
	r.blocks = r.blocks[:last]
	r.base++
	r.head = startOf(r.base, r.blocks[0])
}
