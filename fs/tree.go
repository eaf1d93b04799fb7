package fs

import (
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"logfs/ring"
	"logfs/ring/record"
)

// The numbers of the nodes that are always there. Below firstFresh a node id
// is also the inode number: an entry's slot, and what the node is within the
// entry. A node of a file has a fresh id for each lookup and the inode number
// of its place.
const (
	rootID     = 1
	statusIno  = 2
	ignoreIno  = 3
	slotShift  = 8
	firstFresh = 1 << 48
)

// fileKind is one of the three files of every directory.
type fileKind uint8

const (
	current fileKind = iota
	follow
	seq
	fileKinds
)

var fileNames = [fileKinds]string{"current", "follow", "seq"}

// dirNames are the directories in the directory of a service.
var dirNames = [streamKinds]string{selOut: "stdout", selErr: "stderr"}

// A Service is what is shown of one service.
type Service struct {
	Name string
	Ring *ring.Ring
	Looks
	// Born is the time of a service that has not said anything.
	Born time.Time
	// History gives readers what the ring has dropped; nil if nothing does.
	History History
	// Sink captures what is written to current; nil refuses that.
	Sink Sink
	// Due returns the least stamp that what the service says next can have, if
	// the ring does not have it when Due is called; now is the time then. It
	// waits for nothing. If it is nil, nobody knows.
	Due func(now record.Stamp) record.Stamp
}

// An Entry is a service in the tree.
type Entry struct {
	Service // as it was added; looks are those of shown
	fs      *Server
	slot    uint64
	cell    *entryCell

	shown   atomic.Pointer[shown]
	readers atomic.Int64
	// readerLost counts lines that readers were told they lost.
	readerLost atomic.Uint64
	refused    atomic.Uint64 // opens of follow, over a limit
	unpins     atomic.Uint64 // readers who lost their pins, over pinLimit
	runs       knownRuns

	joined uint64 // the next number when it was added
	merged mergedViews

	waiting
	pinning []*node // nodes that pin blocks, oldest first; guarded by waiting.mu
}

func newEntry(s Service, fs *Server, slot uint64) *Entry {
	e := &Entry{Service: s, fs: fs, slot: slot}
	_, e.joined = s.Ring.Bounds()
	e.shown.Store(e.newShown(s.Looks))
	return e
}

// ringBytes is how many bytes the ring may hold.
func (e *Entry) ringBytes() int { return int(e.Ring.Limits().Bytes) }

// changed is the time of the last line.
func (e *Entry) changed() time.Time {
	if e.isAll() {
		return e.fs.lastLine()
	}
	if t := e.Ring.Last(); t != 0 {
		return time.Unix(0, int64(t))
	}
	return e.Born
}

// Readers returns how many handles of follow are open.
func (e *Entry) Readers() int { return int(e.readers.Load()) }

// ReaderLost returns how many lines readers were told they lost.
func (e *Entry) ReaderLost() uint64 { return e.readerLost.Load() }

// pinLimit is how many rings full of dropped records the readers of one
// service may keep from being freed.
const pinLimit = 4

// pinned notes that n pins blocks. If readers pin too much, those who began
// first lose their pins: they read on from the ring, or are told what is gone.
// The caller holds n.mu.
func (e *Entry) pinned(n *node) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dropPinningLocked(n)
	e.pinning = append(e.pinning, n)
	for _, old := range e.pinning {
		if e.Pinned() <= e.pinLimit() {
			return
		}
		if old != n && old.mu.TryLock() {
			old.unpinLocked(0)
			old.mu.Unlock()
			e.unpins.Add(1)
		}
	}
}

// unpinned notes that n pins nothing any more. The caller holds n.mu.
func (e *Entry) unpinned(n *node) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dropPinningLocked(n)
}

func (e *Entry) dropPinningLocked(n *node) {
	for i, o := range e.pinning {
		if o == n {
			e.pinning = append(e.pinning[:i], e.pinning[i+1:]...)
			return
		}
	}
}

// tree holds what node ids and handles stand for.
type tree struct {
	mu      sync.Mutex // guards all below; nothing else is locked under it
	entries map[string]*Entry
	slots   map[uint64]*Entry
	slot    uint64 // the last one given out
	fresh   uint64 // likewise, of node ids
	nodes   map[uint64]*node
	texts   map[uint64]*text
	dirs    map[uint64]*dir
	paths   map[dirKey]*dir // the same
	handles map[uint64]any  // *handle, *text or listing
	fh      uint64

	state *state                 // nil: no other process will go on with the mount
	cells map[uint64]*handleCell // of handles
	known map[string]*entryCell  // of services that are yet to be added again
}

// text is a file whose content is fixed when it is looked up: status, .ignore.
type text struct {
	id, ino uint64
	data    []byte
	lookups uint64
	changed time.Time
	cell    *nodeCell
	link    bool // it is a symbolic link
}

func newTree() *tree {
	return &tree{
		entries: map[string]*Entry{}, slots: map[uint64]*Entry{}, fresh: firstFresh,
		nodes: map[uint64]*node{}, texts: map[uint64]*text{}, handles: map[uint64]any{},
		dirs: map[uint64]*dir{}, paths: map[dirKey]*dir{}, cells: map[uint64]*handleCell{},
	}
}

// names returns the services, sorted.
func (t *tree) names() []*Entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]*Entry, 0, len(t.entries))
	for _, e := range t.entries {
		all = append(all, e)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	return all
}

func (t *tree) entry(name string) *Entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.entries[name]
}

// addNode gives n a fresh id, known to the kernel by one lookup.
func (t *tree) addNode(n *node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fresh++
	n.id, n.lookups = t.fresh, 1
	t.nodes[n.id] = n
	t.keepNode(n)
}

func (t *tree) addText(x *text) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fresh++
	x.id, x.lookups = t.fresh, 1
	t.texts[x.id] = x
	t.keepText(x)
}

func (t *tree) node(id uint64) (*node, *text) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.nodes[id], t.texts[id]
}

// forget takes lookups off the node with that id, and drops it at 0.
func (t *tree) forget(id, lookups uint64) {
	if id >= firstDir {
		t.forgetDir(id, lookups)
		return
	}
	if n := t.unlook(id, lookups); n != nil {
		n.letGo()
	}
}

// unlook returns the node if nobody knows it any more.
func (t *tree) unlook(id, lookups uint64) *node {
	t.mu.Lock()
	defer t.mu.Unlock()
	if x := t.texts[id]; x != nil {
		if x.lookups -= min(lookups, x.lookups); x.lookups == 0 {
			delete(t.texts, id)
			t.giveNode(x.cell)
		}
	}
	n := t.nodes[id]
	if n == nil {
		return nil
	}
	if n.lookups -= min(lookups, n.lookups); n.lookups > 0 {
		return nil
	}
	delete(t.nodes, id)
	t.giveNode(n.cell)
	return n
}

// addHandle returns the number by which the kernel will call h, which the
// request unique opens.
func (t *tree) addHandle(h any, unique uint64) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fh++
	t.handles[t.fh] = h
	if t.state != nil {
		t.state.fh.Store(t.fh)
	}
	var c *handleCell
	switch h := h.(type) {
	case *handle:
		c = t.keepHandle(t.fh, h.n.id, unique)
		h.cell = c
		h.noteSeat()
		h.note()
	case *text:
		c = t.keepHandle(t.fh, h.id, unique)
	}
	if c != nil {
		c.fh.Store(t.fh)
	}
	return t.fh
}

func (t *tree) handle(fh uint64) any {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.handles[fh]
}

func (t *tree) dropHandle(fh uint64) any {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.handles[fh]
	delete(t.handles, fh)
	t.giveHandle(fh)
	return h
}

// clear lets go of what the kernel had no time to close and forget before the
// mount went away, and of the reads that nobody can answer any more: rings must
// not stay pinned by files that are no more.
func (t *tree) clear() {
	t.mu.Lock()
	handles, nodes := t.handles, t.nodes
	t.handles, t.nodes = map[uint64]any{}, map[uint64]*node{}
	t.mu.Unlock()
	for _, h := range handles {
		if h, ok := h.(*handle); ok {
			h.abandon()
			h.close()
		}
	}
	for _, n := range nodes {
		n.letGo()
	}
}
