package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"logfs/cmd/logfs/internal/config"
	tree "logfs/fs"
)

// A sink is a service as it can be written and changed through the tree.
type sink struct {
	d *Daemon
	s *service
}

// Rotate implements fs.Sink.
func (k sink) Rotate() error { return k.s.verb("rotate", k.s.log.Rotate()) }

// Sync implements fs.Sink.
func (k sink) Sync() error { return k.s.verb("flush", k.s.log.Sync()) }

// verb logs an error, of which the tree tells no more than a number.
func (s *service) verb(what string, err error) error {
	if err != nil {
		s.events.Error("cannot "+what+" the log, as asked through the mount", "err", err)
	}
	return err
}

// SetAccess implements fs.Sink. What the configuration says cannot be changed.
func (k sink) SetAccess(a tree.Access) error {
	s := k.s
	s.accessing.Lock()
	defer s.accessing.Unlock()
	c := s.config()
	if a.Uid != nil && c.Owner != "" || a.Gid != nil && c.Group != "" || a.Mode != nil && c.ModeSet {
		s.events.Info("owner, group and mode are not changed that the configuration sets")
		return syscall.EPERM
	}
	l, err := k.d.looks(unset(c))
	if err != nil {
		return err
	}
	for _, field := range []struct{ to, from *uint32 }{{&l.Uid, a.Uid}, {&l.Gid, a.Gid}, {&l.Mode, a.Mode}} {
		if field.from != nil {
			*field.to = *field.from
		}
	}
	if err := remember(k.d.logdir(c.Name), l); err != nil {
		return s.verb("change who may read", err)
	}
	k.d.configureLocked(s, c)
	return nil
}

// unset is c without owner, group and mode.
func unset(c config.Service) config.Service {
	c.Owner, c.Group = "", ""
	if c.ModeSet {
		c.Mode, c.ModeSet = config.Default().Defaults.Mode, false
	}
	return c
}

func (d *Daemon) logdir(service string) string { return filepath.Join(d.o.Config.Store, service) }

// looks is how a service is shown: as configured, else as somebody has asked
// for through the mount, else as by default.
func (d *Daemon) looks(c config.Service) (tree.Looks, error) {
	l, err := looksOf(c)
	var st unix.Stat_t
	if err != nil || unix.Lstat(d.logdir(c.Name), &st) != nil || st.Mode&(unix.S_IFMT|remembered) != unix.S_IFDIR|remembered {
		return l, err
	}
	if c.Owner == "" {
		l.Uid = st.Uid
	}
	if c.Group == "" {
		l.Gid = st.Gid
	}
	if !c.ModeSet {
		l.Mode = uint32(st.Mode) & 0o777
	}
	return l, nil
}

// remembered is the mode bit of a logdir that has owner, group and mode from
// somebody who asked for them. Beside that it keeps a group that may write there
// from removing the files.
const remembered = unix.S_ISVTX

// remember gives the logdir the owner, group and mode of l. A crash in between
// leaves it less open, not more.
func remember(dir string, l tree.Looks) error {
	f, err := os.OpenFile(dir, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if err := f.Chmod(fi.Mode().Perm() & fs.FileMode(l.Mode)); err != nil {
		return err
	}
	if err := f.Chown(int(l.Uid), int(l.Gid)); err != nil {
		return errors.Join(err, f.Chmod(fi.Mode()))
	}
	if err := f.Chmod(fs.FileMode(l.Mode) | fs.ModeSticky); err != nil {
		return err
	}
	return f.Sync()
}

// makeService is mkdir in the tree: it adds a service with the settings of
// [defaults], which are not opened wider by mode, but may be narrowed.
func (d *Daemon) makeService(name string, mode uint32) error {
	if config.CheckName(name) != nil {
		return syscall.EINVAL
	}
	d.gate.RLock()
	defer d.gate.RUnlock()
	if d.stopping {
		return syscall.ENOTCONN
	}
	d.opening.Lock()
	defer d.opening.Unlock()
	if d.find(name) != nil {
		return syscall.EEXIST
	}
	s, err := d.openNew(name)
	if errors.Is(err, errLimit) {
		err = errors.Join(err, syscall.EDQUOT)
	}
	if err != nil {
		d.o.Log.Error("cannot make a service, as asked through the mount", "service", name, "err", err)
		return err
	}
	s.events.Info("service made through the mount")
	if narrow := s.settings.Mode & mode; narrow != s.settings.Mode && !s.settings.ModeSet {
		return sink{d, s}.SetAccess(tree.Access{Mode: &narrow})
	}
	return nil
}

// removeService is rmdir in the tree. What is in use stays, and what the
// configuration has; the files of the others do.
func (d *Daemon) removeService(name string) error {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	s := d.find(name)
	switch {
	case s == nil:
		return syscall.ENOENT
	case d.configured[name]:
		return fmt.Errorf("the configuration has the service: %w", syscall.EPERM)
	case d.serving.Err() != nil:
		return syscall.ENOTCONN
	case !s.retireUnused():
		return syscall.EBUSY
	}
	d.remove(s)
	return nil
}

// retireUnused has the service taken by nobody any more, unless somebody has it
// or writes to it.
func (s *service) retireUnused() bool {
	s.writers.mu.Lock()
	defer s.writers.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.writers.open) > 0 || s.taken || s.owned || s.leaving {
		return false
	}
	s.leaving, s.writers.over = true, syscall.ESTALE
	return true
}
