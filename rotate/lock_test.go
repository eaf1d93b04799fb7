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

// The lock tells a dead process, whose lines the page cache still has, from a
// machine that went down. What power loss can leave of it says the latter.
func TestBoots(t *testing.T) {
	for _, tt := range []struct {
		what, lock string
		clean      bool
		down       bool
	}{
		{"killed", "this boot\n", false, false},
		{"power cut", "another boot\n", false, true},
		{"power cut before the lock was on disk", "", false, true},
		{"NULs in the lock", "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", false, true},
		{"half a lock", "this b", false, true},
		{"closed before the machine went down", "another boot\n", true, false},
	} {
		o := options(t.TempDir())
		lay(t, o.Dir, file{currentName, header(3, 5) + lines(5, 8), tt.clean})
		lay(t, o.Dir, file{name: lockName, content: tt.lock})
		d := mustOpen(t, o)
		if s := d.State(); s.Clean != tt.clean || s.Down != tt.down {
			t.Errorf("%s: %+v, want down %v", tt.what, s, tt.down)
		}
		crash(d)
		d = mustOpen(t, o)
		if s := d.State(); s.Clean || s.Down {
			t.Errorf("%s, then killed: %+v, want neither clean nor down", tt.what, s)
		}
		mustClose(t, d)
	}
}

// A logdir that could not be opened after a power cut says so when it can.
func TestBootOfFailedOpen(t *testing.T) {
	o := options(t.TempDir())
	lay(t, o.Dir, file{currentName, header(3, 5) + lines(5, 8), false})
	lay(t, o.Dir, file{name: lockName, content: "another boot\n"})
	failing := o
	failing.FS = &faultFS{FS: osFS{}, from: 8, count: 1 << 30}
	if d, err := Open(failing); err == nil {
		t.Fatalf("opened: %+v", d.State())
	}
	d := mustOpen(t, o)
	if !d.State().Down {
		t.Errorf("%+v, want down", d.State())
	}
	mustClose(t, d)
}

func TestBootOfTheMachine(t *testing.T) {
	o := options(t.TempDir())
	o.Boot = ""
	mustClose(t, mustOpen(t, o))
	lock, err := os.ReadFile(filepath.Join(o.Dir, lockName))
	id, err2 := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil || err2 != nil || string(lock) != string(id) {
		t.Errorf("lock holds %q, %v; the id is %q, %v", lock, err, id, err2)
	}
}
