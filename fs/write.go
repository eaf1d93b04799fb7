package fs

import (
	"bytes"
	"context"
	"encoding/binary"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// A Sink captures what is written to the files of one service, and changes the
// service itself. Its methods may wait. The errno in their errors is what the
// program gets that asked.
type Sink interface {
	// Open begins the writing of one open file.
	Open(Opening) (Writer, error)
	// Rotate begins a new file on disk.
	Rotate() error
	// Sync brings all that was written to stable storage.
	Sync() error
	// SetAccess changes who may read and write the service, for good.
	SetAccess(Access) error
}

// An Opening says who opens a file for writing, and how.
type Opening struct {
	Stderr   bool   // the lines are those of stderr
	Append   bool   // O_APPEND
	Pid, Uid uint32 // of who has opened it; the pid is 0 if it cannot be seen here
}

// A Writer is an open file that is written to. Offsets mean nothing: what is
// written comes behind what was written.
type Writer interface {
	// TryWrite captures text, unless it would have to wait: then it returns
	// false, and has captured nothing. If the disk takes its time, stored is
	// called meanwhile, once: text is captured then, and not needed any more.
	TryWrite(text []byte, stored func()) (done bool, err error)
	// Write is TryWrite that waits, until ctx is done: then it has captured
	// nothing and the error is EINTR.
	Write(ctx context.Context, text []byte, stored func()) error
	// Close captures the unfinished line.
	Close()
}

// writeHead is the size of a WRITE request before what is written.
const writeHead = int(unsafe.Sizeof(fuse.WriteIn{}))

// writers is the files that are open for writing, by handle, and the writes
// that wait.
type writers struct {
	mu      sync.RWMutex // guards the following; nothing else is locked under it
	open    map[uint64]Writer
	waiting map[uint64]*waitingWrite
	gone    bool // nobody can write any more
}

// add returns false if the mount is gone.
func (w *writers) add(fh uint64, writer Writer) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone {
		return false
	}
	if w.open == nil {
		w.open, w.waiting = map[uint64]Writer{}, map[uint64]*waitingWrite{}
	}
	w.open[fh] = writer
	return true
}

func (w *writers) find(fh uint64) Writer {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.open[fh]
}

// drop closes the writer that the handle has, if it has one.
func (w *writers) drop(fh uint64) {
	w.mu.Lock()
	writer := w.open[fh]
	delete(w.open, fh)
	w.mu.Unlock()
	if writer != nil {
		writer.Close()
	}
}

// clear closes what the kernel had no time to close before the mount went
// away.
func (w *writers) clear() {
	w.mu.Lock()
	open, waiting := w.open, w.waiting
	w.open, w.waiting, w.gone = nil, nil, true
	w.mu.Unlock()
	for _, p := range waiting {
		p.cancel()
	}
	for _, writer := range open {
		writer.Close()
	}
}

// openWriter is Open for writing. Only current takes it.
func (r *raw) openWriter(n *node, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if n == nil || !n.writable() {
		return fuse.EACCES
	}
	w, err := n.e.Sink.Open(Opening{
		Stderr: n.v.sel == selErr, Append: in.Flags&syscall.O_APPEND != 0, Pid: in.Pid, Uid: in.Uid,
	})
	if err != nil {
		return statusOf(err)
	}
	var h any
	if in.Flags&syscall.O_ACCMODE == syscall.O_RDWR {
		h = newHandle(n)
	}
	out.Fh = r.s.tree.addHandle(h, in.Unique)
	if !r.s.writers.add(out.Fh, w) {
		w.Close()
	}
	return fuse.OK
}

// A writing is the WRITE that a loop answers. It is in the loop so that a write
// allocates nothing.
type writing struct {
	unique uint64
	size   int
	stored func()
}

func (w *writing) init(l *loop) {
	w.stored = func() {
		l.d.wrote(w.unique, w.size)
		l.leave()
	}
}

// wrote answers a WRITE of size bytes.
func (d *device) wrote(unique uint64, size int) {
	var buf [outHeaderSize + 8]byte
	binary.NativeEndian.PutUint32(buf[outHeaderSize:], uint32(size))
	d.reply(unique, buf[:])
}

// write is WRITE. The loop does it itself: that costs no switch. When the disk
// takes its time, another loop takes its place; what has to wait for room does
// so in a goroutine.
func (s *Server) write(l *loop, in *fuse.WriteIn, text []byte) bool {
	w := s.writers.find(in.Fh)
	if w == nil { // of a process before this one, which knew who writes
		s.dev.fail(in.Unique, notConnected)
		return true
	}
	l.writing.unique, l.writing.size = in.Unique, len(text)
	done, err := w.TryWrite(text, l.writing.stored)
	switch {
	case l.left.Load(): // answered
	case !done:
		s.writeLater(w, in, bytes.Clone(text))
	case err != nil:
		s.dev.fail(in.Unique, statusOf(err))
	default:
		s.dev.wrote(in.Unique, len(text))
	}
	return true
}

// A waitingWrite is a WRITE that waits until its text can be captured.
type waitingWrite struct {
	s      *Server
	unique uint64
	pid    uint32
	size   int
	cancel context.CancelFunc
	once   sync.Once

	mu    sync.Mutex // guards the following
	over  bool
	timer *time.Timer // looks at the writer's signals again
}

func (s *Server) writeLater(w Writer, in *fuse.WriteIn, text []byte) {
	hdr := in.InHeader // which is the loop's
	ctx, cancel := context.WithCancel(context.Background())
	p := &waitingWrite{s: s, unique: hdr.Unique, pid: hdr.Pid, size: len(text), cancel: cancel}
	s.writers.wait(p)
	go func() {
		defer s.dev.survive(&hdr)
		p.answer(w.Write(ctx, text, func() { p.answer(nil) }))
	}()
}

func (w *writers) wait(p *waitingWrite) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone {
		p.cancel()
		return
	}
	w.waiting[p.unique] = p
}

// interrupt is INTERRUPT of a write that waits. It returns false if there is
// none with that number.
func (w *writers) interrupt(unique uint64) bool {
	w.mu.RLock()
	p := w.waiting[unique]
	w.mu.RUnlock()
	if p == nil {
		return false
	}
	p.look(0)
	return true
}

// answer answers the write, unless it is answered.
func (p *waitingWrite) answer(err error) {
	p.once.Do(func() {
		p.mu.Lock()
		p.over = true
		if p.timer != nil {
			p.timer.Stop()
		}
		p.mu.Unlock()
		p.s.writers.mu.Lock()
		delete(p.s.writers.waiting, p.unique)
		p.s.writers.mu.Unlock()
		p.cancel()
		if err != nil {
			p.s.dev.fail(p.unique, statusOf(err))
		} else {
			p.s.dev.wrote(p.unique, p.size)
		}
	})
}

// look ends the waiting if a signal ends or is caught by the writer, as that of
// a read.
func (p *waitingWrite) look(times int) {
	if signalEnds(p.pid) {
		p.cancel()
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.over {
		p.timer = time.AfterFunc(lookAgain(times), func() { p.look(times + 1) })
	}
}
