package fs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"syscall"
	"time"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"

	"logfs/ring"
)

// Going on with the mount of a process that is gone.
//
// The kernel keeps what it has asked and got no answer to, and asks it again
// when told to (RESEND). Until then new requests wait too. Nodes and handles
// are made again under their numbers, from the state. A restored node has
// positions of its own, which are offsets; a restored handle is one stretch,
// from its anchor on, that is fed from disk until it finds itself in the ring.
// That may take a while: what the last process had shown and not yet written
// comes back from those who hold it.

// A Kept is a mount whose process is gone.
type Kept struct {
	device int // the connection
	state  *state
	// Dir is where it is mounted.
	Dir string
	// Place is that without symbolic links.
	Place string
}

// OpenKept takes over what the process before had as its connection and
// Options.State. It leaves the files to the caller, and asks nothing that the
// mount would have to answer. The error says why nobody can go on with it.
func OpenKept(device, state *os.File) (*Kept, error) {
	var st syscall.Stat_t
	if err := syscall.Fstat(int(state.Fd()), &st); err != nil || st.Size != int64(StateSize) {
		return nil, errUnknownState
	}
	s, err := openState(state)
	if err != nil {
		return nil, err
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	k := &Kept{state: s, Dir: upToNUL(s.dir[:]), Place: upToNUL(s.real[:])}
	k.device, err = syscall.Dup(int(device.Fd()))
	if err != nil {
		return nil, fmt.Errorf("cannot duplicate the connection of the mount: %w", err)
	}
	syscall.CloseOnExec(k.device)
	if err := k.check(); err != nil {
		k.Close()
		return nil, err
	}
	return k, nil
}

func (k *Kept) check() error {
	init := (*fuse.InitIn)(unsafe.Pointer(&k.state.init[0]))
	if init.Flags64()&fuse.CAP_HAS_RESEND == 0 {
		return errors.New("the kernel cannot ask again: that takes Linux 6.9")
	}
	if on, err := deviceOn(k.Place); err != nil || on != upToNUL(k.state.device[:]) {
		return errors.Join(err, fmt.Errorf("it is not mounted on %q any more", k.Dir))
	}
	return checkConnection(k.device, upToNUL(k.state.device[:]))
}

// Close leaves the mount to others.
func (k *Kept) Close() { syscall.Close(k.device) }

// Abandon takes the mount away, and ends all who wait for it with an error.
func (k *Kept) Abandon() error {
	if err := k.check(); err != nil {
		return nil
	}
	if err := detach(k.Dir); err != nil {
		return err
	}
	if os.Geteuid() == 0 { // what was aborted, and had files open, is still there
		_ = syscall.Unmount(k.Dir, syscall.MNT_DETACH|umountNoFollow)
	}
	return nil
}

// Adopt goes on with a mount. The tree answers from Resume on: until then, the
// services that it had have to be added, for their readers to find them.
func Adopt(o Options, k *Kept) (*Server, error) {
	s := newServer(o, k.Dir, k.device)
	s.real, s.device = k.Place, upToNUL(k.state.device[:])
	s.protocol = newProtocol(s)
	init := k.state.init[:]
	init = init[:min(binary.NativeEndian.Uint32(init), uint32(len(init)))]
	if _, err := hello(s.protocol, init, make([]byte, replySize)); err != nil {
		return nil, fmt.Errorf("cannot go on with the mount on %q: %w", k.Dir, err)
	}
	s.tree.adopt(k.state)
	s.bound(time.Duration(k.state.wait))
	s.adopted, s.inherited = true, s.tree.fresh
	return s, nil
}

// adopt goes on counting, and learns which slots services had.
func (t *tree) adopt(s *state) {
	t.state, t.known = s, map[string]*entryCell{}
	t.slot, t.fresh, t.fh = s.slot.Load(), max(s.fresh.Load(), firstFresh), s.fh.Load()
	for i := range s.entries.all() {
		c := &s.entries.cells[i]
		if c.slot.Load() == 0 {
			s.entries.give(c)
			continue
		}
		t.known[upToNUL(c.name[:])] = c
		t.slot = max(t.slot, c.slot.Load())
	}
}

// sweepAfter is how long after Resume it is asked which nodes the kernel still
// knows: those it has heard of last may not be its own at once.
const sweepAfter = 10 * time.Second

// Resume restores what the kernel knows, and answers it.
func (s *Server) Resume() error {
	s.restore()
	// Before any loop: what one of them had just read would be asked twice.
	if err := s.dev.notify(notifyResend); err != nil {
		return fmt.Errorf("cannot go on with the mount on %q: the kernel does not ask again: %w", s.dir, err)
	}
	s.serve()
	time.AfterFunc(sweepAfter, s.sweep)
	return nil
}

// Leave stops answering: another process will go on with the mount, from what
// was noted and sent up to now. This one has to end, and to keep others from
// going on until then: its loops may still read what the next is to be asked.
func (s *Server) Leave() { s.dev.leave() }

// Connection is the file of the mount's connection, for somebody who keeps it;
// the caller closes it.
func (s *Server) Connection() (*os.File, error) {
	fd, err := syscall.Dup(s.dev.fd)
	if err != nil {
		return nil, fmt.Errorf("cannot duplicate the connection of the mount: %w", err)
	}
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "/dev/fuse"), nil
}

func (s *Server) restore() {
	t := s.tree
	for name, c := range t.known { // services that are no more
		delete(t.known, name)
		t.giveEntry(c)
	}
	nodes, handles, dirs := t.state.nodes.all(), t.state.handles.all(), t.state.dirs.all()
	for i := range dirs {
		if c := &dirs[i]; c.id.Load() == 0 || !t.restoreDir(c) {
			t.giveDir(c)
		}
	}
	for i := range nodes {
		if c := &nodes[i]; c.id.Load() == 0 || !s.restoreNode(c) {
			t.giveNode(c)
		}
	}
	for i := range handles {
		if c := &handles[i]; c.fh.Load() == 0 || !s.restoreHandle(c) {
			c.fh.Store(0)
			t.state.handles.give(c)
		}
	}
}

// restoreNode returns false if there is nothing that the node could be of.
func (s *Server) restoreNode(c *nodeCell) bool {
	t, id := s.tree, c.id.Load()
	if c.entry == 0 && (c.what == statusIno || c.what == ignoreIno) {
		x := s.text(c.what)
		x.id, x.cell, x.lookups = id, c, 1
		t.texts[id] = x
		return true
	}
	if c.entry == 0 {
		return false
	}
	e, sel, kind := t.slots[c.entry], streams(c.what>>8), fileKind(c.what)
	if e == nil || sel >= streamKinds || kind >= fileKinds {
		return false
	}
	n := s.restoredNode(e, sel, kind, c)
	n.id, n.lookups = id, 1
	t.nodes[id] = n
	return true
}

func (s *Server) restoredNode(e *Entry, sel streams, kind fileKind, c *nodeCell) *node {
	n := &node{kind: kind, e: e, v: e.view(sel, kind), cell: c, ino: c.ino, start: c.begins(), told: c.told.Load()}
	end := c.end.Load()
	n.pins.end.Seq, n.pins.thaw = end, end == 0
	n.shifted.Store(math.MinInt64 / 2) // until its place is known
	n.offset = n.start
	if e.isAll() {
		n.restoreOrder(s.newOrder(sel, kind))
	} else if c.ino == 0 {
		n.ino = e.fileIno(&fixed[sel], kind)
	} else {
		n.span = restoredSpan(c)
	}
	return n
}

// placeLocked finds out where the offsets of a restored node are in the view,
// once the ring has the record that they are counted from.
func (n *node) placeLocked() {
	if n.offset.Seq == 0 {
		return
	}
	if n.late > 0 && n.v.ring.Run() > n.offset.Run {
		n.offset.Seq, n.offset.off = n.late, n.told // see handle.await
	}
	p, c, ok := n.v.seek(n.offset.Seq)
	if !ok {
		return
	}
	if c != nil {
		c.Release()
	}
	n.shift(p.off - n.offset.off)
	n.offset = pos{}
}

// restoreHandle returns false if there is nothing that the handle could be of.
func (s *Server) restoreHandle(c *handleCell) bool {
	t, fh := s.tree, c.fh.Load()
	if x := t.texts[c.node]; x != nil {
		t.handles[fh], t.cells[fh] = x, c
		return true
	}
	n := t.nodes[c.node]
	if n == nil {
		return false
	}
	h := newRestored(n, c)
	if n.span != nil {
		n.measureLater()
	}
	if n.kind == follow {
		h.seat = s.seatAgain(n.e, c.uid)
		if n.order != nil && s.mayReadAll(c.uid) {
			n.order.openToAll()
		}
		if c.pid > 0 {
			s.pollers.add(c.pid, h)
		}
	}
	t.handles[fh], t.cells[fh] = h, c
	h.mu.Lock()
	defer h.mu.Unlock()
	h.findPlace(c.at[c.flags.Load()&flagSecond].since)
	if h.polled && n.kind == follow {
		n.e.watch(h)
		if h.ready() && n.e.unwatch(h) {
			s.dev.notifyPoll(h.kh)
		}
	}
	return true
}

// newRestored is a handle at its anchor. What is read before that is counted
// from byte 0 of the node.
func newRestored(n *node, c *handleCell) *handle {
	flags := c.flags.Load()
	a := c.at[flags&flagSecond]
	h := &handle{n: n, cell: c, next: a.next, ahead: c.ahead.Load(), kh: c.kh,
		seekEnd: flags&flagSeekEnd != 0, polled: flags&flagPolled != 0}
	h.main = pass{h: h, at: n.start, next: a.next, stretches: []stretch{{from: n.start, exact: n.span != nil}}}
	h.last = &h.main
	if n.order != nil {
		h.main.restoreMerger(&a)
	} else if at := a.pos(); at.Seq > n.start.Seq {
		h.main.begin(max(at.off, 0), nil, at.Seq, at, max(at.off, 0))
		h.main.stretch().exact = n.span != nil
	}
	h.main.half = a.half()
	n.opens++
	if n.kind == follow {
		n.e.readers.Add(1)
	}
	if n.order == nil && a.seq > n.offset.Seq {
		n.offset = a.pos()
		n.moveAnchor()
	}
	return h
}

// findPlace puts the reader back into the ring, if that has his record, and
// has him fed from disk, if not. Back to the offset since, the ring has what he
// has read before, too.
func (h *handle) findPlace(since int64) {
	if h.n.order != nil {
		return
	}
	ps, v := &h.main, h.n.v
	ps.past.feed()
	first, next := v.ring.Bounds()
	switch {
	case ps.at.Seq < first:
		h.n.reachFed(h.next) // for a poller to read at all
	case ps.at.Seq > next:
		h.late, h.n.late = next, next
	}
	if !ps.rejoin() {
		return
	}
	ps.past.rejoined = false
	if s := ps.stretch(); len(s.told) == 0 {
		ps.reachBack(since)
	}
}

// await sees to a reader who has got lines from the last process that the files
// do not have. They come back under their numbers from those who hold them, and
// he waits until the ring is where he is. If a new run has begun instead, its
// lines have these numbers. The caller holds mu.
func (h *handle) await() {
	ps, r := &h.main, h.n.v.ring
	if h.late == 0 || ps.busy {
		return
	}
	if r.Run() > ps.at.Run {
		at := pos{Cursor: ring.Cursor{Seq: h.late, Run: ps.at.Run}, off: h.next}
		h.late = 0
		ps.past.close(h)
		ps.begin(h.next, nil, at.Seq, at, at.off)
		ps.past.feed()
	} else if _, next := r.Bounds(); next >= ps.at.Seq {
		h.late = 0
	}
}

// reachBack makes the stretch begin with the oldest record of the ring.
func (ps *pass) reachBack(since int64) {
	v, base := ps.h.n.v, ps.stretch().base
	head, _ := v.catchUp()
	c, ok := v.ring.Chunk(head.Block)
	if !ok {
		return
	}
	abs := v.base(head, c)
	c.Release()
	if off := abs - base; off >= max(since, 0) && off < ps.stretch().off {
		ps.begin(off, nil, head.Seq, head, abs)
	}
}

// sweep forgets the nodes that the kernel does not know: it had not yet heard
// of them when the last process died, or had let them go.
func (s *Server) sweep() {
	s.tree.mu.Lock()
	var ids []uint64
	for id := range s.tree.nodes {
		ids = append(ids, id)
	}
	for id := range s.tree.texts {
		ids = append(ids, id)
	}
	for id := range s.tree.dirs {
		ids = append(ids, id)
	}
	s.tree.mu.Unlock()
	for _, id := range ids {
		if id&^uint64(firstDir) > s.inherited {
			continue
		}
		if err := s.dev.notify(notifyInval, id, math.MaxUint64, 0); errors.Is(err, syscall.ENOENT) {
			s.tree.forget(id, math.MaxUint64)
		}
	}
}

// openedBefore closes what the same request has opened when the process before
// read it.
func (s *Server) openedBefore(unique uint64) {
	if unique&resent == 0 {
		return
	}
	if h, ok := s.tree.dropHandle(s.tree.handleOf(unique &^ resent)).(*handle); ok {
		h.close()
	}
}

// handleOf is the handle that a request has opened, 0 for none.
func (t *tree) handleOf(unique uint64) (fh uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for fh, c := range t.cells {
		if c.unique == unique {
			return fh
		}
	}
	return 0
}

// readLeft reads a handle that is not known. After a takeover it is of a
// service that is no more.
func (s *Server) readLeft() (fuse.ReadResult, fuse.Status) {
	if s.adopted {
		return fuse.ReadResultData(nil), fuse.OK
	}
	return nil, fuse.EBADF
}

// listAnew lists a directory that was opened when another process had the
// mount.
func (r *raw) listAnew(by caller, id, fh uint64) (listing, bool) {
	d, ok := r.s.tree.dir(id)
	if !ok || !r.s.adopted {
		return nil, false
	}
	l, st := r.list(by, d)
	if st != fuse.OK {
		return nil, false
	}
	r.s.tree.mu.Lock()
	defer r.s.tree.mu.Unlock()
	r.s.tree.handles[fh] = l
	return l, true
}

// Adopted says that the mount is that of an earlier process.
func (s *Server) Adopted() bool { return s.adopted }
