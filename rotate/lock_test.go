package rotate

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
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

const childEnv = "ROTATE_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		childMain(dir)
	}
	os.Exit(m.Run())
}

// childMain appends numbered lines for ever and tells what has been written.
func childMain(dir string) {
	d, err := Open(Options{Dir: dir, Service: "web", Size: 4000, Keep: 1 << 30})
	for next := d.State().Next; err == nil; fmt.Println(next) {
		next, err = d.Append([]byte(lines(next, next+23)), next, next+23, 0)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// TestKill kills a writing process again and again. Every line it has told
// of is there, the rest is a continuation of them, and the lock is free.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	for i := range 10 {
		told := killChild(t, dir, 5+37*i)
		d := mustOpen(t, options(dir))
		next := d.State().Next
		if next < told {
			t.Errorf("next number %d, but lines to %d had been written", next, told-1)
		}
		if d.State().Clean {
			t.Error("a killed process has closed cleanly")
		}
		crash(d)
		checkFiles(t, dir, lines(1, next))
	}
}

// killChild runs a child, kills it after it has told of the given number of
// batches, and returns the last number it told.
func killChild(t *testing.T, dir string, batches int) (told uint64) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for s := bufio.NewScanner(out); s.Scan(); batches-- {
		if told, err = strconv.ParseUint(s.Text(), 10, 64); err != nil {
			t.Fatal(err)
		}
		if batches == 0 {
			cmd.Process.Kill()
		}
	}
	cmd.Wait()
	return told
}
