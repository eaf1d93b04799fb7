package rotate

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLock(t *testing.T) {
	dir := t.TempDir()
	d := mustOpen(t, options(dir))
	_, err := Open(options(dir))
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Errorf("second owner: %v", err)
	}
	mustAppend(t, d, text(1), 1, 2, 0)
	mustClose(t, d)
	d = mustOpen(t, options(dir))
	if d.State().Next != 2 {
		t.Errorf("the attempt to open changed something: %+v", d.State())
	}
	mustClose(t, d)
}

// TestLocksOfOtherLoggers holds one kind of lock only, as multilog and svlogd
// hold the one and s6-log the other.
func TestLocksOfOtherLoggers(t *testing.T) {
	for name, lock := range map[string]func(fd int) error{
		"flock": func(fd int) error { return unix.Flock(fd, unix.LOCK_EX) },
		"fcntl": func(fd int) error {
			return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
		},
	} {
		dir := t.TempDir()
		f, err := os.Create(filepath.Join(dir, lockName))
		if err != nil {
			t.Fatal(err)
		}
		if err := lock(int(f.Fd())); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(options(dir)); !errors.Is(err, ErrLocked) {
			t.Errorf("%s: %v", name, err)
		}
		f.Close()
		mustClose(t, mustOpen(t, options(dir)))
	}
}
