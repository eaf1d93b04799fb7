package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// emitter is the configuration of a service that writes the numbered lines up
// to last, ten at a time with a pause of so many microseconds between.
func emitter(name string, last, pause int, more ...string) string {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("[service.%s]\ncommand = [%q, \"%d\", \"%d\"]\nenv = { LOGFS_TEST_HELPER = \"emit\" }\nrestart = \"never\"\n%s\n",
		name, self, last, pause, strings.Join(more, "\n"))
}

// smallDisk gives a service a file system of its own, of so many bytes.
func (d *daemon) smallDisk(name string, size int) (dir string) {
	d.t.Helper()
	if os.Geteuid() != 0 {
		d.t.Skip("SKIPPED: only root can mount a small disk")
	}
	dir = d.logdir(name)
	must(d.t, os.MkdirAll(dir, 0o750))
	must(d.t, unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0750", size)))
	d.disks = append(d.disks, dir)
	return dir
}

// loopDisk mounts a new ext4 in a file at dir, and returns what puts such a
// file in its place.
func (d *daemon) loopDisk(dir, image string) (replace func(image string)) {
	t := d.t
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can mount a disk")
	}
	needTools(t, "mkfs.ext4", "mount")
	run := func(tool string, args ...string) {
		t.Helper()
		if res := runCommand(t, nil, d.dir, lookTool(tool), args...); res.status != 0 {
			t.Skipf("SKIPPED: %s: %s", tool, res.stderr)
		}
	}
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, 64<<20))
	run("mkfs.ext4", "-q", "-E", "root_owner=0:0", image)
	run("mount", "-o", "loop", image, dir)
	d.disks = append(d.disks, dir)
	return func(image string) {
		t.Helper()
		must(t, unix.Unmount(dir, unix.MNT_DETACH))
		run("mount", "-o", "loop", image, dir)
	}
}

// fill takes all room of a disk and returns what gives it back.
func fill(t testing.TB, dir string) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	for range 2 { // what ext4 keeps back for its own needs it gives at the fsync
		for _, size := range []int{1 << 20, 4 << 10, 1} {
			for err = nil; err == nil; {
				_, err = f.Write(make([]byte, size))
			}
			if !errors.Is(err, unix.ENOSPC) {
				t.Fatalf("cannot fill the disk: %v", err)
			}
		}
		must(t, f.Sync())
	}
	return func() { must(t, os.Remove(path)) }
}

func (d *daemon) awaitLog(text string) {
	d.t.Helper()
	eventually(d.t, func() string { return fmt.Sprintf("%q in the log of the daemon:\n%s", text, d.log) },
		func() bool { return strings.Contains(d.log.String(), text) })
}

func (d *daemon) statusNumber(name string, field int) int {
	d.t.Helper()
	n, err := strconv.Atoi(d.statusOf(name)[field])
	must(d.t, err)
	return n
}

func (d *daemon) awaitState(name, state string) {
	d.t.Helper()
	eventually(d.t, func() string { return name + " to be " + state },
		func() bool { return d.statusOf(name)[statusState] == state })
}

// A storedAccount is what the files of a logdir hold.
type storedAccount struct {
	lines, lost, marks, runs int
	last                     int // number of the newest record
}

// verified checks that logfs verify finds nothing in a logdir.
func (d *daemon) verified(dir string) {
	d.t.Helper()
	if res := d.logfs("verify", dir); res.status != 0 || res.stdout+res.stderr != "" {
		d.t.Errorf("logfs verify ended with %d: %s%s", res.status, res.stdout, res.stderr)
	}
}

// accountOfFiles reads a logdir whose service writes numbered lines in each of
// its runs. It checks that every file and line is whole, the numbers are dense
// over all files, and the lines of each run are there once, in order, from the
// first on, except those that a lost mark stands for.
func accountOfFiles(t testing.TB, dir string) (a storedAccount) {
	t.Helper()
	due := 0 // line of the run
	stamp := ""
	for _, path := range logdirFiles(t, dir) {
		b, err := os.ReadFile(path)
		must(t, err)
		for i, line := range strings.SplitAfter(string(b), "\n") {
			text, whole := strings.CutSuffix(line, "\n")
			switch m := storedLine.FindStringSubmatch(text); {
			case line == "" && i > 0:
				continue
			case !whole:
				t.Fatalf("%s: torn line %q", path, line)
			case i == 0:
				if first := headerFirst(t, path, text); first != a.last+1 {
					t.Fatalf("%s begins with number %d, want %d", path, first, a.last+1)
				}
				continue
			case m == nil || m[1] <= stamp:
				t.Fatalf("%s: %q after stamp %s", path, text, stamp)
			case m[2] != "=":
				if n := numberOf(m[3]); n != due {
					t.Fatalf("%s: line %d came as %q", path, due, text)
				}
				stamp = m[1]
				due++
				a.lines++
			case strings.HasPrefix(m[3], "lost lines="):
				n, err := strconv.Atoi(strings.TrimPrefix(m[3], "lost lines="))
				must(t, err)
				a.marks++
				a.lost += n
				due += n
				a.last += n - 1
				stamp = m[1]
			default:
				if strings.HasPrefix(m[3], "start ") {
					due = 1
					a.runs++
				}
				stamp = m[1]
			}
			a.last++
		}
	}
	return a
}

const keepAll = `size = "64KiB"
keep = 100000
min = 100000`
