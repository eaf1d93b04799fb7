package fs

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"logfs/ring"
	"logfs/ring/record"
)

// backThen says a line every 6 hours of the last 50 days, of which the clock
// took back two on the way, and lines of this hour.
func backThen(m *mounted) {
	now := time.Now()
	said := func(t time.Time) {
		m.stamp = record.Stamp(t.UnixNano())
		m.say("o said " + t.Format(time.RFC3339))
	}
	for h := 50 * 24; h > 20*24; h -= 6 {
		said(now.Add(-time.Duration(h) * time.Hour))
	}
	for h := 22 * 24; h > 0; h -= 6 {
		said(now.Add(-time.Duration(h) * time.Hour))
	}
	for min := 59; min > 0; min -= 5 {
		said(now.Add(-time.Duration(min) * time.Minute))
	}
}

// firstAt is the number of the first line from p on, the next one if there is
// none.
func (m *mounted) firstAt(t *testing.T, p point) uint64 {
	now := time.Now()
	boot, err := bootTime(now)
	if err != nil {
		t.Fatal(err)
	}
	o := p.at(now, boot)
	for _, l := range m.files.all() {
		if rec := l.record(); o.byTime && rec.Time() >= o.at || !o.byTime && rec.Seq >= o.seq {
			return rec.Seq
		}
	}
	_, end := m.ring.Bounds()
	return end
}

// Every form of a point is found under its name, and begins with the first line
// of that moment or later, by number: also where the clock was put back.
func TestSinceEveryPoint(t *testing.T) {
	m := mountWith(t, ring.Limits{Lines: 30}, &files{})
	backThen(m)
	day := time.Now().AddDate(0, 0, -30).Format(time.DateOnly)
	label := record.AppendStamp(nil, record.Stamp(time.Now().AddDate(0, 0, -21).UnixNano()))
	for _, name := range []string{
		"start", "1", "17", "200", "18446744073709551615", "now", "0s", "90s", "10m", "1h30m", "2h", "3d", "2w1d", "7w", "10w", "010m",
		"03:00", "3:00", "03:00:05", "23:59:59.5", "today", "yesterday", "boot", day, day + "T02:50", day + "T02:50:07", day + "T02:50:07.25",
		day + "T02:50Z", day + "T02:50:07-08:30", "2031-01-01", "1970-01-01", string(label),
	} {
		p, err := parsePoint(name)
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		before := m.firstAt(t, p)
		got := m.cat("since/" + name + "/stdout/seq")
		want := m.render("seq", selOut, before, 0)
		if after := m.firstAt(t, p); got != want && got != m.render("seq", selOut, after, 0) {
			t.Errorf("%s begins with %.80q, want number %d", name, got, before)
		}
		if p.kind == pointAgo && p.ago > time.Hour && got == "" {
			t.Errorf("%s is empty", name)
		}
	}
}

// What is no point is not there.
func TestSinceWhatIsNoPoint(t *testing.T) {
	m := mountWith(t, ring.Limits{}, &files{})
	m.count(1, 10)
	for _, name := range []string{
		"x", "end", "START", "tomorrow", "current", "follow", "example", "example-", "0", "007", "-1", "+1", "1.5", "1e3", "0x10",
		"18446744073709551616", "12 ", "s", "10M", "1.5h", "5m1h", "5m5m", "10ms", "1y", "36501d", "24:00", "12:60", "12:", "12:30Z",
		"2026-11", "2026-13-01", "2025-02-29", "26-11-20", "2026-11-20T", "2026-11-20T02:50+1", "1969-12-31", "@", "@4000",
		"@400000006553F10A075BCD15", "400000006553f10a075bcd15", "\xff", "10m\n", strings.Repeat("0", 60) + "1s", strings.Repeat("9", 250),
	} {
		if _, err := os.Lstat(m.path("since/" + name)); !os.IsNotExist(err) {
			t.Errorf("since/%s: %v, want that it does not exist", name, err)
		}
	}
}

// A directory of the past has one id as long as somebody knows it, the same
// inode number for ever, and is forgotten with the last who does.
func TestDirectoriesAreForgotten(t *testing.T) {
	m := mountWith(t, ring.Limits{}, &files{})
	m.say("= start run=1 pid=7", "o one")
	ino := func(name string) uint64 {
		var st syscall.Stat_t
		if err := syscall.Stat(m.path(name), &st); err != nil {
			t.Fatal(err)
		}
		return st.Ino
	}
	seen := map[uint64]string{}
	for _, name := range []string{"", "stdout", "run", "since", "stdout/run", "stderr/since", "run/1", "stdout/run/1", "run/1/stdout",
		"since/10m", "since/600s", "since/10m/stderr", "run/1/since/10m", "run/1/current", "run/1/seq", "stdout/run/1/seq", "since/10m/seq"} {
		i := ino(name)
		if other, ok := seen[i]; ok {
			t.Errorf("%s and %s have the inode number %d", name, other, i)
		}
		if seen[i] = name; i != ino(name) {
			t.Errorf("%s has another inode number when it is looked up again", name)
		}
	}
	p, _ := parsePlace("since")
	var unknown []uint64 // to the kernel
	for n := range maxDirs - 500 {
		c, _ := p.child(strconv.Itoa(1_000_000 + n))
		unknown = append(unknown, m.s.tree.lookDir(directory{m.e, c}))
	}
	const known = 1000
	for n := range known {
		_ = ino("since/" + strconv.Itoa(n+1))
	}
	eventually(t, "the kernel forgets some", func() bool {
		m.s.tree.mu.Lock()
		defer m.s.tree.mu.Unlock()
		return len(m.s.tree.dirs) == len(m.s.tree.paths) && len(m.s.tree.dirs) < len(unknown)+known
	})
	for _, id := range unknown {
		m.s.tree.forget(id, 1)
	}
	m.s.dev.notifyEntry(rootID, "web")
	eventually(t, "the kernel forgets all", func() bool {
		m.s.tree.mu.Lock()
		defer m.s.tree.mu.Unlock()
		return len(m.s.tree.dirs)+len(m.s.tree.paths)+len(m.s.tree.nodes)+len(m.s.tree.texts) == 0
	})
}

// eventually waits until ok is.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("gave up waiting: %s", what)
		}
	}
}

// The directories that the kernel knows are there for the next process.
func TestDirectoriesInTheState(t *testing.T) {
	f, err := os.Create(t.TempDir() + "/state")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(int64(StateSize)); err != nil {
		t.Fatal(err)
	}
	s, err := openState(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.begin([]byte("init"), "0:52", "/m", "/m", 0); err != nil {
		t.Fatal(err)
	}
	one := &Server{tree: newTree()}
	one.tree.state = s
	e, err := one.Add(Service{Name: "web", Ring: ring.New(ring.Limits{})})
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]uint64{}
	for _, path := range []string{"run/7", "since/10m/stderr", "stdout/run/18446744073709551615/since/2026-11-20T02:50:07.000000001-08:30"} {
		p, ok := parsePlace(path)
		if !ok {
			t.Fatal(path)
		}
		ids[path] = one.tree.lookDir(directory{e, p})
	}
	p, _ := parsePlace("since/1h")
	one.tree.forgetDir(one.tree.lookDir(directory{e, p}), 1)

	two := &Server{tree: newTree()}
	two.tree.adopt(s)
	if e, err = two.Add(Service{Name: "web", Ring: ring.New(ring.Limits{})}); err != nil {
		t.Fatal(err)
	}
	two.restore()
	for path, id := range ids {
		d, ok := two.tree.dir(id)
		want, _ := parsePlace(path)
		if !ok || d.e != e || d.place != want {
			t.Errorf("%s is %+v", path, d.place)
		}
		if again := two.tree.lookDir(directory{e, want}); again != id {
			t.Errorf("%s has the id %d, had %d", path, again, id)
		}
	}
	if len(two.tree.dirs) != len(ids) {
		t.Errorf("%d directories, want %d", len(two.tree.dirs), len(ids))
	}
	if !bytes.Contains(s.dirs.cells[0].path[:], []byte("run/7\x00")) {
		t.Errorf("the first cell is %q", s.dirs.cells[0].path)
	}
}
