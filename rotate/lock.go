package rotate

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrLocked is returned by Open when another process, or another Logdir of
// this one, owns the directory.
var ErrLocked = errors.New("in use by another logger")

// The lock file also holds the id of the boot in which it last had an owner of
// ours.
const lockName = "lock"

// takeLock makes this Logdir the owner of the directory until d.lock is
// closed, which the death of the process does too. The file stays: removing
// it would let two owners lock two files of the same name. Nobody but the
// owner may open it, because who can open a file can lock it.
func (d *Logdir) takeLock() error {
	if err := d.checkNoLock(); err != nil {
		return err
	}
	f, err := d.dir.Open(lockName, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return d.wrap("open", lockName, err)
	}
	if err := d.checkLock(f); err != nil {
		f.Close()
		return err
	}
	if err := f.Lock(); err != nil {
		f.Close()
		return fmt.Errorf("cannot lock %q: %w", d.opt.Dir, err)
	}
	d.lock = f
	return nil
}

// sameBoot says whether the machine has been up all the time since the last
// owner opened the logdir. Not knowing counts as no.
func (d *Logdir) sameBoot() bool {
	var buf [64]byte
	n, _ := d.lock.ReadAt(buf[:], 0)
	return d.opt.Boot != "" && string(bytes.TrimSuffix(buf[:n], newline)) == d.opt.Boot
}

// noteBoot keeps the id of this boot. It need not reach the disk: after a power
// cut any other content, also half an id or NULs, says what is true. So does an
// error, which at worst makes the next Open take a kill for a power cut.
func (d *Logdir) noteBoot() {
	if d.opt.Boot == "" || d.sameBoot() || d.lock.Truncate(0) != nil {
		return
	}
	_, _ = d.lock.Write([]byte(d.opt.Boot + "\n"))
}

// bootID is what the kernel calls this boot, or "".
func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return string(bytes.TrimSpace(b))
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
