package rotate

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// outside makes a file beside the logdir and gives it a second name in there.
func outside(t *testing.T, dir, name, content string) (path string, unchanged func()) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "outside")
	for _, err := range []error{
		os.WriteFile(path, []byte(content), 0o604),
		os.MkdirAll(dir, 0o750),
		os.Link(path, filepath.Join(dir, name)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	before, _ := os.Stat(path)
	return path, func() {
		t.Helper()
		b, err := os.ReadFile(path)
		after, _ := os.Stat(path)
		if err != nil || string(b) != content || after.Mode() != before.Mode() || !after.ModTime().Equal(before.ModTime()) {
			t.Errorf("%s holds %q, %v, mode %v, want %q, mode %v", path, b, err, after.Mode(), content, before.Mode())
		}
	}
}

// TestHardLinks has files of other directories under the names of a logdir:
// nothing is written to them, whatever they hold, and the log goes on.
func TestHardLinks(t *testing.T) {
	for name, content := range map[string]string{
		"precious":        "root:x:0:0\n",
		"without newline": "precious",
		"empty":           "",
		"ours":            header(3, 5) + lines(5, 8),
		"ours, torn":      header(3, 5) + lines(5, 8) + "@400000006b00940a000003e8 o to",
		"only a header":   header(3, 5),
	} {
		for _, at := range []string{currentName, archiveName(stamp(1), complete)} {
			t.Run(name+" as "+at, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "web")
				_, unchanged := outside(t, dir, at, content)
				for range 2 {
					d := mustOpen(t, options(dir))
					next := d.State().Next
					mustAppend(t, d, text(next), next, next+1, d.State().Run)
					crash(d)
					unchanged()
				}
				d := mustOpen(t, options(dir))
				mustClose(t, d)
				unchanged()
			})
		}
	}
}

// TestForeignLock is refused: the content of a lock is replaced.
func TestForeignLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "web")
	_, unchanged := outside(t, dir, lockName, "precious\n")
	if _, err := Open(options(dir)); err == nil {
		t.Error("a lock that is a hard link was taken")
	}
	unchanged()
	for name, mode := range map[string]uint32{"fifo": unix.S_IFIFO, "socket": unix.S_IFSOCK, "directory": unix.S_IFDIR} {
		dir := t.TempDir()
		path := filepath.Join(dir, lockName)
		err := unix.Mknod(path, mode|0o600, 0)
		if mode == unix.S_IFDIR {
			err = os.Mkdir(path, 0o700)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(options(dir)); err == nil {
			t.Errorf("a lock that is a %s was taken", name)
		}
	}
}

// TestArchivesThatAreNoFiles are said once, never opened, and never deleted.
func TestArchivesThatAreNoFiles(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(t.TempDir(), "target")
	if err := os.WriteFile(target, []byte(header(1, 90)+lines(90, 99)), 0o600); err != nil {
		t.Fatal(err)
	}
	at := func(n uint64, suffix string) string { return filepath.Join(dir, archiveName(stamp(n), suffix)) }
	for _, err := range []error{
		os.Symlink(target, at(1, complete)),
		unix.Mkfifo(at(2, complete), 0o600), // to open it would block
		os.Mkdir(at(3, recovered), 0o700),
		unix.Mknod(at(4, complete), unix.S_IFSOCK|0o600, 0),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	o := options(dir)
	said := &countLog{}
	o.Log, o.Keep = slog.New(said), 1
	d := mustOpen(t, o)
	for n := uint64(1); n < 5; n++ {
		mustAppend(t, d, text(n), n, n+1, 1)
		if err := d.Rotate(); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, d)
	if n := said.count("file passed over"); n != 4 {
		t.Errorf("said %d times, want once for each of 4", n)
	}
	for n, suffix := range map[uint64]string{1: complete, 2: complete, 3: recovered, 4: complete} {
		if _, err := os.Lstat(at(n, suffix)); err != nil {
			t.Errorf("retention has taken what is not its own: %v", err)
		}
	}
	if b, _ := os.ReadFile(target); string(b) != header(1, 90)+lines(90, 99) || mode(t, target) != 0o600 {
		t.Error("the target of the link was changed")
	}
}
