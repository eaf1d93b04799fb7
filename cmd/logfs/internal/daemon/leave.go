package daemon

import (
	"time"

	"logfs/cmd/logfs/internal/exit"
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
	d.reloading.Lock() // one that is under way ends soon
	d.reloading.Unlock()
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
