package daemon

import (
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

// openInput makes the input of s, if it has one.
func (d *Daemon) openInput(s *service) error {
	var err error
	switch key, path := s.settings.Input(); key {
	case "fifo":
		s.fifo, err = openFifo(s.settings)
		err = cannotUse(err, s, key, path)
	case "syslog":
		s.socket, err = listenSyslog(s.settings)
		err = cannotUse(err, s, key, path)
	}
	return err
}

func cannotUse(err error, s *service, key, path string) error {
	if err == nil {
		return nil
	}
	return exit.With(exit.Status(err), fmt.Errorf("cannot use %s %q of service %q: %w", key, path, s.settings.Name, err))
}

func (d *Daemon) openInputs() error {
	d.finally(d.closeInputs)
	for _, s := range d.list() {
		if err := d.openInput(s); err != nil {
			return err
		}
	}
	return nil
}

// closeInputs takes the sockets away. What they have taken was captured.
func (d *Daemon) closeInputs() (err error) {
	for _, s := range d.list() {
		s.closeFifo()
		err = errors.Join(err, s.socket.close())
	}
	return err
}

// startInput begins to capture the input of s, if it has one.
func (d *Daemon) startInput(s *service) {
	switch {
	case s.settings.Fifo != "":
		d.inputs.Go(func() { d.keepFifo(s) })
	case s.socket != nil:
		d.inputs.Go(func() { d.serveSyslog(s) })
	}
}

// endInputs takes what was written up to now, and nothing more. It comes after
// the end of the commands, which may write to one.
func (d *Daemon) endInputs() {
	d.deafen()
	d.inputs.Wait()
}

// serveSyslog captures a socket until the daemon ends, as one run. What a sender
// could send before that is captured.
func (d *Daemon) serveSyslog(s *service) {
	stream, err := s.socket.stream()
	if err != nil {
		s.set(Failed)
		s.events.Error("cannot read the socket", "err", err)
		return
	}
	r := d.newRun(s, control.Pipe, []*os.File{stream})
	r.begin(d.capturing, &d.live, 0)
	select {
	case <-d.listening.Done():
	case <-r.ended: // for a reason that is in the log
		return
	}
	s.socket.refuse()
	late := time.NewTimer(killAfter)
	defer late.Stop()
	select {
	case <-r.ended:
	case <-late.C: // the disk takes nothing
	case <-d.hurry:
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
	uid, gid := -1, -1
	if c.InputOwner != "" {
		u, err := lookupUser(c.InputOwner)
		if err != nil {
			return exit.With(exit.Refused, err)
		}
		uid = int(number(u.Uid))
	}
	if c.InputGroup != "" {
		g, err := lookupGroup(c.InputGroup)
		if err != nil {
			return exit.With(exit.Refused, err)
		}
		gid = int(number(g.Gid))
	}
	if uid >= 0 || gid >= 0 {
		if err := unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
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
