package daemon

import (
	"context"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"logfs/capture"
	"logfs/fs"
	"logfs/ring/record"
)

// How many files may be open for writing: each can have an unfinished line as
// long as line-limit, and a write that waits.
const (
	maxWriters    = 256  // of one service
	maxAllWriters = 1024 // of the daemon
)

// writers is who writes to a service through the tree. The first of them
// begins a run, and the last ends it. While the service has another run, or is
// the daemon's own, they write into what there is.
type writers struct {
	mu     sync.Mutex // guards the following; held while marks are stored, taken before service.mu
	open   map[*openFile]struct{}
	begun  int           // those of open that have begun
	run    bool          // it is theirs
	began  time.Time     // the run
	coming chan struct{} // closed when a run has begun, or not, whose command will write; nil without
	drain  *run          // waits until nobody has the files open
	over   error         // why nobody can write any more
}

// An openFile is a file of the tree that is open for writing. It is a fs.Writer.
type openFile struct {
	d       *Daemon
	s       *service
	opening fs.Opening
	begun   atomic.Bool // changes under writers.mu
	text    text
}

// Open begins the writing of one open file. Who opens it to append is a writer
// from the start, others are one when they write: what truncates or touches the
// file begins no run.
func (k sink) Open(o fs.Opening) (fs.Writer, error) {
	stream := capture.Stdout
	if o.Stderr {
		stream = capture.Stderr
	}
	w := &openFile{d: k.d, s: k.s, opening: o, text: text{splitter: capture.NewSplitter(stream, k.s.log.LineLimit())}}
	ws := &k.s.writers
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.over != nil {
		return nil, ws.over
	}
	if len(ws.open) >= maxWriters {
		return nil, syscall.ENFILE
	}
	if k.d.writing.Add(1) > maxAllWriters {
		k.d.writing.Add(-1)
		return nil, syscall.ENFILE
	}
	if ws.open == nil {
		ws.open = map[*openFile]struct{}{}
	}
	ws.open[w] = struct{}{}
	if o.Append && ws.coming == nil {
		w.beginLocked()
	}
	return w, nil
}

// TryWrite implements fs.Writer.
func (w *openFile) TryWrite(b []byte, stored func()) (done bool, err error) {
	if !w.begun.Load() {
		return false, nil
	}
	return w.s.log.takeText(nil, &w.text, b, stored)
}

// Write implements fs.Writer.
func (w *openFile) Write(ctx context.Context, b []byte, stored func()) error {
	if !w.begun.Load() {
		if err := w.begin(ctx); err != nil {
			return err
		}
	}
	_, err := w.s.log.takeText(ctx, &w.text, b, stored)
	return err
}

// begin makes w one of those who write. It waits for the start mark of a run that
// a client is about to begin.
func (w *openFile) begin(ctx context.Context) error {
	ws := &w.s.writers
	for {
		ws.mu.Lock()
		coming := ws.coming
		if coming == nil || w.begun.Load() {
			break
		}
		ws.mu.Unlock()
		select {
		case <-coming:
		case <-ctx.Done():
			return syscall.EINTR
		}
	}
	defer ws.mu.Unlock()
	if _, open := ws.open[w]; open && !w.begun.Load() {
		w.beginLocked()
	}
	return nil
}

// beginLocked begins a run if there is none.
func (w *openFile) beginLocked() {
	ws := &w.s.writers
	ws.begun++
	w.begun.Store(true)
	if ws.run || !w.s.takeWritten() {
		return
	}
	pid := int(w.opening.Pid)
	w.s.log.BeginWrittenRun(pid, w.opening.Uid)
	w.s.running(pid)
	ws.run, ws.began = true, time.Now()
}

// Close implements fs.Writer. The line is ended before anything waits that
// others need.
func (w *openFile) Close() {
	w.s.log.endText(&w.text, syscall.EBADF)
	ws := &w.s.writers
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.dropLocked(w)
	if ws.begun == 0 {
		ws.endLocked(w.s)
	}
}

func (ws *writers) dropLocked(w *openFile) {
	if _, open := ws.open[w]; !open {
		return
	}
	delete(ws.open, w)
	w.d.writing.Add(-1)
	if w.begun.Load() {
		ws.begun--
	}
}

// endLocked ends what waited for the last writer.
func (ws *writers) endLocked(s *service) {
	if ws.drain != nil {
		close(ws.drain.drained)
		ws.drain = nil
	}
	if !ws.run {
		return
	}
	ws.run = false
	e := record.Exit{After: time.Since(ws.began)}
	s.log.markEnd(nil, e)
	s.ended(e)
	s.live.Go(s.log.syncEnd) // the next run need not wait for it
}

// shut ends all writing: why.
func (ws *writers) shut(s *service, why error) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.over = why
	for w := range ws.open {
		s.log.endText(&w.text, why)
		ws.dropLocked(w)
	}
	ws.endLocked(s)
}

// await has r drained when nobody has the files open.
func (ws *writers) await(r *run) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.drain = r; ws.begun == 0 {
		ws.endLocked(r.svc)
	}
}

// expect has who opens the files now wait with his first line until arrived is
// called: a run is about to begin.
func (ws *writers) expect() (arrived func()) {
	coming := make(chan struct{})
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.coming = coming
	return sync.OnceFunc(func() {
		ws.mu.Lock()
		defer ws.mu.Unlock()
		ws.coming = nil
		close(coming)
	})
}

// takeWritten reserves the service for a run of its writers. It returns false if
// it has a run, or gets them from the daemon.
func (s *service) takeWritten() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken || s.owned || s.leaving {
		return false
	}
	s.taken, s.client = true, true
	return true
}
