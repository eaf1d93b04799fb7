package daemon

import (
	"os"
	"path/filepath"
	"time"

	"logfs/cmd/logfs/internal/exit"
	"logfs/fs"
)

// Leave has the daemon end, on Close, as if it were killed, but in order: runs,
// services and the mount are left to the next daemon.
func (d *Daemon) Leave() error {
	if d.o.Holder == "" {
		return exit.Misusef("this daemon holds everything itself: end it")
	}
	d.goLeave.Do(func() { close(d.left) })
	return nil
}

// Left is closed when somebody has called Leave.
func (d *Daemon) Left() <-chan struct{} { return d.left }

func (d *Daemon) leaving() bool {
	select {
	case <-d.left:
		return true
	default:
		return false
	}
}

// leaveFlush is how long the disk may take before readers begin to wait: what it
// has then, it need not get while they do.
const leaveFlush = 2 * time.Second

// leave is Close after Leave. The lock of the store goes with the process: no
// other may go on while this one may still read requests of the mount.
func (d *Daemon) leave() error {
	_ = patiently(leaveFlush, func() error { return d.Flush(nil) })
	d.stop()
	d.leaveIntakes()
	return d.finish()
}

// leaveIntakes captures what waits in the sockets. FIFOs are left to their
// holders.
func (d *Daemon) leaveIntakes() {
	_ = inParallel(d.list(), func(s *service) error {
		if s.config().Syslog != "" {
			d.stopIntake(s)
		}
		return nil
	})
}

func (d *Daemon) unlockStore() error {
	if d.leaving() {
		return nil
	}
	return d.lock.Close()
}

// closeTree takes the tree away, or leaves it.
func (d *Daemon) closeTree() error {
	if tree, ok := d.tree.(server); ok && d.leaving() {
		tree.Leave()
		return nil
	}
	return d.tree.Close()
}

// adoptMount goes on with the mount of an earlier daemon. It returns nil if there
// is none, or none that one can go on with: then that is gone.
func (d *Daemon) adoptMount(o fs.Options) (Tree, error) {
	h := d.holder
	if h == nil {
		return nil, nil
	}
	d.holder = nil
	why := h.why
	if h.kept != nil && d.o.Holder != "" && h.kept.Dir == o.Dir {
		s, err := fs.Adopt(o, h.kept)
		if err == nil {
			d.holdMount(h, s)
			return server{s}, nil
		}
		why = err
	}
	if h.kept != nil {
		if err := h.kept.Abandon(); err != nil {
			why = err
		}
		h.kept.Close()
	}
	d.o.Log.Info("the mount of the last daemon is not gone on with", "why", why)
	h.end()
	return nil, checkMountPoint(o.Dir, d.o.MakeMount)
}

// resume has an adopted tree answer: all services have been added.
func (d *Daemon) resume() error {
	if tree, ok := d.tree.(server); ok && tree.Adopted() {
		d.o.Log.Info("going on with the mount of the last daemon", "mount", d.o.Config.Mount)
		return tree.Resume()
	}
	return nil
}

// mountState is memory for the state of a mount that is to outlive the daemon.
func (d *Daemon) mountState() *os.File {
	if d.o.Holder == "" {
		return nil
	}
	state, err := newMountState()
	if err != nil {
		d.notKept(err)
	}
	return state
}

func (d *Daemon) notKept(err error) {
	d.o.Log.Warn("the mount will end with this daemon: it has no holder", "err", err)
}

// keepMount starts a holder for a tree just mounted.
func (d *Daemon) keepMount(tree Tree, state *os.File) {
	s, ok := tree.(server)
	if !ok || state == nil {
		return
	}
	defer state.Close()
	device, err := s.Connection()
	if err == nil {
		defer device.Close()
		var h *mountHolder
		if h, err = d.startMountHolder(device, state); err == nil {
			d.holdMount(h, s.Server)
			return
		}
	}
	d.notKept(err)
}

// holdMount remembers the holder of the mount, and says so when it goes.
func (d *Daemon) holdMount(h *mountHolder, s *fs.Server) {
	d.keeping.Lock()
	defer d.keeping.Unlock()
	d.keeper = h
	go func() {
		h.lost()
		d.keeping.Lock()
		defer d.keeping.Unlock()
		if d.keeper == h && !d.unkept {
			d.o.Log.Warn("the holder of the mount has ended; the mount will end with this daemon", "mount", d.o.Config.Mount)
			d.keeper = nil
		}
	}()
}

// endMountHolder ends the holder of a mount that is gone. One that is left goes on.
func (d *Daemon) endMountHolder() error {
	d.keeping.Lock()
	d.unkept = true
	h := d.keeper
	d.keeper = nil
	d.keeping.Unlock()
	if h != nil && !d.leaving() {
		h.end()
		_ = os.Remove(filepath.Join(d.o.Config.Store, locksDir, mountSocket))
	}
	return nil
}
