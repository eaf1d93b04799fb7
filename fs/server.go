package fs

import (
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Options say what is mounted and where.
type Options struct {
	// Dir is an existing directory.
	Dir string
	// AllowOther lets other users in, as far as permissions do.
	AllowOther bool
	// ListFollow shows follow in listings. It opens in any case.
	ListFollow bool
	// Limits bound how many read follow.
	Limits Limits
	// Status writes the content of the status file.
	Status func(io.Writer)
	// Make adds a service, which the tree shows when it returns, and Remove
	// removes one. The errno in their errors is what the caller of mkdir and
	// rmdir gets. Nil refuses.
	Make   func(name string, mode uint32) error
	Remove func(name string) error
	Log    *slog.Logger
	// State, if not nil, is shared memory of StateSize bytes, all 0. What it
	// gets enables another process to go on with the mount: see OpenKept.
	State *os.File

	onPark func() // for tests: a read waits; nil otherwise
}

// A Server is a mounted tree.
type Server struct {
	opts    Options
	dir     string
	real    string // dir without symbolic links
	device  string // of the mount, while it is on real
	owner   fuse.Owner
	born    time.Time
	list    atomic.Bool // follow is shown in listings
	tree    *tree
	all     *Entry        // what all services say
	changes atomic.Uint64 // of the services that there are
	waits   waits
	pollers pollers
	writers writers
	limiter limiter
	longest atomic.Int64 // nanoseconds that a read may wait; 0 for ever
	dev     device
	jobs    jobs
	kept    atomic.Int64 // readers whose file stays open between loads
	bigs    bigBuffers
	pieces  atomic.Int64 // what is kept for those who read backwards
	asks    jobs         // what lookups ask of the disk

	protocol  protocol
	served    sync.Once
	adopted   bool   // from a process that is gone
	inherited uint64 // the last node id of that one

	closing sync.Once
	closed  error
	done    chan struct{}
}

// maxJobs is how many readers are fed from disk at the same moment. Each takes
// a thread while it waits for the disk.
const maxJobs = 4

// Mount mounts an empty tree and serves it. An error wraps ErrNoFUSE if it is
// the system that cannot mount.
func Mount(o Options) (*Server, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("cannot mount on %q: %w", o.Dir, err)
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot mount on %q: %w", o.Dir, err)
	}
	fd, err := mount(dir, o.AllowOther)
	if err != nil {
		return nil, err
	}
	s := newServer(o, dir, fd)
	s.real = real
	timeout := requestTimeout() // not changed for a mount that is there
	s.bound(timeout)
	if err := s.greet(timeout); err != nil {
		s.dev.close()
		return nil, errors.Join(err, detach(s.dir))
	}
	s.serve()
	return s, nil
}

// greet begins to speak with the kernel.
func (s *Server) greet(timeout time.Duration) error {
	s.protocol = newProtocol(s)
	init, err := s.dev.greet(s.protocol)
	if err != nil {
		return fmt.Errorf("cannot use the mount on %q: %w", s.dir, err)
	}
	if s.device, err = deviceOn(s.real); err != nil || s.opts.State == nil {
		return err
	}
	if s.tree.state, err = openState(s.opts.State); err != nil {
		return err
	}
	return s.tree.state.begin(init, s.device, s.dir, s.real, int64(timeout))
}

// serve answers the kernel until the tree is not mounted any more.
func (s *Server) serve() {
	s.served.Do(func() {
		s.dev.serve(s.protocol, s)
		go func() {
			s.dev.done.Wait()
			s.dev.close()
			s.writers.clear()
			s.tree.clear()
			close(s.done)
		}()
	})
}

func newServer(o Options, dir string, fd int) *Server {
	s := &Server{
		opts: o, dir: dir, born: time.Now(), tree: newTree(), waits: waits{m: map[uint64]*park{}},
		pollers: pollers{m: map[uint32]*poller{}, asked: map[uint64]*question{}},
		owner:   fuse.Owner{Uid: uint32(os.Geteuid()), Gid: uint32(os.Getegid())},
		dev:     device{fd: fd, log: o.Log}, done: make(chan struct{}),
	}
	s.list.Store(o.ListFollow)
	s.all = newAll(s)
	s.limiter = limiter{limits: o.Limits, services: map[*Entry]int{}, users: map[uint32]int{}}
	return s
}

// newProtocol makes go-fuse answer what this package does not.
func newProtocol(s *Server) protocol {
	return fuse.NewProtocolServer(&raw{fuse.NewDefaultRawFileSystem(), s}, &fuse.MountOptions{
		Name: fsName, MaxWrite: maxPayload, MaxBackground: 64,
		DisableXAttrs: true, DisableReadDirPlus: true,
		Logger: log.New(logWriter{s.opts.Log}, "", 0),
	})
}

// logWriter passes on what go-fuse logs: it has no levels.
type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(b []byte) (int, error) {
	w.log.Debug("go-fuse", "message", string(b))
	return len(b), nil
}

// goneSoon is how long the kernel may take to let go of what was unmounted.
const goneSoon = time.Second

// awaitDone waits until the kernel has let go of the mount, but not for ever:
// another mount namespace, a container's, may have a copy of it. That one ends
// with this process.
func (s *Server) awaitDone() {
	late := time.NewTimer(goneSoon)
	defer late.Stop()
	select {
	case <-s.done:
	case <-late.C:
	}
}

// mounted says whether the tree is still what is on its mount point. A file of
// it that is open keeps it alive after somebody has detached it.
func (s *Server) mounted() bool {
	select {
	case <-s.done:
		return false
	default:
	}
	device, err := deviceOn(s.real)
	return err != nil || device == s.device
}

// Add shows a service.
func (s *Server) Add(svc Service) (*Entry, error) {
	t := s.tree
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.entries[svc.Name] != nil {
		return nil, fmt.Errorf("cannot show %q: it is shown already", svc.Name)
	}
	slot, cell := t.keepEntry(svc.Name)
	e := newEntry(svc, s, slot)
	e.cell = cell
	t.entries[svc.Name], t.slots[slot] = e, e
	s.changes.Add(1)
	return e, nil
}

// Remove takes a service out of the tree. Its followers read to the end of
// what is there and then find the end of the file. Nothing is left of it when
// they have closed that.
func (s *Server) Remove(name string) {
	s.tree.mu.Lock()
	e := s.tree.entries[name]
	delete(s.tree.entries, name)
	if e != nil {
		s.changes.Add(1)
		delete(s.tree.slots, e.slot)
		s.tree.giveEntry(e.cell)
	}
	s.tree.mu.Unlock()
	if e != nil {
		e.end()
		s.wakeReadersOfAll()
		// The kernel takes it when nobody is changing the root, which may be who
		// waits for us: mkdir, rmdir.
		go s.dev.notifyEntry(rootID, name)
	}
}

// changed is when any service last spoke.
func (s *Server) changed() time.Time {
	last := s.born
	for _, e := range s.tree.names() {
		if t := e.changed(); t.After(last) {
			last = t
		}
	}
	return last
}

// Done is closed when the tree is not mounted any more, whoever unmounted it.
func (s *Server) Done() <-chan struct{} { return s.done }

// Close ends followers with end of file and unmounts: lazily, if files are
// still open after half a second. It can be called more than once.
func (s *Server) Close() error {
	s.closing.Do(func() {
		for _, e := range s.tree.names() {
			e.end()
		}
		s.all.end()
		s.serve() // an adopted tree may not have been resumed
		ours, err := unmountSoon(s.dir, s.mounted)
		if err != nil {
			s.closed = fmt.Errorf("cannot unmount %q: %w", s.dir, err)
		} else if ours && os.Geteuid() == 0 {
			s.awaitDone()
		}
	})
	return s.closed
}
