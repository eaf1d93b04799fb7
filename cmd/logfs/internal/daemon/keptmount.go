package daemon

import (
	"os"
	"path/filepath"
	"sync"
	"time"

	"logfs/fs"
)

// A keptMount is the mount of a running daemon, for the next one. It has a holder,
// another one when that ends, and is left to the service manager, too, if that
// keeps files: it may keep them or not, and each is there when the other is lost.
type keptMount struct {
	d             *Daemon
	device, state *os.File
	again         backoff // of holders

	mu     sync.Mutex
	holder *mountHolder // nil while there is none
	over   bool         // there is to be none any more
}

const (
	holderAgain   = 100 * time.Millisecond
	holderAtMost  = time.Minute
	withoutHolder = "the mount will end with this daemon: it has no holder"
)

// mountState is memory for the state of a mount that is to outlive the daemon.
func (d *Daemon) mountState() *os.File {
	if d.o.Holder == "" {
		return nil
	}
	state, err := newMountState()
	if err != nil {
		d.o.Log.Warn(withoutHolder, "err", err)
	}
	return state
}

// keepMount keeps the tree s, of which m has the state, and all that is known of
// who keeps it already.
func (d *Daemon) keepMount(s *fs.Server, m *oldMount) {
	device, err := s.Connection()
	if err != nil {
		m.state.Close()
		d.o.Log.Warn(withoutHolder, "err", err)
		return
	}
	k := &keptMount{d: d, device: device, state: m.state, holder: m.holder}
	k.again = backoff{first: holderAgain, max: holderAtMost}
	d.kept = k
	if !m.stored && d.o.Files != nil {
		d.o.Files.Put(storedName(d.o.Config.Store), device, m.state)
	}
	if k.holder == nil {
		if err := k.startHolder(); err != nil {
			d.o.Log.Warn(withoutHolder, "err", err)
		}
	}
	go k.stay()
}

// stay starts another holder each time that one has ended. It returns when the
// mount is not to be kept any more.
func (k *keptMount) stay() {
	for {
		began := time.Now()
		if !k.awaitLoss() {
			return
		}
		before := k.again.wait
		k.say(before, k.again.after(time.Since(began)))
		if !pause(k.d.capturing, k.again.wait) {
			return
		}
		if err := k.startHolder(); err != nil {
			k.d.o.Log.Debug("cannot start a holder of the mount", "err", err)
		}
	}
}

// say says once that holders end, and once that none lives.
func (k *keptMount) say(before, wait time.Duration) {
	switch {
	case wait == k.again.first:
		k.d.o.Log.Warn("the holder of the mount has ended; another is started", "mount", k.d.o.Config.Mount)
	case wait == k.again.max && before != wait:
		k.d.o.Log.Warn("the mount may end with this daemon: no holder of it lives", "mount", k.d.o.Config.Mount)
	}
}

// awaitLoss returns when there is no holder, or false when there is to be none.
func (k *keptMount) awaitLoss() bool {
	k.mu.Lock()
	h := k.holder
	k.mu.Unlock()
	if h != nil {
		h.lost()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.over {
		return false
	}
	if h != nil {
		h.conn.Close()
		k.holder = nil
	}
	return true
}

func (k *keptMount) startHolder() (err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.over {
		return nil
	}
	k.holder, err = k.d.startMountHolder(k.device, k.state)
	return err
}

// endKeeping has nobody keep a mount that is gone. One that is left stays with those
// who keep it.
func (d *Daemon) endKeeping() error {
	k := d.kept
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.over {
		return nil
	}
	k.over = true
	if d.leaving() {
		return nil
	}
	if d.o.Files != nil {
		d.o.Files.Remove(storedName(d.o.Config.Store))
	}
	k.device.Close()
	k.state.Close()
	if k.holder != nil {
		k.holder.end()
	}
	_ = os.Remove(filepath.Join(d.o.Config.Store, locksDir, mountSocket))
	return nil
}
