package rotate

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrLocked is returned by Open when another process, or another Logdir of
// this one, owns the directory.
var ErrLocked = errors.New("in use by another logger")

const lockName = "lock"

// takeLock makes this Logdir the owner of the directory until d.lock is
// closed, which the death of the process does too. The file stays: removing
// it would let two owners lock two files of the same name. Nobody but the
// owner may open it, because who can open a file can lock it.
func (d *Logdir) takeLock() error {
	f, err := d.dir.Open(lockName, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return d.wrap("open", lockName, err)
	}
	if err := f.Lock(); err != nil {
		f.Close()
		return fmt.Errorf("cannot lock %q: %w", d.opt.Dir, err)
	}
	d.lock = f
	return nil
}

// Lock takes both kinds of lock there are, because multilog and svlogd use
// the one and s6-log the other, and neither kind sees the other. The fcntl
// lock is one of the open file, so closing some other descriptor of the same
// file does not drop it.
func (f osFile) Lock() error {
	fd := int(f.File.Fd())
	err := retry(func() error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
	if err == nil {
		err = retry(func() error {
			return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
		})
	}
	if err == unix.EWOULDBLOCK || err == unix.EACCES {
		return ErrLocked
	}
	return err
}
