package fs

import (
	"sync"
	"sync/atomic"

	"logfs/ring"
)

// A node is what one lookup of current, follow or seq found. Offsets on it
// count from base.
type node struct {
	id   uint64
	kind fileKind
	e    *Entry
	v    *view

	span  *span  // nil if it shows what the ring has
	order *order // nil if it shows one service
	ino   uint64 // its inode number

	cell *nodeCell // what is known of it when this process is gone; may be nil

	// guarded by tree.mu
	lookups uint64

	mu    sync.Mutex // guards all below
	base  int64      // absolute position of byte 0
	start pos        // the record byte 0 is in
	// reckoning is that of base.
	reckoning uint32
	told      int64 // the greatest size told of it
	opens     int
	pins      pins // of current and seq
	// offset is a record and its offset, from which a node of another process
	// finds out its place in the view; its number is 0 when that is known.
	offset pos
	late   uint64 // see handle.await

	// Handles that were fed from disk have other offsets than the view. A
	// poller reads as much as the size has grown by, so the size must not be
	// less than what such a handle can read; more does no harm.
	first   atomic.Int64 // base, for those who do not hold mu
	shifted atomic.Int64 // by how much their offsets are greater
	reached atomic.Int64 // an offset that one of them can read to
}

// shift notes that a handle has the given base now.
func (n *node) shift(base int64) { raise(&n.shifted, n.first.Load()-base) }

// reach notes that a handle can read up to offset off.
func (n *node) reach(off int64) { raise(&n.reached, off) }

func raise(v *atomic.Int64, to int64) {
	for old := v.Load(); old < to && !v.CompareAndSwap(old, to); old = v.Load() {
	}
}

// pins is the consistent state that one pass over current or seq sees.
type pins struct {
	end    pos          // its end
	thaw   bool         // the end was read: the next read sees a new state
	blocks []pos        // where each pinned block begins
	chunks []ring.Chunk // what is pinned, same indices as blocks
	bytes  int
}

// settle puts byte 0 at the oldest byte there is, and makes what is there now
// the state of the first pass. It is done at lookup, because the kernel then
// gets a size, which sendfile believes without asking again.
func (n *node) settle() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.settleLocked()
}

func (n *node) settleLocked() {
	if n.order != nil {
		n.order.begin()
		n.told, n.pins.thaw = 0, false
		n.shifted.Store(0)
		n.reached.Store(0)
		n.note()
		return
	}
	head, end := n.v.catchUp()
	n.told, n.pins.end = 0, end
	if n.kind != follow {
		n.freezeLocked()
		if p := n.pins.blocks; len(p) > 0 && p[0].Block > head.Block {
			head = p[0] // the ring went on before it was pinned
		}
	}
	n.start, n.base, n.reckoning = head, head.off, head.reckoning
	if c, ok := n.chunkLocked(head.Block); ok {
		n.base = n.v.base(head, c)
		c.Release()
	}
	n.first.Store(n.base)
	n.shifted.Store(0)
	n.reached.Store(0)
	n.offset, n.late = pos{}, 0
	n.note()
}

// size is the size to tell, now: it never shrinks.
func (n *node) size() int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.order != nil {
		return n.orderSizeLocked()
	}
	end := n.pins.end
	if n.kind == follow {
		_, end, _ = n.bounds()
	} else if n.opens > 0 {
		end = n.freezeLocked()
	}
	if n.span != nil {
		return n.spanSizeLocked(end)
	}
	n.placeLocked()
	n.told = max(n.told, end.off-n.base+n.shifted.Load(), n.reached.Load())
	n.noteTold()
	return n.told
}

// open counts one more handle. A follow that was not open before settles once
// more: nobody has seen a byte of it, and the ring may have moved on.
func (n *node) open() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.opens++
	if n.opens == 1 && !n.past() && (n.kind == follow || n.order == nil && len(n.pins.chunks) == 0) {
		n.settleLocked()
	}
}

// past says that n begins at a point that was found when it was looked up.
func (n *node) past() bool { return n.span != nil || n.order != nil && n.order.from != 0 }

// opened is how many handles there are.
func (n *node) opened() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.opens
}

// close counts one handle less.
func (n *node) close() {
	n.mu.Lock()
	n.opens--
	n.mu.Unlock()
	n.letGo()
}

// letGo lets go of what the node pins if it is not open. Open settles again.
func (n *node) letGo() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.opens == 0 && len(n.pins.chunks) > 0 {
		n.unpinLocked(0)
		n.e.unpinned(n)
	}
}

// end is where a read of current ends. After a pass to the end it is a new
// state's.
func (n *node) end() pos {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pins.thaw {
		n.freezeLocked()
	}
	return n.pins.end
}

// atEnd notes that a reader was told of the end.
func (n *node) atEnd() {
	n.mu.Lock()
	n.pins.thaw = true
	n.noteEnd()
	n.mu.Unlock()
}

// freezeLocked makes what the ring holds now the state that readers see,
// together with what was pinned before as long as that is less than another
// ring full.
func (n *node) freezeLocked() pos {
	_, end, _ := n.bounds()
	n.pins.thaw = false
	if n.order != nil {
		n.order.freeze()
		return end
	}
	if n.span != nil {
		n.pins.end = end
		n.noteEnd()
		return end
	}
	if end.off == n.pins.end.off && end.reckoning == n.pins.end.reckoning && len(n.pins.chunks) > 0 {
		n.noteEnd()
		return n.pins.end
	}
	n.pinLocked()
	n.pins.end = end
	n.noteEnd()
	for n.pins.bytes > 2*n.e.ringBytes() && len(n.pins.chunks) > 1 {
		n.unpinLocked(len(n.pins.chunks) - 1)
	}
	n.e.pinned(n)
	return end
}

// pinLocked pins the blocks that are not pinned yet, and the last one again:
// it has grown.
func (n *node) pinLocked() {
	p := &n.pins
	var from uint64
	if last := len(p.chunks) - 1; last >= 0 {
		from = p.chunks[last].Block
	}
	for _, at := range n.v.blocksFrom(from) {
		c, ok := n.v.ring.Chunk(at.Block)
		if !ok {
			continue
		}
		if last := len(p.chunks) - 1; last >= 0 && p.chunks[last].Block == at.Block {
			p.bytes -= len(p.chunks[last].Data)
			p.chunks[last].Release()
			p.chunks[last] = c
		} else {
			p.blocks, p.chunks = append(p.blocks, at), append(p.chunks, c)
		}
		p.bytes += len(c.Data)
	}
}

// unpinLocked releases the oldest blocks until keep are left.
func (n *node) unpinLocked(keep int) {
	p := &n.pins
	drop := max(0, len(p.chunks)-keep)
	for _, c := range p.chunks[:drop] {
		p.bytes -= len(c.Data)
		c.Release()
	}
	p.blocks = append(p.blocks[:0], p.blocks[drop:]...)
	p.chunks = append(p.chunks[:0], p.chunks[drop:]...)
}

// chunk returns a block for reading, pinned once more for the caller.
func (n *node) chunk(id uint64) (ring.Chunk, bool) {
	if c, ok := n.v.ring.Chunk(id); ok {
		return c, true
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.chunkLocked(id)
}

func (n *node) chunkLocked(id uint64) (ring.Chunk, bool) {
	for _, c := range n.pins.chunks {
		if c.Block == id {
			return c.Again(), true
		}
	}
	return n.v.ring.Chunk(id)
}

// find is view.find, with the pinned blocks in view too. It returns false
// when the byte at abs is neither held nor pinned.
func (n *node) find(abs int64) (pos, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p := n.pins.blocks; len(p) > 0 && p[0].off <= abs {
		return findBlock(p, p[0], abs), true
	}
	head, _ := n.v.catchUp()
	return n.v.find(abs), head.off <= abs
}
