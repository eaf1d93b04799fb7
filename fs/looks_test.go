package fs

import (
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"logfs/ring"
)

func TestPermissionsChange(t *testing.T) {
	m := mountWeb(t, ring.Limits{})
	m.say("o one")
	m.e.Configure(Looks{Marks: true, Uid: 12345, Gid: 54321, Mode: 0o705})
	for name, mode := range map[string]os.FileMode{
		"": os.ModeDir | 0o705, "stdout": os.ModeDir | 0o705, "current": 0o404, "stderr/seq": 0o404,
	} {
		fi, err := os.Stat(m.path(name))
		if err != nil {
			t.Fatal(err)
		}
		st := fi.Sys().(*syscall.Stat_t)
		if fi.Mode() != mode || st.Uid != 12345 || st.Gid != 54321 {
			t.Errorf("%q: mode %v owner %d group %d, want %v 12345 54321", name, fi.Mode(), st.Uid, st.Gid, mode)
		}
	}
}

// Who has a file open keeps what he sees, with every byte at its offset; who
// looks it up again sees the change.
func TestMarksComeAndGo(t *testing.T) {
	m := mountWeb(t, ring.Limits{})
	m.say("= start run=1", "o one")
	const with, without = "-- web run 1 started 2026-11-20T18:40:00Z --\none\n", "one\n"
	fd, err := syscall.Open(m.path("current"), syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	m.e.Configure(Looks{Mode: 0o750})
	buf := make([]byte, 1000)
	if n, err := syscall.Pread(fd, buf, 0); err != nil || string(buf[:n]) != with {
		t.Errorf("open before: %q, %v", buf[:max(n, 0)], err)
	}
	if n, err := syscall.Pread(fd, buf, int64(len(with))); n != 0 || err != nil {
		t.Errorf("at the end of the pass: %q, %v", buf[:max(n, 0)], err)
	}
	m.say("= exit code=0", "o two")
	if got := m.cat("current"); got != without+"two\n" {
		t.Errorf("without marks: %q", got)
	}
	if n, err := syscall.Pread(fd, buf, int64(len(with))); err != nil || string(buf[:n]) != "-- web run 1 exited 0 --\ntwo\n" {
		t.Errorf("open before, what came later: %q, %v", buf[:max(n, 0)], err)
	}
	m.e.Configure(Looks{Marks: true, Mode: 0o750})
	if got := m.cat("current"); got != with+"-- web run 1 exited 0 --\ntwo\n" {
		t.Errorf("with marks again: %q", got)
	}
}

func TestListFollowChanges(t *testing.T) {
	m := mountWeb(t, ring.Limits{})
	for _, shown := range []bool{false, true} {
		m.s.SetListFollow(shown)
		entries, err := os.ReadDir(m.dir)
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == "follow" }); got != shown {
			t.Errorf("follow listed: %v, want %v", got, shown)
		}
	}
}

// Nothing holds on to a service that is gone: not its ring, and not its files.
func TestNothingIsLeftOfARemovedService(t *testing.T) {
	m := mountWeb(t, ring.Limits{})
	m.say("o one")
	for _, name := range []string{"current", "stdout/seq"} {
		m.cat(name)
	}
	left := func() int {
		m.s.tree.mu.Lock()
		defer m.s.tree.mu.Unlock()
		return len(m.s.tree.nodes)
	}
	if left() == 0 {
		t.Fatal("the kernel has forgotten at once: nothing is tested")
	}
	m.s.Remove("web")
	for deadline := time.After(10 * time.Second); left() > 0; {
		select {
		case <-deadline:
			t.Fatalf("the kernel still knows %d files", left())
		case <-time.After(time.Millisecond):
		}
	}
}

// Readers go on while the looks change, and the ring with them.
func TestReadersDuringChanges(t *testing.T) {
	m := mountWeb(t, ring.Limits{Lines: 100})
	done := make(chan struct{})
	var changer sync.WaitGroup
	changer.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
				m.e.Configure(Looks{Marks: i%2 == 0, Mode: 0o750})
				m.ring.Resize(ring.Limits{Lines: 10 + i%100})
			}
		}
	})
	for range 300 {
		m.say("= start run=1", "o one", "o two")
		m.cat("current")
		m.cat("seq")
	}
	close(done)
	changer.Wait()
}
