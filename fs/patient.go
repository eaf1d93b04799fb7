package fs

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Programs such as GNU tail -f take a FUSE file for one that nobody reports news
// of. They ask for its size, read if that has grown, and else sleep a second and
// ask again. The second question with the same answer is parked, as a read of others
// is, until there is news: then the line shows at once. The first one after news is
// answered, because it is behind it that they print what they hold back. Of several
// files it is the first that waits, for all of them: who asks for the second has not
// slept yet.

// A question is a GETATTR that waits.
type question struct {
	unique uint64
	// files are those whose news it waits for: the one it asks for, and the others
	// that the same process reads in this way.
	files []*handle
	timer *time.Timer

	mu   sync.Mutex // taken after all locks but those that are taken last
	done bool
}

// patience is how long a question may wait: tail looks in between whether there is
// something else to do, such as to end with the process that --pid names.
const patience = 10 * time.Second

// A poller is a process that reads files by asking for their size. A nil poller is
// none.
type poller struct {
	pid     uint32
	handles []*handle     // guarded by pollers.mu
	reads   atomic.Uint64 // reads that have brought something
}

func (p *poller) id() uint32 {
	if p == nil {
		return 0
	}
	return p.pid
}

// read notes that there was something to read: what the process prints of it may
// wait until it finds nothing more in any of its files.
func (p *poller) read() {
	if p != nil {
		p.reads.Add(1)
	}
}

// pollers are all of them, and the questions that wait.
type pollers struct {
	mu    sync.Mutex // guards all below; taken last
	m     map[uint32]*poller
	asked map[uint64]*question
}

// add notes that the process pid reads h by asking for the size.
func (p *pollers) add(pid uint32, h *handle) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h.poller.Load().id() == pid {
		return
	}
	p.dropLocked(h)
	if p.m[pid] == nil {
		p.m[pid] = &poller{pid: pid}
	}
	by := p.m[pid]
	by.handles = append(by.handles, h)
	h.poller.Store(by)
}

func (p *pollers) drop(h *handle) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropLocked(h)
}

func (p *pollers) dropLocked(h *handle) {
	by := h.poller.Swap(nil)
	if by == nil {
		return
	}
	by.handles = slices.DeleteFunc(by.handles, func(o *handle) bool { return o == h })
	if len(by.handles) == 0 {
		delete(p.m, by.pid)
	}
}

// first returns the files that the process pid reads by asking for their size, if
// the node n is that of the one it asks for first: in the order in which it has
// begun with them.
func (p *pollers) first(pid uint32, n *node) []*handle {
	p.mu.Lock()
	defer p.mu.Unlock()
	by := p.m[pid]
	if by == nil || by.handles[0].n != n {
		return nil
	}
	return slices.Clone(by.handles)
}

func (p *pollers) keep(q *question) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked[q.unique] = q
}

func (p *pollers) forget(q *question) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.asked, q.unique)
}

func (p *pollers) question(unique uint64) *question {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked[unique]
}

// askSize parks a GETATTR, or returns false if it is to be answered.
func (s *Server) askSize(in *fuse.GetAttrIn) bool {
	n, _ := s.tree.node(in.NodeId)
	if n == nil || n.kind != follow || in.Flags()&fuse.FUSE_GETATTR_FH != 0 {
		return false
	}
	files := s.pollers.first(in.Pid, n)
	if len(files) == 0 || !files[0].askedAgain() {
		return false
	}
	s.park(&question{unique: in.Unique, files: files})
	return true
}

// askedAgain says whether the size was told since its reader has read anything, and
// there is no more.
func (h *handle) askedAgain() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	by := h.poller.Load()
	if by == nil || h.n.opened() > 1 {
		return false
	}
	before, reads := h.toldAt, by.reads.Load()+1
	h.toldAt = reads
	if before != reads || h.readyWith(h.n.size()) {
		return false
	}
	// tail asks once more when it begins, before it prints what was there.
	began := h.asksOn
	h.asksOn = true
	return began
}

// readyWith says whether a reader who is told that size reads on. The caller holds mu.
func (h *handle) readyWith(size int64) bool { return size != h.next || h.ready() }

// park has q wait for news of its files.
func (s *Server) park(q *question) {
	q.mu.Lock()
	wait := patience
	if longest := time.Duration(s.longest.Load()); longest > 0 {
		wait = min(wait, longest)
	}
	q.timer = time.AfterFunc(wait, func() { s.answerQuestion(q) })
	q.mu.Unlock()
	s.pollers.keep(q)
	for _, h := range q.files {
		h.n.e.ask(q)
	}
	if q.news() { // it came before, and woke nobody
		s.answerQuestion(q)
	} else if s.opts.onPark != nil {
		s.opts.onPark()
	}
}

func (e *Entry) ask(q *question) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.asked == nil {
		e.asked = map[*question]struct{}{}
	}
	if _, ok := e.asked[q]; !ok {
		e.asked[q] = struct{}{}
		e.count.Add(1)
	}
}

func (e *Entry) unask(q *question) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := e.asked[q]; ok {
		delete(e.asked, q)
		e.count.Add(-1)
	}
}

// news says whether there is something to read in one of the files.
func (q *question) news() bool {
	for _, h := range q.files {
		h.mu.Lock()
		ready := h.readyWith(h.n.size())
		h.mu.Unlock()
		if ready || h.n.e.isGone() {
			return true
		}
	}
	return false
}

// answerQuestion answers q with what is so now.
func (s *Server) answerQuestion(q *question) {
	q.mu.Lock()
	if q.done {
		q.mu.Unlock()
		return
	}
	q.done = true
	q.timer.Stop()
	q.mu.Unlock()
	s.pollers.forget(q)
	for _, h := range q.files {
		h.n.e.unask(q)
	}
	var buf [outHeaderSize + unsafe.Sizeof(fuse.AttrOut{})]byte
	out := (*fuse.AttrOut)(unsafe.Pointer(&buf[outHeaderSize]))
	n := q.files[0].n
	(&raw{s: s}).fileAttr(n, n.size(), &out.Attr)
	s.dev.reply(q.unique, buf[:])
}
