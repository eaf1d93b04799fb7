package fs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"logfs/ring"
	"logfs/ring/record"
)

// add adds a service to the mount of m, whose stamps go on where those of m are.
func (m *mounted) add(name string) *mounted {
	m.t.Helper()
	o := &mounted{t: m.t, s: m.s, ring: ring.New(ring.Limits{}), dir: filepath.Join(filepath.Dir(m.dir), name), stamp: m.stamp, files: &files{}}
	var err error
	o.e, err = m.s.Add(Service{Name: name, Ring: o.ring, Looks: Looks{Marks: true, Mode: 0o750}, Born: time.Unix(1, 0), History: o.files,
		Due: func(now record.Stamp) record.Stamp { return now }})
	if err != nil {
		m.t.Fatal(err)
	}
	return o
}

func mountAll(t *testing.T) (all, web *mounted) {
	web = mountWith(t, ring.Limits{}, &files{})
	web.e.Due = func(now record.Stamp) record.Stamp { return now }
	all = &mounted{t: t, s: web.s, dir: filepath.Join(filepath.Dir(web.dir), "all"), parks: web.parks}
	return all, web
}

func TestFilesOfAll(t *testing.T) {
	all, web := mountAll(t)
	db := web.add("database")
	web.say("o one", "e+ two ", "e pieces")
	db.stamp = web.stamp
	db.say("= start run=1 pid=9", "o three")
	want := "web      | one\nweb      | two pieces\ndatabase | -- database run 1 started 2026-11-20T18:40:00Z pid 9 --\ndatabase | three\n"
	for name, want := range map[string]string{
		"current":             want,
		"since/start/current": want,
		"stdout/current":      "web      | one\ndatabase | three\n",
		"stderr/current":      "web      | two pieces\n",
	} {
		if got := all.cat(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
		if out, err := exec.Command("sh", "-c", "stat -c %s "+all.path(name)+"; wc -c <"+all.path(name)).Output(); string(out) != fmt.Sprintf("%d\n%[1]d\n", len(want)) {
			t.Errorf("%s: stat and wc say %q, %v, want %d", name, out, err, len(want))
		}
	}
	if got, each := all.cat("seq"), web.cat("seq")+db.cat("seq"); got != each {
		t.Errorf("seq: %q, want %q", got, each)
	}
	out, err := exec.Command("ls", all.dir).Output()
	if string(out) != "current\nfollow\nseq\nsince\nstderr\nstdout\n" {
		t.Errorf("ls: %q, %v", out, err)
	}
	for _, none := range []string{"run", "since/17", "stdout/run"} {
		if err := exec.Command("stat", all.path(none)).Run(); err == nil {
			t.Errorf("%s is there", none)
		}
	}
}

func TestFollowAll(t *testing.T) {
	all, web := mountAll(t)
	web.say("o one")
	r := all.open(t, "follow", 0)
	r.wants(100, "web | one\n")
	got := r.readAsync(all, 100)
	web.say("o two")
	if s := soon(t, got); s != "web | two\n" {
		t.Errorf("got %q", s)
	}
	got = r.readAsync(all, 100)
	db := web.add("database") // its name is longer than the column
	db.say("o joins")
	if s := soon(t, got); s != "database | joins\n" {
		t.Errorf("got %q", s)
	}
	got = r.readAsync(all, 100)
	db.say("o its last words")
	if s := soon(t, got); s != "database | its last words\n" {
		t.Errorf("got %q", s)
	}
	db.say("o a service that leaves")
	all.s.Remove("database")
	r.wants(100, "database | a service that leaves\n")
	got = r.readAsync(all, 100)
	web.say("o three")
	if s := soon(t, got); s != "web | three\n" {
		t.Errorf("got %q", s)
	}
	got = r.readAsync(all, 100)
	go all.s.Close()
	if s := soon(t, got); s != "" {
		t.Errorf("at the end: %q", s)
	}
}

func TestAllLikeAnyFollow(t *testing.T) {
	all, web := mountAll(t)
	web.say("o one")
	poller := all.open(t, "follow", 0)
	if _, err := exec.Command("sh", "-c", "head -c 3 <"+all.path("follow")).Output(); err != nil {
		t.Error(err)
	}
	poller.wants(100, "web | one\n")
	if poller.ready(t) {
		t.Error("ready with nothing to read")
	}
	web.say("o two")
	if !poller.ready(t) {
		t.Error("not ready with a line to read")
	}
	poller.wants(100, "web | two\n")
	out, err := exec.Command("tail", "-n", "1", all.path("follow")).Output()
	if string(out) != "web | two\n" {
		t.Errorf("tail: %q, %v", out, err)
	}
	out, err = exec.Command("grep", "-r", "o", all.dir).Output()
	if err != nil || strings.Count(string(out), "web | two") != 4 { // current and follow, twice
		t.Errorf("grep -r: %q, %v", out, err)
	}
}

// Who may read every service may read all, and nobody else.
func TestWhoMayReadAll(t *testing.T) {
	all, web := mountAll(t)
	look := func(l ...Looks) (mode, gid uint32) {
		t.Helper()
		web.e.Configure(l[0])
		for i, l := range l[1:] {
			e, err := all.s.Add(Service{Name: fmt.Sprint("other", i), Ring: ring.New(ring.Limits{}), Looks: l})
			if err != nil {
				t.Fatal(err)
			}
			defer all.s.Remove(e.Name)
		}
		var st syscall.Stat_t
		if err := syscall.Stat(all.path("current"), &st); err != nil {
			t.Fatal(err)
		}
		var dir syscall.Stat_t
		if err := syscall.Stat(all.dir, &dir); err != nil || dir.Gid != st.Gid || dir.Mode&0o444 != st.Mode&0o777 {
			t.Errorf("the directory has mode %o, %v, its file %o", dir.Mode, err, st.Mode)
		}
		return dir.Mode & 0o7777, st.Gid
	}
	own := uint32(os.Getegid())
	for _, c := range []struct {
		of        []Looks
		mode, gid uint32
	}{
		{[]Looks{{Mode: 0o750, Gid: 4}}, 0o550, 4},
		{[]Looks{{Mode: 0o750, Gid: 4}, {Mode: 0o755, Gid: 4}}, 0o550, 4},
		{[]Looks{{Mode: 0o755, Gid: 4}, {Mode: 0o755, Gid: 5}}, 0o555, own},
		{[]Looks{{Mode: 0o750, Gid: 4}, {Mode: 0o750, Gid: 5}}, 0o500, own},
		{[]Looks{{Mode: 0o750, Gid: 4}, {Mode: 0o700, Gid: 4}}, 0o500, 4},
		{[]Looks{{Mode: 0o705, Gid: 4}}, 0o500, 4}, // not for others: his group is kept out
	} {
		if mode, gid := look(c.of...); mode != c.mode || gid != c.gid {
			t.Errorf("%+v: mode %o, group %d, want %o and %d", c.of, mode, gid, c.mode, c.gid)
		}
	}
}

// all has the time of the last line of any service, and nobody changes it.
func TestAllIsNoService(t *testing.T) {
	all, web := mountAll(t)
	db := web.add("db")
	web.stamp += 5e9
	db.say("o early")
	web.say("o late")
	for _, name := range []string{"", "current", "stdout", "stderr/seq"} {
		fi, err := os.Stat(all.path(name))
		if err != nil || fi.ModTime().UnixNano() != int64(web.stamp) {
			t.Errorf("%q: %v, %v", name, fi.ModTime(), err)
		}
	}
	for _, script := range []string{"rmdir all", "chmod 777 all", "echo x >>all/current", ": >all/current", "mkdir all/web", "rm all/seq"} {
		// The child must not go there before it is another program: who forks waits
		// for that, and may be who has to answer.
		if out, err := exec.Command("sh", "-c", "cd "+filepath.Dir(all.dir)+" && "+script).CombinedOutput(); err == nil {
			t.Errorf("%s: %s", script, out)
		}
	}
}
