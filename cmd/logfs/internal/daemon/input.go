package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"logfs/cmd/logfs/internal/config"
	"logfs/cmd/logfs/internal/control"
	"logfs/cmd/logfs/internal/exit"
)

// Lines that nobody's command writes come in by an input: a FIFO or a socket that
// the configuration names, and that whoever may opens.

// An intake captures the input of a service, until it is stopped.
type intake struct {
	listening context.Context // cancelled to end it
	stop      context.CancelFunc
	ended     chan struct{} // closed when all that was written is captured; nil before start

	// What was opened before the start, so that writers find it and mistakes are
	// seen; nil when it has to be opened.
	fifo   *os.File
	socket *syslogSocket
}

// openIntakes opens all inputs of the configuration.
func (d *Daemon) openIntakes() error {
	d.finally(d.closeIntakes)
	for _, s := range d.list() {
		c := s.config()
		key, path := c.Input()
		if key == "" {
			continue
		}
		in := newIntake()
		if err := in.open(c); err != nil {
			return exit.With(exit.Status(err), fmt.Errorf("cannot use %s %q of service %q: %w", key, path, s.name, err))
		}
		s.intake = in
		s.own(true)
	}
	return nil
}

func newIntake() *intake {
	in := &intake{}
	in.listening, in.stop = context.WithCancel(context.Background())
	return in
}

// open opens what is not open.
func (in *intake) open(c config.Service) (err error) {
	switch {
	case c.Fifo != "" && in.fifo == nil:
		in.fifo, err = openFifo(c)
	case c.Syslog != "" && in.socket == nil:
		in.socket, err = listenSyslog(c)
	}
	return err
}

// closeIntakes closes the inputs of a daemon that was never started.
func (d *Daemon) closeIntakes() error {
	for _, s := range d.list() {
		if s.intake != nil {
			s.intake.closeFifo()
			s.intake.closeSocket(s)
		}
	}
	return nil
}

func (in *intake) closeFifo() {
	in.fifo.Close()
	in.fifo = nil
}

func (in *intake) closeSocket(s *service) {
	if err := in.socket.close(); err != nil {
		s.events.Warn("the socket is left", "err", err)
	}
	in.socket = nil
}

// startWays begins what brings lines to s by itself. The caller holds reloading.
func (d *Daemon) startWays(s *service) {
	c := s.config()
	key, _ := c.Input()
	switch {
	case c.Command != nil:
		d.startCommand(s)
	case key != "":
		d.startIntake(s)
	default:
		s.own(false)
	}
}

// startIntake begins to capture the input of s.
func (d *Daemon) startIntake(s *service) {
	if s.intake == nil {
		s.intake = newIntake()
	}
	in := s.intake
	in.ended = make(chan struct{})
	s.own(true)
	go func() {
		defer close(in.ended)
		d.keepIntake(s, in)
	}()
}

// stopIntake captures what was written up to now, and nothing more. The service
// stays reserved for the daemon. The caller holds reloading, if there can be a
// reload.
func (d *Daemon) stopIntake(s *service) {
	if s.intake == nil {
		return
	}
	s.intake.stop()
	if s.intake.ended != nil {
		<-s.intake.ended
	}
	s.intake = nil
}

// stopIntakes comes after the end of the commands, which may write to one.
func (d *Daemon) stopIntakes() {
	_ = inParallel(d.list(), func(s *service) error {
		d.stopIntake(s)
		return nil
	})
}

// keepIntake captures the input of s, and opens it again when that fails.
func (d *Daemon) keepIntake(s *service, in *intake) {
	if !s.awaitFree(in.listening) {
		return
	}
	var loop supervisor
	loop = supervisor{
		restart: config.Always,
		run: func(context.Context) (failed bool) {
			c := s.config()
			loop.backoff.first, loop.backoff.max = c.Backoff, c.BackoffMax
			key, path := c.Input()
			if err := d.captureInput(s, in, c); err != nil {
				s.events.Error("the input is not read", key, path, "err", err)
			}
			return true
		},
		waiting: func(wait time.Duration) {
			s.set(Backoff)
			s.events.Info("the input will be opened again", "in", wait)
		},
	}
	loop.loop(in.listening)
}

func (d *Daemon) captureInput(s *service, in *intake, c config.Service) error {
	if c.Fifo != "" {
		return d.holdFifo(s, in, c)
	}
	if err := in.open(c); err != nil {
		return err
	}
	defer in.closeSocket(s)
	return d.serveSyslog(s, in)
}

// serveSyslog captures a socket until the intake is stopped, as one run. What a
// sender could send before that is captured.
func (d *Daemon) serveSyslog(s *service, in *intake) error {
	stream, err := in.socket.stream()
	if err != nil {
		return err
	}
	r := d.newRun(s, control.Pipe, []*os.File{stream})
	r.begin(s.capturing, &s.live, 0)
	select {
	case <-in.listening.Done():
	case <-r.ended:
		return errors.New("capture has ended")
	}
	in.socket.refuse()
	late := time.NewTimer(killAfter)
	defer late.Stop()
	select {
	case <-r.ended:
	case <-late.C: // the disk takes nothing
	case <-d.hurry:
	}
	return nil
}

// mended says that the input is open again.
func (s *service) mended() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == Backoff {
		s.state = Idle
	}
}

// sameInput says whether the same input is read by the settings a and b.
func sameInput(a, b config.Service) bool { return a.Fifo == b.Fifo && a.Syslog == b.Syslog }

// redress gives an input that is open the owner and mode of other settings.
func (s *service) redress(before, c config.Service) {
	key, path := c.Input()
	if key == "" || before.InputOwner == c.InputOwner && before.InputGroup == c.InputGroup && before.InputMode == c.InputMode {
		return
	}
	fd, st, err := fileAt(path)
	if err == nil {
		defer unix.Close(fd)
		if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFIFO && kind != unix.S_IFSOCK {
			err = wrongKind(st, "the input")
		} else {
			err = dress(fd, c, 0)
		}
	}
	if err != nil {
		s.events.Warn("owner and mode of the input are not changed", key, path, "err", err)
	}
}

// makeParent makes the directory of an input if it is missing, for everybody to
// pass: who may write is said of the input itself.
func makeParent(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return exit.With(exit.Refused, err)
	}
	return nil
}

// dress gives a file that is open as fd, with O_PATH, the owner and mode that the
// configuration has, or mode if it has none and that is not 0.
func dress(fd int, c config.Service, mode uint32) error {
	const asItIs = ^uint32(0)
	uid, gid := asItIs, asItIs
	if err := errors.Join(own(&uid, c.InputOwner, userID), own(&gid, c.InputGroup, groupID)); err != nil {
		return exit.With(exit.Refused, err)
	}
	if uid != asItIs || gid != asItIs {
		if err := unix.Fchownat(fd, "", int(int32(uid)), int(int32(gid)), unix.AT_EMPTY_PATH); err != nil {
			return exit.Refusedf("cannot give it to %q: %w", c.InputOwner+":"+c.InputGroup, err)
		}
	}
	if c.InputMode != 0 {
		mode = c.InputMode
	}
	if mode != 0 {
		if err := unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), mode); err != nil {
			return exit.Refusedf("cannot set its mode to %04o: %w", mode, err)
		}
	}
	return nil
}

// fileAt opens what has the name path, a symbolic link too, for no more than to
// look at it, and says what kind of file it is.
func fileAt(path string) (fd int, st unix.Stat_t, err error) {
	fd, err = unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, st, err
	}
	if err = unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return -1, st, err
	}
	return fd, st, nil
}

// kinds are what a file may be in the place of an input.
var kinds = map[uint32]string{
	unix.S_IFREG: "a regular file", unix.S_IFDIR: "a directory", unix.S_IFLNK: "a symbolic link",
	unix.S_IFCHR: "a device", unix.S_IFBLK: "a device", unix.S_IFIFO: "a FIFO", unix.S_IFSOCK: "a socket",
}

// wrongKind refuses to take the place of a file that is something else.
func wrongKind(st unix.Stat_t, want string) error {
	return exit.Misusef("it is %s: want nothing there, or %s", kinds[st.Mode&unix.S_IFMT], want)
}
