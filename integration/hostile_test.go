package integration

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Names at the limits of what is accepted are names like all others.
func TestNamesAtTheLimits(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, "")
	const allowed = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz._@:-"
	names := []string{"x", "0", "all.", "status-", "A..B", "a@b:c", allowed, allowed + strings.Repeat("-", 100-len(allowed))}
	for _, name := range names {
		if res := d.logfs("run", name, "--", "echo", "hello from "+name); res.status != 0 {
			t.Errorf("run %s ended with %d: %s", name, res.status, res.stderr)
			continue
		}
		equal(t, name, d.read(name, "stdout", "current"), "hello from "+name+"\n")
		if f := d.statusOf(name); len(f) != statusFields {
			t.Errorf("status of %s has the fields %q", name, f)
		}
		if recs := parseSeq(t, d.read(name, "seq")); len(recs) != 3 {
			t.Errorf("seq of %s: %+v", name, recs)
		}
	}
	if entries, err := os.ReadDir(d.mount); err != nil || len(entries) != len(names)+3 {
		t.Errorf("%d names are listed, want %d: %v", len(entries), len(names)+3, err)
	}
}

// While the daemon is stopped its readers wait; then they go on with every line.
func TestStoppedDaemon(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, smallRing)
	f := d.feed("web")
	f.upTo(5)
	cat := d.shell(t, setting{}, `exec cat "$M/web/stdout/follow"`)
	cat.awaitText(numbered(5))
	must(t, d.cmd.Process.Signal(syscall.SIGSTOP))
	eventually(t, func() string { return "the daemon to be stopped" }, func() bool { return stateOf(d.pid()) == "T" })
	f.write(numberedRun(6, 40)) // stays in the pipe
	late := d.shell(t, setting{}, `exec grep -m1 -o 'n=0000040' "$M/web/follow"`)
	eventually(t, func() string { return "the open of another reader to wait" }, func() bool { s := stateOf(late.pid()); return s == "D" || s == "S" })
	if late.ended() || cat.ended() {
		t.Errorf("a reader has not waited: %s %s", cat.said(), late.said())
	}
	must(t, d.cmd.Process.Signal(syscall.SIGCONT))
	f.n = 40
	f.watch.await(numbered(40) + "\n")
	if status := late.wait(); status != 0 || late.output() != "n=0000040\n" {
		t.Errorf("the reader that came meanwhile ended with %d: %s", status, late.said())
	}
	cat.awaitText(numbered(40))
	cat.end(syscall.SIGTERM)
	equal(t, "cat", cat.output(), numberedRun(1, 40))
}

// A grandchild that keeps the pipes does not hold up the end of the run, and what
// it says later is captured all the same.
func TestGrandchildKeepsThePipes(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, "")
	gate := filepath.Join(d.dir, "gate")
	must(t, unix.Mkfifo(gate, 0o600))
	res := d.logfs("run", "web", "--", "sh", "-c", `(read x <"$0"; echo late; echo later >&2) & exit 3`, gate)
	if res.status != 3 {
		t.Fatalf("ended with %d: %s", res.status, res.stderr)
	}
	w := d.watch("web", "follow")
	w.await("-- web run 1 exited 3 after ")
	must(t, os.WriteFile(gate, []byte("\n"), 0))
	w.await("\nlate\n")
	equal(t, "stderr", d.watch("web", "stderr", "follow").await("later\n"), "later\n")
	for _, r := range parseSeq(t, d.read("web", "seq")) {
		if r.run != 1 {
			t.Errorf("a record of run %d: %+v", r.run, r)
		}
	}
}

// What a client sends that is none does the daemon no harm, nor does it keep others
// from it.
func TestHostileClients(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, "[service.web]\n")
	f := d.feed("web")
	f.upTo(3)
	descriptors := d.descriptors()
	null, err := os.Open(os.DevNull)
	must(t, err)
	defer null.Close()
	dial := func() *net.UnixConn {
		c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: d.sock, Net: "unixpacket"})
		must(t, err)
		return c
	}
	say := func(text string, files int) *net.UnixConn {
		c := dial()
		fds := make([]int, files)
		for i := range fds {
			fds[i] = int(null.Fd())
		}
		_, _, _ = c.WriteMsgUnix([]byte(text), unix.UnixRights(fds...), nil)
		return c
	}
	var conns []*net.UnixConn
	for range 20 {
		conns = append(conns,
			say("\x00\xff", 0), say(strings.Repeat("[", 60_000), 0), say(strings.Repeat("x", 100_000), 0), say(`{"do":"status"}`, 200),
			say(`{"do":"attach","name":"web","kind":"run"}`, 2), say(`{"do":"attach","name":"../x","kind":"pipe"}`, 1),
			say(`{"do":"attach","name":"held","kind":"pipe","hold":true}`, 4), say(`{"do":"attach","name":"odd","kind":"run","own":true}`, 2),
			say(`{"do":"rotate","names":["nosuch"]}`, 5), say(`{"do":"start","pid":-1}`, 0))
	}
	for range 1500 {
		conns = append(conns, dial()) // who say nothing
	}
	if res := d.logfs("status"); res.status != 0 || !strings.Contains(res.stdout, "\nweb running ") {
		t.Errorf("status beside them ended with %d: %s%s", res.status, res.stdout, res.stderr)
	}
	if res := d.logfs("run", "job", "--", "echo", "well"); res.status != 0 {
		t.Errorf("run beside them ended with %d: %s", res.status, res.stderr)
	}
	f.upTo(6)
	for _, c := range conns {
		c.Close()
	}
	eventually(t, func() string { return fmt.Sprintf("%d descriptors, there are %d", descriptors, d.descriptors()) },
		func() bool { return d.descriptors() <= descriptors+20 }) // logs of names that are new
	f.upTo(9)
	if _, err := os.Lstat(filepath.Join(d.dir, "x")); err == nil {
		t.Error("a name has left the store")
	}
}

// What lies in the store and leads elsewhere is left alone, and said once.
func TestLinksInTheStore(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	d.start()
	for _, name := range []string{"web", "linked"} {
		if res := d.logfs("run", name, "--", "echo", "hello"); res.status != 0 {
			t.Fatalf("run %s: %s", name, res.stderr)
		}
	}
	d.stop()
	at := func(elem ...string) string { return filepath.Join(append([]string{d.dir}, elem...)...) }
	must(t, os.Rename(d.logdir("linked"), at("moved")))
	must(t, os.Symlink(at("moved"), d.logdir("linked")))
	must(t, os.MkdirAll(d.logdir("hard"), 0o750))
	must(t, os.WriteFile(at("precious"), []byte("precious\n"), 0o604))
	must(t, os.Link(at("precious"), filepath.Join(d.logdir("hard"), "current")))
	must(t, os.Symlink(at("precious"), filepath.Join(d.logdir("web"), "@400000003b9aca0a075bcd15.s")))
	must(t, unix.Mkfifo(filepath.Join(d.logdir("web"), "@400000003b9aca0a075bcd16.s"), 0o600))
	must(t, os.Symlink(at("precious"), filepath.Join(d.store, "loose")))
	moved, err := os.ReadFile(at("moved", "current"))
	must(t, err)

	d.expectLog("a log in the store is left alone.*linked|file passed over|current becomes an archive as it is|the log was cut off.*hard")
	d.start()
	for _, name := range []string{"web", "hard"} {
		if res := d.logfs("run", name, "--", "echo", "again"); res.status != 0 {
			t.Errorf("run %s ended with %d: %s", name, res.status, res.stderr)
		}
		if got := d.read(name, "stdout", "current"); !strings.HasSuffix(got, "again\n") {
			t.Errorf("%s shows %q", name, got)
		}
	}
	res := d.logfs("run", "linked", "--", "touch", at("ran"))
	if _, err := os.Lstat(at("ran")); res.status != refused || err == nil {
		t.Errorf("run of a linked logdir ended with %d: %s", res.status, res.stderr)
	}
	d.logfs("rotate")
	d.stop()
	for what, n := range map[string]int{"file passed over": 2, "current becomes an archive": 1, "left alone": 1} {
		if said := strings.Count(d.log.String(), what); said != n {
			t.Errorf("%q said %d times, want %d:\n%s", what, said, n, d.log)
		}
	}
	b, err := os.ReadFile(at("precious"))
	fi, _ := os.Stat(at("precious"))
	if err != nil || string(b) != "precious\n" || fi.Mode().Perm() != 0o604 {
		t.Errorf("the file outside holds %q, mode %v: %v", b, fi.Mode(), err)
	}
	if now, err := os.ReadFile(at("moved", "current")); err != nil || string(now) != string(moved) {
		t.Errorf("the directory outside has changed: %q, %v", now, err)
	}
}
