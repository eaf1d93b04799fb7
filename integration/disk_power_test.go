package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// frailStore puts the store on a disk of its own, and returns a power cut, after
// which there is nothing but what was on that disk.
func (d *daemon) frailStore() (cut func()) {
	t := d.t
	t.Helper()
	must(t, os.MkdirAll(d.store, 0o750))
	dir := memoryDir(t)
	image, left := filepath.Join(dir, "image"), filepath.Join(dir, "left")
	replace := d.loopDisk(d.store, image)
	return func() {
		t.Helper()
		shutDown(t, d.store)
		d.kill()
		d.killServices() // and whoever outlives it
		if res := runCommand(t, nil, dir, "cp", image, left); res.status != 0 {
			t.Fatalf("cp: %s", res.stderr)
		}
		// Not the same file system again: somebody else's mount namespace may
		// hold it.
		replace(left)
		// The machine of this test has not gone down.
		must(t, os.WriteFile(filepath.Join(d.logdir("web"), "lock"), []byte("another boot\n"), 0o600))
	}
}

// shutDown ends a file system where it stands: its journal too is what is on
// the disk.
func shutDown(t testing.TB, dir string) {
	t.Helper()
	const shutdown, noLogFlush = 0x8004587d, 2
	root, err := unix.Open(dir, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(root)
	how := uint32(noLogFlush)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(root), shutdown, uintptr(unsafe.Pointer(&how))); errno != 0 {
		t.Fatalf("cannot shut the file system down: %v", errno)
	}
}

// memoryDir is a directory in memory, where there is one: the disk of the
// machine is busy with other tests.
func memoryDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "logfs-it-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

var cutMark = regexp.MustCompile(`(?m)^-- web cut off after line (\d+) \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ(?:, (\d+) bytes torn)?: later lines may be lost --$`)

// A power cut costs the lines of a second and the time that fsync takes. What
// is left are the first lines, whole, and the next start says where they end.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	type moment struct {
		seconds int
		size    string // of a file: rotation does an fsync too
	}
	moments := []moment{{3, "64KiB"}, {3, "4KiB"}}
	if os.Getenv("LOGFS_LONG") != "" {
		moments = append(moments, moment{12, "64KiB"}, moment{25, "4KiB"}, moment{45, "64KiB"})
	}
	for _, m := range moments {
		t.Run(fmt.Sprintf("after %d s, files of %s", m.seconds, m.size), func(t *testing.T) {
			t.Parallel()
			cutPower(t, m.seconds, m.size)
		})
	}
}

func cutPower(t *testing.T, seconds int, size string) {
	const rate, mayBeLost = 50, 75
	d := newDaemon(t, fmt.Sprintf("[service.web]\nsize = %q\nkeep = 100000\nmin = 100000\n", size))
	cut := d.frailStore()
	d.start()
	f := d.feed("web")
	said := seconds * rate
	beat := time.NewTicker(time.Second / rate)
	for n := range said {
		<-beat.C
		f.upTo(n + 1)
	}
	cut()
	f.watch.awaitEnd()
	f.abandon()

	d.expectLog("the log was cut off")
	d.start()
	left := accountOfFiles(t, d.logdir("web"))
	if lost := said - left.lines; lost < 0 || lost > mayBeLost || left.marks > 0 {
		t.Errorf("%+v are left of %d lines: %d lost, want at most %d", left, said, lost, mayBeLost)
	}
	d.checkCutMark(left.lines + 1) // the start mark is number 1
	f = d.feed("web")
	f.upTo(20)
	f.close()
	d.stop()
	d.verified(d.logdir("web"))
	if a := accountOfFiles(t, d.logdir("web")); a.lines != left.lines+20 {
		t.Errorf("%+v after 20 more lines, %+v before", a, left)
	}
	t.Logf("after %d s: %d of %d lines lost", seconds, said-left.lines, said)
}

// checkCutMark wants operator and readers to be told that the log ends with a
// number.
func (d *daemon) checkCutMark(number int) {
	t := d.t
	t.Helper()
	m := cutMark.FindStringSubmatch(d.read("web", "current"))
	if m == nil || m[1] != strconv.Itoa(number) {
		t.Fatalf("current has the mark %q, want one after line %d", m, number)
	}
	torn := "0"
	if m[2] != "" {
		torn = m[2]
	}
	seq := parseSeq(t, d.read("web", "seq"))
	last, end := seq[len(seq)-1], seq[len(seq)-2]
	want := fmt.Sprintf("cut after=%d last=@%s torn=%s", number, end.stamp, torn)
	if last.kind != "=" || last.text != want || last.first != number+1 {
		t.Errorf("seq ends with %+v, want %q", last, want)
	}
	if said := fmt.Sprintf("may be lost\" service=web after=%d torn=%s at=", number, torn); strings.Count(d.log.String(), said) != 1 {
		t.Errorf("the daemon has not said once %q:\n%s", said, d.log)
	}
}
