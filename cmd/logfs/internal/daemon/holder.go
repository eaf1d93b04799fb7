package daemon

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"logfs/cmd/logfs/internal/config"
	"logfs/cmd/logfs/internal/control"
)

// A service of the configuration runs under a holder: a small process that is
// the parent of its command, keeps its pipes and a Hold, and outlives the daemon.
// It holds a lock, by which the next daemon knows that the service runs, and
// waits for it instead of starting the command once more.

// HoldWord is the command of the program that is a holder, which gets a Holding
// as JSON and the lock on these descriptors, and says on standard output why it
// could not start the command.
const (
	HoldWord = "hold"
	HoldSpec = 3
	HoldLock = 4
)

// A Holding is what a holder has to know.
type Holding struct {
	Service config.Service
	Socket  string
	// About says what the command is; it comes back with the run.
	About string
	// Mount says that it is the mount that is held, see KeepMount.
	Mount bool
}

// about differs for settings of which one needs another command to be started.
func about(s config.Service) string {
	what := fmt.Sprintf("%q %q %q %q", s.Command, s.Dir, s.Env, s.User)
	return fmt.Sprintf("%x", sha256.Sum256([]byte(what)))
}

const (
	locksDir = ".held" // in the store; no service has such a name
	// lockLook is how often a daemon looks whether the holder it waits for is
	// still there. A holder finds its daemon within a second.
	lockLook = 250 * time.Millisecond
)

// A broughtRun is a run that a holder has brought.
type broughtRun struct {
	run   *run
	pid   int
	about string
}

// runHeld has a holder run the command of s to its exit mark, or takes over the
// run of the holder that an earlier daemon has left, and says whether it failed.
func (d *Daemon) runHeld(s *service, j *job) (failed bool) {
	for {
		h, err := d.getHeld(s, j)
		if d.leaving() {
			return false
		}
		if err != nil {
			return d.cannotStart(s, err)
		}
		switch {
		case h.run == nil && j.serving.Err() != nil:
			return true
		case h.run == nil: // the old holder has gone without its run
		case h.about != about(s.config()) && j.serving.Err() == nil:
			s.events.Info("the settings of the command have changed; it is started again")
			d.attend(s, j.stopped(), h)
		default:
			return d.attend(s, j, h)
		}
	}
}

func (d *Daemon) getHeld(s *service, j *job) (broughtRun, error) {
	lock, err := d.lockHolder(s)
	if err != nil {
		return broughtRun{}, err
	}
	died := make(chan error, 1)
	if lock != nil {
		if _, err := d.startHolder(s, lock, died); err != nil {
			return broughtRun{}, err
		}
	}
	return d.awaitHolder(s, j, lock == nil, died)
}

// attend stays with a run to its end.
func (d *Daemon) attend(s *service, j *job, h broughtRun) (failed bool) {
	j.children.Go(func() { d.terminate(j, h.pid, h.run.ended, h.run.drained) })
	<-h.run.ended
	if h.run.err == control.ErrLeft {
		return false
	}
	e := h.run.how
	s.events.Info("service ended", "pid", h.pid, how(e))
	d.awaitHolderEnd(s)
	return !e.Known || ended(e) == Failed
}

// endStray ends a run that an earlier daemon has left, of a command that the
// configuration has no more.
func (d *Daemon) endStray(s *service, h broughtRun) {
	s.events.Info("the configuration has no command for the service any more; it is ended", "pid", h.pid)
	d.attend(s, (&job{serving: d.serving}).stopped(), h)
}

// lockHolder takes the lock of the holder of s. It returns nil if one holds it.
func (d *Daemon) lockHolder(s *service) (*os.File, error) {
	return d.lockHolderNamed(s.name)
}

func (d *Daemon) lockHolderNamed(name string) (*os.File, error) {
	dir := filepath.Join(d.o.Config.Store, locksDir)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	fd, err := unix.Open(filepath.Join(dir, name), unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open the lock of its holder: %w", err)
	}
	f := os.NewFile(uintptr(fd), "lock")
	switch err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err {
	case nil:
		// What it says is of a holder that has gone.
		if err := f.Truncate(0); err != nil {
			f.Close()
			return nil, fmt.Errorf("cannot clear the lock of its holder: %w", err)
		}
		return f, nil
	case unix.EWOULDBLOCK:
		f.Close()
		return nil, nil
	default:
		f.Close()
		return nil, fmt.Errorf("cannot lock its holder: %w", err)
	}
}

// startHolder starts a holder, which has the lock and the files from then on. died
// gets why it has ended, if that was before it had a command.
func (d *Daemon) startHolder(s *service, lock *os.File, died chan<- error, files ...*os.File) (pid int, err error) {
	defer lock.Close()
	spec, w, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("cannot make a pipe: %w", err)
	}
	defer spec.Close()
	cmd := exec.Command(d.o.Holder, HoldWord, s.name)
	cmd.Args[0] = "logfs"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.ExtraFiles = append([]*os.File{spec, lock}, files...)
	said, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		w.Close()
		return 0, fmt.Errorf("cannot start its holder: %w", err)
	}
	go func() {
		why, _ := io.ReadAll(io.LimitReader(said, 4<<10))
		_ = cmd.Wait()
		died <- holderError(string(why), cmd.ProcessState)
	}()
	settings := s.config()
	go func() {
		defer w.Close()
		_ = json.NewEncoder(w).Encode(Holding{Service: settings, Socket: d.o.Config.Socket, About: about(settings)})
	}()
	return cmd.Process.Pid, nil
}

func holderError(why string, state *os.ProcessState) error {
	if why = strings.TrimSpace(why); why != "" {
		return errors.New(why)
	}
	return fmt.Errorf("its holder ended at once: %v", state)
}

// awaitHolder waits for the run that a holder brings: one just started, or an
// old one. It returns no run if the old one has gone, or if the job is stopped and
// the holder does not come: then the command runs on.
func (d *Daemon) awaitHolder(s *service, j *job, old bool, died <-chan error) (broughtRun, error) {
	var look <-chan time.Time
	if old {
		s.events.Info("the service runs; waiting for its holder")
		ticker := time.NewTicker(lockLook)
		defer ticker.Stop()
		look = ticker.C
	}
	stopped, late := j.serving.Done(), time.NewTimer(holderPatience)
	defer late.Stop()
	for {
		select {
		case h := <-s.brought:
			return h, nil
		case <-d.left:
			return broughtRun{}, errStopping
		case err := <-died:
			select {
			case h := <-s.brought: // and has ended since
				return h, nil
			default:
				return broughtRun{}, err
			}
		case <-look:
			lock, err := d.lockHolder(s)
			if lock != nil {
				lock.Close()
			}
			if err != nil || lock != nil {
				return broughtRun{}, err
			}
		case <-stopped:
			stopped = nil
			late.Reset(holderPatience)
		case <-late.C:
			if stopped == nil {
				s.events.Warn("the service is left running: its holder does not come")
				return broughtRun{}, nil
			}
		case <-d.hurry:
			return broughtRun{}, nil
		}
	}
}

// holderPatience is how long a holder may take to end when its run has, or to come
// when its command is to end.
const holderPatience = 5 * time.Second

// awaitHolderEnd waits until the holder of a run that is over has gone, so that
// the next one can be started, and none is left when the daemon ends.
func (d *Daemon) awaitHolderEnd(s *service) {
	fd, err := unix.Open(filepath.Join(d.o.Config.Store, locksDir, s.name), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	_ = patiently(holderPatience, func() error {
		defer unix.Close(fd)
		return unix.Flock(fd, unix.LOCK_EX)
	})
}
