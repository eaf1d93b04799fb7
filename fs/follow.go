package fs

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// waiting is who waits for news of one service.
type waiting struct {
	// count is the number of parked reads, watched handles and questions; it is read
	// without the lock by the writer of the service.
	count atomic.Int64

	mu      sync.Mutex // guards all below
	parked  map[*park]struct{}
	watched map[*handle]struct{}
	asked   map[*question]struct{}
	last    time.Time   // when waiters were woken
	timer   *time.Timer // wakes those for whom it was too early
	armed   bool
	gone    bool // the service was removed or the tree is closing

	waking      sync.Mutex // taken before all others; guards who is being woken
	wakeParked  []*park
	wakeWatched []*handle
	wakeAsked   []*question
}

// A park is a READ request that waits: nothing is read before it is answered.
type park struct {
	reading
	h      *handle
	unique uint64
	size   uint32
	pid    uint32
	done   bool        // answered; guarded by h.mu
	timer  *time.Timer // looks at the reader's signals again
	bound  *time.Timer // ends the read before the kernel takes it for lost; nil if it does not
}

// A verdict is what is to be done with a read at this moment.
type verdict uint8

const (
	wait  verdict = iota
	loads         // as wait, for lines from disk
	data          // n bytes, 0 for the end of the file
	wouldBlock
	invalid
)

const (
	readLockOwner = 1 << 1 // READ flag: it comes from read(2), not from the page cache
	pollNotify    = 1 << 0 // POLL flag: somebody will wait

	pollIn, pollRdNorm  = 0x1, 0x40
	pollOut, pollWrNorm = 0x4, 0x100
)

// handle answers READ and POLL of follow, WRITE, GETATTR of those who ask again,
// and INTERRUPT of those that wait.
func (s *Server) handle(l *loop, hdr *fuse.InHeader, in []byte) bool {
	switch {
	case hdr.Opcode == opWrite && len(in) >= writeHead:
		return s.write(l, (*fuse.WriteIn)(unsafe.Pointer(&in[0])), in[writeHead:])
	case hdr.Opcode == opRead && len(in) >= int(unsafe.Sizeof(fuse.ReadIn{})):
		return s.read((*fuse.ReadIn)(unsafe.Pointer(&in[0])))
	case hdr.Opcode == opInterrupt && len(in) >= int(unsafe.Sizeof(fuse.InterruptIn{})):
		return s.interrupt((*fuse.InterruptIn)(unsafe.Pointer(&in[0])).Unique)
	case hdr.Opcode == opGetAttr && len(in) >= int(unsafe.Sizeof(fuse.GetAttrIn{})):
		return s.askSize((*fuse.GetAttrIn)(unsafe.Pointer(&in[0])))
	case hdr.Opcode == opPoll && len(in) >= int(unsafe.Sizeof(pollReq{})):
		s.poll((*pollReq)(unsafe.Pointer(&in[0])))
		return true
	}
	return false
}

func (s *Server) read(in *fuse.ReadIn) bool {
	h, ok := s.tree.handle(in.Fh).(*handle)
	if !ok {
		return false
	}
	if h.n.kind == follow && in.ReadFlags&readLockOwner == 0 {
		// sendfile, splice, mmap: they read ahead through the page cache and
		// would wait for lines nobody asked for. Programs fall back to read.
		s.dev.fail(in.Unique, fuse.EINVAL)
		return true
	}
	p := park{h: h, unique: in.Unique, size: min(in.Size, maxPayload), pid: in.Pid}
	h.mu.Lock()
	defer h.mu.Unlock()
	p.reading = h.reading(int64(in.Offset), in.Flags)
	if !s.answer(&p) {
		s.wait(h.parkedFor(p))
	}
	return true
}

// parkedFor returns memory for a read that waits: that of an earlier one of the
// handle, if it can be had. The caller holds h.mu.
func (h *handle) parkedFor(read park) *park {
	p := h.spare
	if h.spare = nil; p == nil {
		fresh := read
		return &fresh
	}
	// Not h, which is the same: who has collected p for a wake reads it without
	// the lock.
	p.reading, p.unique, p.size, p.pid, p.done = read.reading, read.unique, read.size, read.pid, false
	return p
}

// wait parks p, and answers it if a line came before that: it woke nobody.
// The caller holds p.h.mu.
func (s *Server) wait(p *park) {
	p.h.parked = append(p.h.parked, p)
	p.h.n.e.park(p)
	s.limit(p)
	if !s.answer(p) && s.opts.onPark != nil {
		s.opts.onPark()
	}
}

// answer answers p unless it has to wait. The caller holds p.h.mu.
func (s *Server) answer(p *park) bool {
	if p.done {
		return true
	}
	buf := replies.Get().(*[replySize]byte)
	defer replies.Put(buf)
	n, v := p.h.answer(buf[outHeaderSize:outHeaderSize+p.size], &p.reading)
	switch v {
	case wait, loads:
		return false
	case data:
		p.finish()
		p.h.noteAhead()
		if s.dev.reply(p.unique, buf[:outHeaderSize+n]) && n > 0 {
			p.h.note()
		}
		if n > 0 && p.h.polled {
			p.h.expect() // who reads less than he asked for may wait for an event, too
		}
	case wouldBlock:
		p.finish()
		s.dev.fail(p.unique, again)
		p.h.expect()
	case invalid:
		p.finish()
		s.dev.fail(p.unique, fuse.EINVAL)
	}
	return true
}

// finish takes p out of everything that could answer it. The caller holds
// h.mu and answers; when he has given that back, p may be another read.
func (p *park) finish() {
	p.done = true
	for _, t := range []*time.Timer{p.timer, p.bound} {
		if t != nil {
			t.Stop()
		}
	}
	if p.pass != nil {
		p.pass.busy, p.pass = false, nil
	}
	p.h.n.e.unpark(p)
	p.h.unpark(p)
}

// unpark takes p out of the reads that wait, and keeps its memory for the next,
// but for one with a timer, which may come too late and end another read. The
// caller holds mu.
func (h *handle) unpark(p *park) {
	i := slices.Index(h.parked, p)
	if i < 0 {
		return
	}
	if p.timer == nil && p.bound == nil {
		p.have = nil
		h.spare = h.parked[i] // not p: then all reads would be on the heap
	}
	h.parked = slices.Delete(h.parked, i, i+1)
}

// readCurrent is answer for current and seq.
func (h *handle) readCurrent(ps *pass, dst []byte, a *reading) (int, verdict) {
	n, load := h.readFull(ps, dst, a, request{end: h.n.end()})
	switch {
	case load:
		return 0, loads
	case n == 0:
		h.n.atEnd()
	}
	return n, data
}

// readFull reads up to the end, also what needs several loads: tac and tar take a
// short read for an error.
func (h *handle) readFull(ps *pass, dst []byte, a *reading, q request) (n int, load bool) {
	for n = copy(dst, a.have); n < len(dst); {
		q.off = a.off + int64(n)
		more, load := ps.read(dst[n:], q)
		if n += more; load {
			a.have = append(a.have, dst[len(a.have):n]...)
			return 0, true
		}
		if more == 0 {
			break
		}
	}
	a.have = nil
	return n, false
}

// follow is answer for follow.
func (h *handle) follow(ps *pass, dst []byte, a *reading) (int, verdict) {
	blocks := !a.nonblock()
	if a.sequential && blocks && len(dst) == maxPayload {
		// The kernel asks for more before it returns what fills its largest
		// request, and that would wait.
		dst = dst[:len(dst)-1]
	}
	// Asked before the end of the data is: what came last is read before the
	// end of the file.
	gone := h.n.e.isGone()
	_, end, over := h.n.bounds()
	n, load := h.readFollow(ps, dst, a, end)
	switch {
	case load:
		return 0, loads
	case n > 0:
		return n, data
	case gone, over:
		return 0, data
	case !blocks && h.polled:
		return 0, wouldBlock
	case !blocks, h.seekEnd, !a.sequential:
		return 0, data
	}
	return 0, wait
}

// readFollow reads what there is. A read in the middle of a line that then is
// overtaken breaks the line, so reads end with lines, also those of tail, which
// does not block but has asked for the end. tar, which has not, wants full reads,
// and so does who reads backwards; who polls gets what there is at once.
func (h *handle) readFollow(ps *pass, dst []byte, a *reading, end pos) (n int, load bool) {
	q := request{off: a.off, end: end, whole: a.sequential && (!a.nonblock() || h.seekEnd)}
	if q.whole || a.nonblock() && h.polled {
		return ps.read(dst, q)
	}
	return h.readFull(ps, dst, a, q)
}

// pollReq is struct fuse_poll_in behind its header.
type pollReq struct {
	fuse.InHeader
	Fh, Kh uint64
	Flags  uint32
	Events uint32
}

func (s *Server) poll(in *pollReq) {
	events := in.Events & (pollIn | pollRdNorm | pollOut | pollWrNorm) // as for any regular file
	if h, ok := s.tree.handle(in.Fh).(*handle); ok && h.n.kind == follow {
		events = h.poll(in)
	}
	var buf [outHeaderSize + 8]byte
	*(*uint32)(unsafe.Pointer(&buf[outHeaderSize])) = events
	s.dev.reply(in.Unique, buf[:])
}

func (h *handle) poll(in *pollReq) uint32 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.polled || h.kh != in.Kh {
		h.polled, h.kh = true, in.Kh
		h.note()
	}
	if !h.ready() && in.Flags&pollNotify != 0 {
		h.n.e.watch(h)
	}
	if h.ready() { // again: a line that came before it was watched woke nobody
		return in.Events & (pollIn | pollRdNorm)
	}
	return 0
}

// expect watches a handle that was told EAGAIN: with edge-triggered epoll the
// reader waits for an event now, and does not ask again whether there is one.
// The caller holds mu.
func (h *handle) expect() {
	e := h.n.e
	e.watch(h)
	if h.ready() && e.unwatch(h) { // a line that came before woke nobody
		e.fs.dev.notifyPoll(h.kh)
	}
}

func (e *Entry) park(p *park) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.parked == nil {
		e.parked = map[*park]struct{}{}
	}
	e.parked[p] = struct{}{}
	e.count.Add(1)
	e.fs.waits.add(p)
}

func (e *Entry) unpark(p *park) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := e.parked[p]; ok {
		delete(e.parked, p)
		e.count.Add(-1)
		e.fs.waits.remove(p)
	}
}

func (e *Entry) watch(h *handle) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.watched == nil {
		e.watched = map[*handle]struct{}{}
	}
	if _, ok := e.watched[h]; !ok {
		e.watched[h] = struct{}{}
		e.count.Add(1)
	}
}

func (e *Entry) unwatch(h *handle) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := e.watched[h]; !ok {
		return false
	}
	delete(e.watched, h)
	e.count.Add(-1)
	return true
}

// watches says whether the kernel waits to be told that h is ready.
func (e *Entry) watches(h *handle) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, ok := e.watched[h]
	return ok
}

func (e *Entry) isGone() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.gone
}

// Waiters are woken at once when the last time is a while ago, else together
// when it is: a follower of 10,000 lines a second wants few, large reads.
const (
	few     = 4 // waiters whom the writer answers himself
	gapFew  = time.Millisecond
	gapMany = 5 * time.Millisecond
)

// Wake answers those who wait for lines of the service. The writer calls it
// after each commit; it never waits for a reader.
func (e *Entry) Wake() {
	e.fs.wakeReadersOfAll()
	n := e.count.Load()
	if n == 0 {
		return
	}
	gap := gapFew
	if n > few {
		gap = gapMany
	}
	if !e.mayWake(gap) {
		return
	}
	if n > few || !e.wakeFew() {
		go e.wakeAll()
	}
}

// wakeFew is wakeAll without waiting for a lock that somebody else has: the
// writer of the service calls it. It returns false if there was one.
func (e *Entry) wakeFew() bool {
	if !e.waking.TryLock() {
		return false
	}
	defer e.waking.Unlock()
	e.collect()
	for _, p := range e.wakeParked {
		if !p.h.mu.TryLock() {
			return false
		}
		e.fs.answer(p)
		p.h.mu.Unlock()
	}
	for _, h := range e.wakeWatched {
		if !h.mu.TryLock() {
			return false
		}
		e.notify(h)
	}
	return len(e.wakeAsked) == 0 // a question takes the locks of other files
}

// mayWake says whether gap has passed since the last time; if not, it sees to
// it that somebody wakes when it has.
func (e *Entry) mayWake(gap time.Duration) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.armed {
		return false
	}
	now := time.Now()
	if left := gap - now.Sub(e.last); left > 0 {
		e.armed = true
		if e.timer == nil {
			e.timer = time.AfterFunc(left, e.wakeLate)
		} else {
			e.timer.Reset(left)
		}
		return false
	}
	e.last = now
	return true
}

func (e *Entry) wakeLate() {
	e.mu.Lock()
	e.armed, e.last = false, time.Now()
	e.mu.Unlock()
	e.wakeAll()
}

// wakeAll answers every parked read that need not wait any more, and tells
// the kernel of watched handles that are ready.
func (e *Entry) wakeAll() {
	e.waking.Lock()
	defer e.waking.Unlock()
	e.collect()
	for _, p := range e.wakeParked {
		p.h.mu.Lock()
		e.fs.answer(p)
		p.h.mu.Unlock()
	}
	for _, h := range e.wakeWatched {
		h.mu.Lock()
		e.notify(h)
	}
	for _, q := range e.wakeAsked {
		if q.news() {
			e.fs.answerQuestion(q)
		}
	}
}

// notify tells the kernel if h is ready. The caller has locked h.mu, which it
// unlocks.
func (e *Entry) notify(h *handle) {
	ready, kh := h.ready(), h.kh
	h.mu.Unlock()
	if ready && e.unwatch(h) {
		e.fs.dev.notifyPoll(kh)
	}
}

// collect lists who waits. The caller holds waking.
func (e *Entry) collect() {
	clear(e.wakeParked)
	clear(e.wakeWatched)
	clear(e.wakeAsked)
	e.wakeParked, e.wakeWatched, e.wakeAsked = e.wakeParked[:0], e.wakeWatched[:0], e.wakeAsked[:0]
	e.mu.Lock()
	defer e.mu.Unlock()
	for p := range e.parked {
		e.wakeParked = append(e.wakeParked, p)
	}
	for h := range e.watched {
		e.wakeWatched = append(e.wakeWatched, h)
	}
	for q := range e.asked {
		e.wakeAsked = append(e.wakeAsked, q)
	}
}

// end lets followers know that nothing more will come.
func (e *Entry) end() {
	e.mu.Lock()
	e.gone = true
	e.mu.Unlock()
	e.wakeAll()
}
