package fs

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
)

// A handle is one open of a node.
type handle struct {
	n    *node
	seat seat // of follow

	mu   sync.Mutex // guards all below
	next int64      // offset behind what was read last
	last *pass      // which that read was part of

	// main is the pass that goes furthest: it alone reads what has not been
	// read before. What is read again, and what several threads read at the
	// same time, are passes of their own, which begin with the stretches of
	// main, so that an offset has the same bytes in all of them.
	main   pass
	others []*pass // the one used last comes last
	ids    uint32  // given to stretches
	parked []*park // reads of this handle that wait, oldest first

	seekEnd bool   // SEEK_END was asked: reads as pollers do
	polled  bool   // poll was asked: reads as event loops do
	kh      uint64 // what the kernel calls the handle in poll, once polled

	poller atomic.Pointer[poller] // who asked for SEEK_END; set under pollers.mu
	toldAt uint64                 // what that had read when the size was told last

	cell  *handleCell // what is known of it when this process is gone; may be nil
	ahead int64       // a reader left by another process may be here as well as at next; -1 without
	late  uint64      // the number that was next when it was restored, if it has read more; else 0
}

// maxPasses bounds how many passes a handle has beside main. Further reads
// that need one wait until one of these is free.
const maxPasses = 4

func newHandle(n *node) *handle {
	n.open()
	if n.kind == follow {
		n.e.readers.Add(1)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	h := &handle{n: n, ahead: -1}
	h.main = pass{h: h, at: n.start, stretches: []stretch{n.stretch()}}
	if n.order != nil {
		h.main.m = newMerger(n.order)
	}
	h.last = &h.main
	if sp := n.span; sp != nil && sp.first > 0 {
		n.e.readerLost.Add(n.start.Seq - sp.first) // he is told at byte 0
	}
	return h
}

// close lets go of what the handle holds. No request of it is left.
func (h *handle) close() {
	h.mu.Lock()
	h.main.stop()
	for _, ps := range h.others {
		ps.stop()
	}
	h.mu.Unlock()
	if h.n.kind == follow {
		h.n.e.readers.Add(-1)
		h.n.e.fs.unseat(h.seat)
		h.n.e.unwatch(h)
		if h.poller.Load() != nil {
			h.n.e.fs.pollers.drop(h)
		}
	}
	h.n.close()
}

// abandon forgets the reads that wait: nobody can be answered any more.
func (h *handle) abandon() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range slices.Clone(h.parked) {
		p.finish()
	}
}

// A reading is what one READ wants, and what is remembered while it waits.
type reading struct {
	off   int64
	flags uint32
	// sequential says that it began where the last read had ended.
	sequential bool
	// pass is the one whose lines it waits for: no other read may use it.
	// Guarded by handle.mu.
	pass *pass
	// have is what was read from disk already, if that is not enough.
	have []byte
}

// nonblock says that the file was open with O_NONBLOCK.
func (a *reading) nonblock() bool { return a.flags&syscall.O_NONBLOCK != 0 }

// reading is the READ of off. The caller holds mu.
func (h *handle) reading(off int64, flags uint32) reading {
	if off == h.ahead {
		h.arrive()
	}
	return reading{off: off, flags: flags, sequential: off == h.next}
}

// answer reads, and says what is to be done if nothing is there. The caller
// holds mu.
func (h *handle) answer(dst []byte, a *reading) (n int, v verdict) {
	const farthest = 1 << 61 // offsets and positions are added
	if a.off < 0 {
		return 0, invalid
	}
	if a.off > farthest {
		return 0, data
	}
	h.await()
	ps := h.take(a)
	if ps == nil {
		return 0, loads
	}
	if h.n.kind == follow {
		n, v = h.follow(ps, dst, a)
	} else {
		n, v = h.readCurrent(ps, dst, a)
	}
	ps.busy, a.pass = false, nil
	if v != loads {
		return n, v
	}
	ps.want = len(dst)
	h.n.e.fs.wantLoad(ps)
	if h.n.kind == follow && a.nonblock() && h.polled {
		return 0, wouldBlock // its poll tells when the lines are there
	}
	ps.busy, a.pass = true, ps
	return 0, loads
}

// take returns the pass that a read belongs to, nil if all are taken. The
// caller holds mu.
func (h *handle) take(a *reading) *pass {
	if a.pass != nil {
		return a.pass
	}
	if h.n.order != nil {
		return h.takeMerged(a.off)
	}
	if ps := h.last; ps.next == a.off && ps.free(a.off) && (ps.own || a.off > h.main.next) {
		ps.join(a.off)
		return ps
	}
	if a.off >= h.main.next && h.main.free(a.off) {
		return &h.main
	}
	i := slices.IndexFunc(h.others, func(ps *pass) bool { return ps.next == a.off && ps.free(a.off) })
	if i < 0 {
		i = slices.IndexFunc(h.others, func(ps *pass) bool { return ps.holds(a.off) })
	}
	if i < 0 {
		i = slices.IndexFunc(h.others, func(ps *pass) bool { return ps.reaches(a.off) })
	}
	if i < 0 && len(h.others) < maxPasses {
		i, h.others = len(h.others), append(h.others, &pass{h: h, next: -1, own: true})
	}
	if i < 0 {
		i = slices.IndexFunc(h.others, (*pass).idle)
	}
	if i < 0 {
		return nil
	}
	ps := h.others[i]
	h.others = append(slices.Delete(h.others, i, i+1), ps)
	ps.join(a.off)
	return ps
}

// seekToEnd notes that SEEK_END was asked, and returns the end: told is what
// the node says, to the process pid. From then on the handle reads as pollers do.
func (h *handle) seekToEnd(told int64, pid uint32) int64 {
	if h.n.kind != follow {
		return told
	}
	h.n.e.fs.pollers.add(pid, h)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seekEnd = true
	ps := &h.main
	if ps.busy {
		if ps = h.take(&reading{off: math.MaxInt64}); ps == nil {
			return told
		}
	}
	h.next, h.last, h.ahead = ps.skipToEnd(told), ps, -1
	h.note()
	return h.next
}

// ready says whether a read where the last one ended would not wait. If the
// lines have to come from disk, they are on their way when it returns. The
// caller holds mu.
func (h *handle) ready() bool {
	ready, load := h.last.ready(h.next)
	if load {
		h.n.e.fs.wantLoad(h.last)
	}
	_, _, over := h.n.bounds()
	return ready || !h.last.past.loading && (over || h.n.e.isGone())
}
