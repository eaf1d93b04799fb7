package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"logfs/cmd/logfs/internal/config"
	"logfs/cmd/logfs/internal/control"
	"logfs/cmd/logfs/internal/exit"
	"logfs/fs"
	"logfs/ring"
	"logfs/rotate"
)

// Options say what a daemon is to do.
type Options struct {
	Config config.Config // without a socket there is none
	// MakeMount has a missing mount point made, and removed in the end.
	MakeMount bool
	// Adopt also opens the logs that are in the store and not in Config: those
	// of earlier runs of clients.
	Adopt bool
	// Holder is a program whose command HoldWord is a holder. Commands are started
	// under one, and go on when the daemon is killed. Empty: they are its children.
	Holder string
	// Share leaves the store to others too: only the logs that are used are
	// locked.
	Share bool
	// Files are what a service manager keeps for the next daemon. Nil without one.
	Files FileStore
	// Await is how long a daemon is waited for that leaves the store.
	Await time.Duration

	Mount func(fs.Options) (Tree, error) // nil is the function Mount
	Now   func() time.Time               // nil is time.Now
	Log   *slog.Logger                   // nil is silent
}

// A Daemon captures services. Open prepares it, Start starts the services of
// the configuration, Close ends all.
type Daemon struct {
	o    Options
	undo []func() error // what Close does in the end, last first

	serving   context.Context // cancelled first: no command is started any more
	capturing context.Context // cancelled next: capture takes what is in the pipes
	stop, cut context.CancelFunc
	hurry     chan struct{} // closed when children are to be killed at once

	left    chan struct{} // closed when another daemon takes over
	goLeave sync.Once

	commands sync.WaitGroup // supervisors of commands
	children sync.WaitGroup // jobs: supervisors, and what ends process groups
	live     sync.WaitGroup // of the daemon itself

	watchdog *watchdog    // of all logs
	writing  atomic.Int64 // files of the tree that are open for writing
	budget   *budget      // of all services

	gate     sync.RWMutex // held for reading while a name is taken or a run begins
	stopping bool         // guarded by gate

	reloading  sync.Mutex      // held while commands are started or stopped; taken first
	configured map[string]bool // services of the configuration; guarded by reloading

	opening  sync.Mutex     // held while a service is made; guards tree and defaults
	tree     Tree           // nil without one
	defaults config.Service // of services that the configuration does not name
	lock     *os.File       // of the store

	old  *oldMount  // the last daemon's, until openTree
	kept *keptMount // what the next one is to go on with; nil if it cannot

	mu       sync.Mutex // guards services; never held over I/O
	services map[string]*service
}

// Open checks all that was given, then locks the store, opens the logs and the
// control socket, and mounts the tree. An error leaves nothing behind but a
// store directory. A mount that the system refuses is logged, and the daemon
// works without.
func Open(o Options) (*Daemon, error) {
	d := newDaemon(o)
	if err := d.check(); err != nil {
		d.old.leave()
		return nil, err
	}
	for _, step := range []func() error{d.openStore, d.openLogs, d.openIntakes, d.openControl, d.openTree} {
		if err := step(); err != nil {
			return nil, errors.Join(err, d.finish())
		}
	}
	return d, nil
}

func newDaemon(o Options) *Daemon {
	if o.Mount == nil {
		o.Mount = Mount
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	d := &Daemon{o: o, hurry: make(chan struct{}), left: make(chan struct{}), watchdog: newWatchdog(),
		budget:   newBudget(o.Config.Limits),
		services: map[string]*service{}, configured: map[string]bool{}, defaults: o.Config.Defaults}
	d.serving, d.stop = context.WithCancel(context.Background())
	d.capturing, d.cut = context.WithCancel(context.Background())
	return d
}

// check changes nothing.
func (d *Daemon) check() error {
	if !d.o.Share {
		if err := d.checkStore(); err != nil {
			return err
		}
	}
	if err := control.CheckPath(d.o.Config.Socket); err != nil {
		return err
	}
	if d.old != nil {
		// Nobody answers for the mount yet: it must not be looked at.
		return checkPaths(d.o.Config, beside)
	}
	return checkPlaces(d.o.Config, d.o.MakeMount)
}

// checkStore looks for other daemons of the store: one that runs is an error, of
// one that is gone there may be a mount.
func (d *Daemon) checkStore() (err error) {
	if d.o.Await > 0 {
		awaitLock(d.o.Config.Store, d.o.Await)
	}
	if err := checkLock(d.o.Config.Store); err != nil {
		return err
	}
	d.old, err = d.findMount()
	return err
}

func (d *Daemon) finally(undo func() error) { d.undo = append(d.undo, undo) }

// unwind undoes what was opened, and reports all that went wrong.
func (d *Daemon) unwind() (err error) {
	for _, undo := range slices.Backward(d.undo) {
		err = errors.Join(err, undo())
	}
	d.undo = nil
	return err
}

func (d *Daemon) openStore() error {
	if err := os.MkdirAll(d.o.Config.Store, 0o750); err != nil {
		return exit.Refusedf("cannot make the store: %w", err)
	}
	if d.o.Share {
		return nil
	}
	lock, err := lockStore(d.o.Config.Store)
	if err != nil {
		return err
	}
	d.lock = lock
	d.finally(d.unlockStore)
	return nil
}

func (d *Daemon) openLogs() error {
	d.opening.Lock()
	defer d.opening.Unlock()
	d.finally(d.closeLogs)
	for _, settings := range d.o.Config.Services {
		d.budget.reserve(settings)
		s, err := d.open(settings)
		if err != nil {
			return err
		}
		s.own(settings.Command != nil)
		d.configured[s.name] = true
	}
	if d.o.Adopt {
		return d.adopt()
	}
	return nil
}

// adopt opens the logs of services that only the store knows.
func (d *Daemon) adopt() error {
	entries, err := os.ReadDir(d.o.Config.Store)
	if err != nil {
		return exit.Refusedf("cannot look into the store: %w", err)
	}
	var left int
	var why error
	for _, e := range entries {
		name := e.Name()
		if d.find(name) != nil || config.CheckName(name) != nil || !isLogdir(d.logdir(name)) {
			continue
		}
		if _, err := d.openNew(name); errors.Is(err, errLimit) {
			left, why = left+1, err
		} else if err != nil {
			d.o.Log.Error("a log in the store is left alone", "service", name, "err", err)
		}
	}
	if left > 0 {
		d.o.Log.Warn("logs in the store are left alone", "count", left, "err", why)
	}
	return nil
}

// isLogdir says whether dir has a log that a daemon has written.
func isLogdir(dir string) bool {
	fi, err := os.Lstat(filepath.Join(dir, "current"))
	return err == nil && fi.Mode().IsRegular()
}

// open makes a service: its log, and its place in the tree. The caller holds
// opening.
func (d *Daemon) open(c config.Service) (*service, error) {
	s, err := d.openLog(c)
	if err != nil {
		return nil, err
	}
	if err := d.show(s); err != nil {
		return nil, errors.Join(err, s.log.Close())
	}
	d.register(s)
	return s, nil
}

// openNew makes a service that the configuration does not name. The caller holds
// opening.
func (d *Daemon) openNew(name string) (*service, error) {
	settings := d.defaults
	settings.Name = name
	if err := d.budget.admit(settings); err != nil {
		return nil, exit.With(exit.Refused, err)
	}
	s, err := d.open(settings)
	if err != nil {
		d.budget.release(name)
	}
	return s, err
}

// openLog makes a service that nobody can find yet.
func (d *Daemon) openLog(c config.Service) (*service, error) {
	events := d.o.Log.With("service", c.Name)
	o := d.logOptions(c, events)
	log, err := OpenLog(o)
	if errors.Is(err, rotate.ErrLocked) {
		againLocked(func() bool {
			log, err = OpenLog(o)
			return !errors.Is(err, rotate.ErrLocked)
		})
	}
	if err != nil {
		return nil, exit.Refusedf("cannot open the log of service %q: %w", c.Name, err)
	}
	s := &service{name: c.Name, settings: c, log: log, events: events, state: Idle, brought: make(chan broughtRun, 1)}
	s.capturing, s.cut = context.WithCancel(d.capturing)
	return s, nil
}

// register has the service found by its name. The caller holds opening.
func (d *Daemon) register(s *service) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.services[s.name] = s
}

func (d *Daemon) logOptions(c config.Service, events *slog.Logger) LogOptions {
	return LogOptions{
		Ring:      ring.Limits{Lines: c.RingLines, Bytes: d.budget.bytes(c)},
		Rotate:    d.rotation(c, events),
		Block:     c.Full == config.Block,
		LineLimit: c.LineLimit,
		Now:       d.o.Now, Log: events, watchdog: d.watchdog,
	}
}

// rotation is how the logdir of a service is kept.
func (d *Daemon) rotation(c config.Service, events *slog.Logger) rotate.Options {
	o := rotate.Options{
		Dir: d.logdir(c.Name), Service: c.Name,
		Size: c.Size, Keep: c.Keep, Total: c.Total, Age: c.Age, Min: c.Min, Sync: c.Sync, Log: events,
	}
	if o.Min == 0 {
		o.Min = -1 // rotate takes 0 for its default
	}
	switch c.Rotate {
	case config.Hourly:
		o.Period = rotate.Hourly
	case config.Daily:
		o.Period = rotate.Daily
	}
	switch c.Compress {
	case config.Gzip:
		o.Compress = rotate.Gzip
	case config.Zstd:
		o.Compress = rotate.Zstd
	}
	return o
}

// show gives the service its place in the tree, if there is one. The caller
// holds opening.
func (d *Daemon) show(s *service) error {
	if d.tree == nil {
		return nil
	}
	looks, err := d.looks(s.config())
	if err != nil {
		return exit.Refusedf("cannot show service %q: %w", s.name, err)
	}
	e, err := d.tree.Add(fs.Service{
		Name: s.name, Ring: s.log.Ring(), Looks: looks,
		Born: d.o.Now(), History: history{s.log}, Sink: sink{d, s}, Due: s.log.Due,
	})
	if err != nil {
		return exit.Refusedf("cannot show service %q: %w", s.name, err)
	}
	s.shown(e)
	return nil
}

func (d *Daemon) find(name string) *service {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.services[name]
}

// list returns the services by name.
func (d *Daemon) list() []*service {
	d.mu.Lock()
	all := make([]*service, 0, len(d.services))
	for _, s := range d.services {
		all = append(all, s)
	}
	d.mu.Unlock()
	slices.SortFunc(all, func(a, b *service) int { return cmp.Compare(a.name, b.name) })
	return all
}

func (d *Daemon) openControl() error {
	if d.o.Config.Socket == "" {
		return nil
	}
	s, err := control.Listen(d.o.Config.Socket, d, d.o.Log)
	if err != nil {
		return err
	}
	d.finally(s.Close)
	return nil
}

func (d *Daemon) openTree() error {
	// Runs that clients begin meanwhile wait for their place in the tree.
	d.opening.Lock()
	defer d.opening.Unlock()
	if err := d.mount(); err != nil {
		if exit.Status(err) == exit.Misuse {
			return err
		}
		d.o.Log.Error("cannot mount; capture and the files in the store work all the same",
			"mount", d.o.Config.Mount, "store", d.o.Config.Store, "err", err)
		return nil
	}
	for _, s := range d.list() {
		if err := d.show(s); err != nil {
			return err
		}
	}
	return d.resume()
}

func (d *Daemon) mount() error {
	o := fs.Options{
		Dir: d.o.Config.Mount, AllowOther: os.Geteuid() == 0, ListFollow: d.o.Config.ListFollow,
		Limits: followLimits(d.o.Config.Limits),
		Status: d.Status, Make: d.makeService, Remove: d.removeService, Log: d.o.Log,
	}
	tree, err := d.adoptMount(o)
	if tree == nil && err == nil {
		tree, err = d.mountAnew(o)
	}
	if err != nil {
		return err
	}
	d.tree = tree
	d.finally(d.endKeeping)
	d.finally(d.closeTree)
	d.live.Go(func() { d.watch(tree) })
	return nil
}

func (d *Daemon) mountAnew(o fs.Options) (Tree, error) {
	if err := d.makeMountPoint(o.Dir); err != nil {
		return nil, err
	}
	o.State = d.mountState()
	tree, err := d.o.Mount(o)
	if err != nil {
		if o.State != nil {
			o.State.Close()
		}
		return nil, err
	}
	if s, ok := tree.(server); ok && o.State != nil {
		d.keepMount(s.Server, &oldMount{state: o.State})
	}
	return tree, nil
}

// Mounted says whether the tree was mounted.
func (d *Daemon) Mounted() bool {
	d.opening.Lock()
	defer d.opening.Unlock()
	return d.tree != nil
}

func (d *Daemon) makeMountPoint(dir string) error {
	if !d.o.MakeMount {
		return nil
	}
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot make the mount point: %w", err)
	}
	d.finally(func() error { return os.Remove(dir) })
	return nil
}

// watch says so when somebody else takes the tree away.
func (d *Daemon) watch(tree Tree) {
	select {
	case <-tree.Done():
		_ = d.endKeeping()
		d.o.Log.Warn("the mount is gone; capture goes on without it", "mount", d.o.Config.Mount)
	case <-d.capturing.Done():
	}
}
