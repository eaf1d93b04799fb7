package fs

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"logfs/ring"
)

// The follow of a run ends when the run has ended and its last line was read,
// in every stream of it, and however it is waited for.
func TestFollowOfARunEnds(t *testing.T) {
	for _, dir := range []string{"run/now", "run/1/stdout", "stderr/run/1", "run/now/since/start", "since/1/run/1"} {
		t.Run(dir, func(t *testing.T) {
			m := mountWith(t, ring.Limits{Lines: 100}, &files{})
			m.say("= start run=1 pid=7", "o one", "e one")
			blocked, polled := m.open(t, dir+"/follow", 0), m.open(t, dir+"/follow", syscall.O_NONBLOCK)
			first := blocked.read(1000)
			polled.wants(1000, first)
			if polled.ready(t) {
				t.Error("ready with nothing to read")
			}
			got := blocked.readAsync(m, 1000)
			m.say("= exit code=1 after=2s")
			last := soon(t, got)
			shown := m.e.view(parsed(t, dir).streams, follow).sel == selAll
			if want := "-- web run 1 exited 1 after 2s --\n"; shown && last != want || !shown && last != "" {
				t.Errorf("with the exit mark: %q", last)
			}
			blocked.wants(1000, "")
			polled.ready(t)
			polled.wants(1000, last)
			m.say("= start run=2 pid=8", "o two", "e two")
			blocked.wants(1000, "")
			late := m.open(t, strings.ReplaceAll(dir, "now", "1")+"/follow", 0)
			if got := late.rest(); got != first+last {
				t.Errorf("once it has ended: %q, want %q", got, first+last)
			}
		})
	}
}

// rest reads to the end of the file.
func (r *reader) rest() string {
	var all strings.Builder
	for {
		got := r.read(4096)
		if all.WriteString(got); got == "" {
			return all.String()
		}
	}
}

func parsed(t *testing.T, path string) place {
	p, ok := parsePlace(strings.ReplaceAll(path, "now", "1"))
	if !ok {
		t.Fatalf("%q is no place", path)
	}
	return p
}

// A run that ends without an exit mark ends where the next begins, also for a
// reader who is not asked before the ring has dropped all of that.
func TestRunWithoutExitMark(t *testing.T) {
	m := mountWith(t, ring.Limits{Lines: 20}, &files{})
	m.say("= start run=1 pid=7")
	m.count(1, 10)
	r, c := m.open(t, "run/1/stdout/follow", 0), m.open(t, "run/1/stdout/current", 0)
	r.wants(4096, counted(1, 10))
	got := r.readAsync(m, 4096)
	m.count(11, 12)
	if s := soon(t, got); s != "line 11\n" {
		t.Fatalf("got %q", s)
	}
	r.wants(4096, "line 12\n")
	m.say("o last", "= start run=2 pid=7")
	m.count(1, 500)
	r.wants(4096, "last\n")
	r.wants(4096, "")
	for _, want := range []string{counted(1, 10), "line 11\nline 12\nlast\n", ""} { // one state after the other
		if got := c.rest(); got != want {
			t.Errorf("current: %q, want %q", got, want)
		}
	}
}

// A number that is yet to come is waited for, and what comes before it is not
// shown, even if the ring drops it and all else meanwhile.
func TestSinceANumberToCome(t *testing.T) {
	for _, more := range []int{0, 5, 500} {
		m := mountWith(t, ring.Limits{Lines: 20}, &files{})
		m.count(1, 10)
		if got := m.cat("since/15/current"); got != "" {
			t.Errorf("current: %q", got)
		}
		r, p := m.open(t, "since/15/follow", 0), m.open(t, "since/15/follow", syscall.O_NONBLOCK)
		if p.ready(t) {
			t.Error("ready before it has come")
		}
		got := r.readAsync(m, 4096)
		m.count(11, 14)
		if p.ready(t) {
			t.Error("ready for lines before it")
		}
		m.count(15, 15+more)
		all := soon(t, got)
		want := counted(15, 15+more)
		for len(all) < len(want) {
			all += r.read(4096)
		}
		differ(t, all, want)
		var st syscall.Stat_t
		if err := syscall.Fstat(r.fd, &st); err != nil || st.Size != int64(len(want)) {
			t.Errorf("size %d, want %d (%v)", st.Size, len(want), err)
		}
	}
}

// Who asks for a number that retention has deleted is told exactly which are
// gone, and gets all others; so is a reader from under whom they are deleted.
func TestDeletedBeforeAndWhileReading(t *testing.T) {
	m := mountWith(t, ring.Limits{Lines: 20}, &files{})
	m.count(1, 5000)
	m.files.deleteTo(100)
	want := "-- web lost 91 lines 10-100 --\n" + counted(101, 5000)
	st, err := os.Stat(m.path("since/10/current"))
	if err != nil || st.Size() != int64(len(want)) {
		t.Errorf("size %d, want %d (%v)", st.Size(), len(want), err)
	}
	differ(t, m.cat("since/10/current"), want)
	differ(t, m.cat("since/10/stdout/current"), counted(101, 5000))
	differ(t, m.cat("since/start/current"), counted(101, 5000))
	r := m.open(t, "since/start/current", 0)
	got := r.read(1000)
	m.files.deleteTo(4000)
	got += r.until(4096, "line 5000\n")
	if i := strings.Index(got, "-- web lost "); i < 0 || strings.Count(got, "-- web lost ") != 1 {
		t.Errorf("not told once what is gone: %.300q", got)
	} else {
		next := 101 + strings.Count(got[:i], "\n")
		differ(t, got, counted(101, next-1)+fmt.Sprintf("-- web lost %d lines %d-4000 --\n", 4001-next, next)+counted(4001, 5000))
	}
}

// A follower of the past goes on into the present, whatever the ring drops
// meanwhile, and fstat tells what it has.
func TestFollowFromThePast(t *testing.T) {
	m := mountWith(t, ring.Limits{Lines: 100}, &files{})
	m.count(1, 1000)
	r := m.open(t, "since/500/follow", 0)
	at, said := 0, 1000
	for range 30 {
		want := counted(500, said)
		var st syscall.Stat_t
		if err := syscall.Fstat(r.fd, &st); err != nil || at == len(want) && st.Size != int64(len(want)) {
			t.Errorf("size %d, want %d (%v)", st.Size, len(want), err)
		}
		for at < len(want) {
			got := r.read(3000)
			if !strings.HasPrefix(want[at:], got) {
				t.Fatalf("at %d: %.80q, want %.80q", at, got, want[at:])
			}
			at += len(got)
		}
		m.count(said+1, said+1+said%170)
		said += 1 + said%170
	}
}

// Reading stdin of a follow that has ended is no error, and nobody writes the
// past.
func TestThePastIsReadOnly(t *testing.T) {
	m := mountWith(t, ring.Limits{}, &files{})
	m.say("= start run=1 pid=7", "o one")
	for _, name := range []string{"run/now/current", "since/start/current", "run/1/stderr/current", "since/start/seq"} {
		if _, err := syscall.Open(m.path(name), syscall.O_WRONLY|syscall.O_APPEND, 0); err != syscall.EACCES {
			t.Errorf("open %s for writing: %v", name, err)
		}
	}
	for _, err := range []error{
		syscall.Mkdir(m.path("run/9"), 0o777), syscall.Mkdir(m.path("since/10m/x"), 0o777), syscall.Rmdir(m.path("run/1")),
		syscall.Unlink(m.path("run/now")), syscall.Rename(m.path("run/1"), m.path("run/3")), syscall.Truncate(m.path("run/1/current"), 0),
		syscall.Chmod(m.path("since"), 0o777), syscall.Symlink("x", m.path("since/x")),
	} {
		if err != syscall.EPERM {
			t.Errorf("%v, want EPERM", err)
		}
	}
}
