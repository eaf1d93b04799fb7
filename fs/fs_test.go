package fs

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"logfs/ring"
	"logfs/ring/record"
)

// failing is a log that fails the test at the first warning.
type failing struct{ t testing.TB }

func (f failing) Write(b []byte) (int, error) {
	f.t.Errorf("the server logged: %s", b)
	return len(b), nil
}

func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(failing{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// mounted is a real mount with one service, web, whose writer is the test.
type mounted struct {
	t     testing.TB
	s     *Server
	e     *Entry
	ring  *ring.Ring
	dir   string
	stamp record.Stamp
	files *files        // what is on disk, if the mount is told of it
	parks chan struct{} // gets a token when a read waits
}

func mountWeb(t testing.TB, limits ring.Limits) *mounted { return mountWith(t, limits, nil) }

func mountWith(t testing.TB, limits ring.Limits, disk *files) *mounted {
	t.Helper()
	return mountLog(t, limits, disk, testLog(t))
}

func mountLog(t testing.TB, limits ring.Limits, disk *files, log *slog.Logger) *mounted {
	t.Helper()
	parks := make(chan struct{}, 1)
	o := Options{Log: log, onPark: func() {
		select {
		case parks <- struct{}{}:
		default:
		}
	}}
	web := Service{Ring: ring.New(limits)}
	if disk != nil {
		web.History = disk
	}
	m := mountService(t, o, web)
	m.files, m.parks = disk, parks
	return m
}

// mountService mounts web, and fills in what nobody cares about.
func mountService(t testing.TB, o Options, web Service) *mounted {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("no /dev/fuse on this machine: nothing of the mount is tested")
	}
	dir := t.TempDir()
	o.Dir, o.ListFollow, o.Status = dir, true, func(w io.Writer) { fmt.Fprintln(w, "all is well") }
	if o.Log == nil {
		o.Log = testLog(t)
	}
	s, err := Mount(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	m := &mounted{t: t, s: s, ring: web.Ring, dir: filepath.Join(dir, "web"), stamp: 1795200000_000000000}
	web.Name, web.Looks, web.Born = "web", Looks{Marks: true, Mode: 0o750}, time.Unix(1, 0)
	if m.e, err = s.Add(web); err != nil {
		t.Fatal(err)
	}
	return m
}

// say appends records, each "o text", "e text", "o+ text" or "= text".
func (m *mounted) say(lines ...string) {
	b := m.ring.Begin()
	for _, l := range lines {
		m.stamp++
		head, text, _ := bytes.Cut([]byte(l), []byte{' '})
		b.Add(m.stamp, record.Kind(head[0]), len(head) > 1, text)
	}
	if m.files != nil {
		m.files.write(b.First(), b.Run(), bytes.Join(b.Chunks(), nil))
	}
	b.Commit()
	m.e.Wake()
}

func (m *mounted) path(name string) string { return filepath.Join(m.dir, name) }

func (m *mounted) cat(name string) string {
	m.t.Helper()
	b, err := readFile(m.path(name))
	if err != nil {
		m.t.Fatal(err)
	}
	return b
}

// readFile is os.ReadFile without Go's poller. A process that serves a mount
// must not register files of that mount there: the runtime does it in a
// system call during which it cannot stop, and the answer may need it to.
func readFile(path string) (string, error) {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer syscall.Close(fd)
	var all []byte
	for b := make([]byte, 1<<16); ; {
		n, err := syscall.Read(fd, b)
		if n <= 0 || err != nil {
			return string(all), err
		}
		all = append(all, b[:n]...)
	}
}

func TestFilesOfAService(t *testing.T) {
	m := mountWeb(t, ring.Limits{})
	m.say("= start run=3 pid=77", "o one", "e two\x00", "o+ half ", "o whole", "o+ open", "e err", "= exit code=1 after=2s")
	for _, c := range []struct{ name, want string }{
		{"current", "-- web run 3 started 2026-11-20T18:40:00Z pid 77 --\none\ntwo\\x00\nhalf whole\nopen\nerr\n-- web run 3 exited 1 after 2s --\n"},
		{"stdout/current", "one\nhalf whole\nopen"},
		{"stderr/current", "two\x00\nerr\n"},
		{"stderr/seq", "@400000006b00940a00000003,web,3,3,e;two\\x00\n@400000006b00940a00000007,web,3,7,e;err\n"},
	} {
		if got := m.cat(c.name); got != c.want {
			t.Errorf("%s:\n got %q\nwant %q", c.name, got, c.want)
		}
		st, err := os.Stat(m.path(c.name))
		if err != nil || st.Size() != int64(len(c.want)) {
			t.Errorf("%s: size %d, want %d (%v)", c.name, st.Size(), len(c.want), err)
		}
		if got := st.ModTime().UnixNano(); got != int64(m.stamp) {
			t.Errorf("%s: time %d, want that of the last line, %d", c.name, got, m.stamp)
		}
	}
	if got := bytes.Count([]byte(m.cat("seq")), []byte{'\n'}); got != 8 {
		t.Errorf("seq has %d records, want 8", got)
	}
}
