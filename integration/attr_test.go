package integration

import (
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Sizes are honest and grow, offsets mean the same bytes, one name has one
// inode number.
func TestSizesAndOffsets(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, smallRing)
	f := d.feed("web")
	f.upTo(20)
	path := d.path("web", "follow")
	fd := open(t, path, 0)
	old := d.read("web", "current")
	for _, name := range []string{"current", "follow"} {
		if st := stat(t, d.path("web", name)); st.Size != int64(len(old)) || st.Mode&unix.S_IFMT != unix.S_IFREG {
			t.Errorf("%s is of size %d and mode %o, want a regular file of %d", name, st.Size, st.Mode, len(old))
		}
	}
	if end, err := unix.Seek(fd, 0, unix.SEEK_END); err != nil || end != int64(len(old)) {
		t.Errorf("SEEK_END is %d, %v, want %d", end, err, len(old))
	}
	for _, at := range []int{0, 1, 77, 500, len(old) - 1} {
		buf := make([]byte, 300)
		n, err := unix.Pread(fd, buf, int64(at))
		if err != nil || n == 0 || string(buf[:n]) != old[at:at+n] {
			t.Errorf("pread at %d gave %q, %v", at, buf[:max(n, 0)], err)
		}
	}
	f.upTo(21)
	var st unix.Stat_t
	must(t, unix.Fstat(fd, &st))
	if want := int64(len(old) + len(numbered(21)) + 1); st.Size != want {
		t.Errorf("fstat says %d after a line more, want %d", st.Size, want)
	}
	if again := stat(t, path); again.Ino != st.Ino {
		t.Errorf("the inode number was %d, is %d", st.Ino, again.Ino)
	}
}

// An open file does not shrink when the ring drops its first lines; a new one
// begins with the oldest that is left.
func TestOpenFileDoesNotShrink(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, smallRing)
	f := d.feed("web")
	f.upTo(200)
	fd := open(t, d.path("web", "follow"), 0)
	last := int64(0)
	for to := 220; to <= 900; to += 20 {
		f.upTo(to)
		var st unix.Stat_t
		must(t, unix.Fstat(fd, &st))
		if st.Size < last {
			t.Fatalf("fstat says %d after %d", st.Size, last)
		}
		last = st.Size
	}
	text := d.read("web", "current")
	first, _ := checkSnapshot(t, "current", text)
	if first <= 200 {
		t.Errorf("a fresh current begins with line %d: the ring has dropped nothing", first)
	}
	if st := stat(t, d.path("web", "current")); st.Size != int64(len(text)) {
		t.Errorf("stat of current says %d, it has %d bytes", st.Size, len(text))
	}
}

// One pass through current sees the state at its beginning, whatever the ring
// drops meanwhile; what came later is there after the end of file.
func TestSnapshotOutlivesRing(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, smallRing)
	f := d.feed("web")
	f.upTo(300)
	old := d.read("web", "current")
	fd := open(t, d.path("web", "current"), 0)
	got := readSome(t, fd, 1000)
	f.upTo(1300)
	for !strings.HasSuffix(got, numbered(300)+"\n") {
		piece := readSome(t, fd, 1000)
		if piece == "" {
			break
		}
		got += piece
	}
	equal(t, "one pass", got, old)
	if piece := readSome(t, fd, 1000); piece != "" {
		t.Errorf("at the end of the pass: %q, want end of file", piece)
	}
}

// Times say who spoke last.
func TestTimes(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, smallRing)
	web, db := d.feed("web"), d.feed("db")
	web.say("first")
	db.say("first")
	for _, f := range []*feed{web, db, web} {
		before := time.Now()
		f.say("spoken")
		for _, name := range []string{"", "current", "follow"} {
			st := stat(t, d.path(f.name, name))
			at := time.Unix(st.Mtim.Unix())
			if at.Before(before.Add(-time.Millisecond)) || at.After(time.Now()) {
				t.Errorf("%s/%s was modified at %v, the line came after %v", f.name, name, at, before)
			}
		}
		res := runCommand(t, nil, d.mount, "ls", "-td", "web", "db")
		if first, _, _ := strings.Cut(res.stdout, "\n"); first != f.name {
			t.Errorf("ls -t lists %s first, %s has spoken last", first, f.name)
		}
		st := stat(t, d.path(f.name, "current"))
		if again := stat(t, d.path(f.name, "current")); again.Mtim != st.Mtim {
			t.Errorf("the modification time moved without a line")
		}
	}
}

func open(t *testing.T, path string, flags int) int {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|flags, 0)
	if err != nil {
		t.Fatalf("cannot open %s: %v", path, err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func stat(t *testing.T, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatalf("cannot stat %s: %v", path, err)
	}
	return st
}

// readSome is one read(2).
func readSome(t *testing.T, fd, size int) string {
	t.Helper()
	buf := make([]byte, size)
	for {
		n, err := unix.Read(fd, buf)
		if err == unix.EINTR {
			continue
		}
		must(t, err)
		return string(buf[:n])
	}
}

// The tree is what the manual says.
func TestTree(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, smallRing)
	want := map[string][]string{
		"web":        {"current", "follow", "seq"},
		"web/stdout": {"current", "follow", "seq"},
		"web/stderr": {"current", "follow", "seq"},
		"":           {"web", "db", "status"},
	}
	for dir, names := range want {
		entries, err := os.ReadDir(d.path(dir))
		must(t, err)
		have := map[string]bool{}
		for _, e := range entries {
			have[e.Name()] = true
		}
		for _, name := range names {
			if !have[name] {
				t.Errorf("%q lists %v, not %s", dir, entries, name)
			}
		}
	}
	equal(t, ".ignore", d.read(".ignore"), "follow\n/all/\n/*/run/\n/*/since/\n")
	for _, name := range []string{"web/nothing", "nothing", "web/current/x"} {
		if _, err := os.Stat(d.path(name)); err == nil {
			t.Errorf("%s is there", name)
		}
	}
}
