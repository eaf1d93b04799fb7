package integration

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// dropIn writes a fragment of the configuration.
func (d *daemon) dropIn(name, text string) {
	d.t.Helper()
	dir := filepath.Join(d.dir, "conf.d")
	must(d.t, os.MkdirAll(dir, 0o755))
	must(d.t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
}

// reload sends HUP and returns when the daemon has done what that asks for.
func (d *daemon) reload() {
	d.t.Helper()
	const done = `msg="configuration reloaded"`
	before := strings.Count(d.log.String(), done)
	must(d.t, d.cmd.Process.Signal(unix.SIGHUP))
	eventually(d.t, func() string { return "the reload, logged so far:\n" + d.log.String() },
		func() bool { return strings.Count(d.log.String(), done) > before })
}

// Two services write 10,000 lines a second while twenty reloads change all that
// can be changed without a restart. Nothing is lost or repeated, for a reader
// that keeps up, for one that is stopped the whole time, and in the files.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	last := 20_000
	if os.Getenv("LOGFS_LONG") == "1" {
		last = 500_000
	}
	services := emitter("web", last, 1000) + emitter("db", last, 1000)
	d := startDaemon(t, "[defaults]\nring-lines = 1000000\nring-bytes = \"1GiB\"\nkeep = 100000\n"+services)
	web, db := d.watch("web", "follow"), d.watch("db", "follow")
	lagging := startClient(t, setting{}, "/bin/sh", "-c", `exec cat "$0"`, d.path("web", "follow"))
	lagging.awaitText(numbered(1))
	must(t, lagging.cmd.Process.Signal(syscall.SIGSTOP))
	d.awaitState("web", "running")
	d.awaitState("db", "running")
	pids := []string{d.statusOf("web")[statusPID], d.statusOf("db")[statusPID]}

	const reloads = 20
	var seen strings.Builder
	for i := range reloads {
		d.configure(fmt.Sprintf("[defaults]\nkeep = 100000\nring-lines = %d\nring-bytes = %q\nsize = %q\ncompress = %q\nrotate = %q\nfull = %q\nline-limit = %d\nsync = %q\nmode = %q\n",
			[]int{50_000, 2000, 20_000, 3000}[i%4], []string{"64MiB", "1MiB", "300KiB"}[i%3],
			[]string{"64KiB", "1MiB", "100KB"}[i%3], []string{"gzip", "none", "zstd"}[i%3], []string{"none", "daily", "hourly"}[i%3],
			[]string{"drop", "block"}[i%2], []int{128, 10_000}[i%2], []string{"10ms", "1s"}[i%2], []string{"0700", "0755"}[i%2]) + services)
		d.reload()
		seen.WriteString(web.await(numbered(last/(reloads+2)*(i+1)) + "\n"))
	}
	for i, name := range []string{"web", "db"} {
		if now := d.statusOf(name); now[statusRun] != "1" || now[statusState] == "running" && now[statusPID] != pids[i] {
			t.Errorf("the service that had pid %s is %q now", pids[i], now)
		}
	}
	seen.WriteString(web.await(numbered(last) + "\n"))
	db.await(numbered(last) + "\n")
	d.awaitState("web", "exited")
	d.awaitState("db", "exited")
	must(t, lagging.cmd.Process.Signal(syscall.SIGCONT))

	// The end of the services is the end of their files.
	d.configure("")
	d.reload()
	if err := errors.Join(web.awaitEnd(), db.awaitEnd()); err != nil {
		t.Errorf("followers of removed services ended with %v", err)
	}
	if status := lagging.wait(); status != 0 {
		t.Errorf("cat ended with %d\n%s", status, lagging.said())
	}
	for what, text := range map[string]string{"who keeps up": seen.String() + string(web.buf), "who was stopped": lagging.output()} {
		if a := checkAccount(t, what, text); a.lines != last || a.marks != 0 || !a.ended {
			t.Errorf("%s has %d lines and %d lost marks, want %d and none; the end of the run: %v", what, a.lines, a.marks, last, a.ended)
		}
	}
	for _, name := range []string{"web", "db"} {
		d.verified(d.logdir(name))
		a := accountOfFiles(t, unpacked(t, d.logdir(name)))
		if a.lines != last || a.lost != 0 || a.runs != 1 {
			t.Errorf("the files of %s have %+v, want %d lines of one run", name, a, last)
		}
	}
}

// unpacked is a copy of a logdir without compression.
func unpacked(t *testing.T, dir string) string {
	t.Helper()
	plain := filepath.Join(t.TempDir(), filepath.Base(dir))
	must(t, os.Mkdir(plain, 0o755))
	packed := map[string]int{}
	for _, path := range logdirFiles(t, dir) {
		f, err := os.Open(path)
		must(t, err)
		var r io.Reader = f
		form := filepath.Ext(path)
		switch form {
		case ".gz":
			r, err = gzip.NewReader(f)
		case ".zst":
			r, err = zstd.NewReader(f)
		}
		must(t, err)
		b, err := io.ReadAll(r)
		must(t, err)
		f.Close()
		packed[form]++
		must(t, os.WriteFile(filepath.Join(plain, strings.TrimSuffix(filepath.Base(path), form)), b, 0o644))
	}
	if packed[".gz"] == 0 || packed[".zst"] == 0 {
		t.Errorf("files by their form: %v, want some of each", packed)
	}
	return plain
}

// A service comes and goes with its drop-in; its neighbour does not notice.
func TestReloadOfDropIns(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, "[service.web]\ncommand = \"echo web is up; exec sleep 1000\"\n")
	web := d.watch("web", "follow")
	web.await("web is up\n")
	before := d.statusOf("web")

	const db = "[service.db]\ncommand = \"trap 'echo db ends; exit 3' TERM; echo db is up; while :; do sleep 0.05; done 2>/dev/null\"\n"
	for run := 1; run <= 2; run++ {
		d.dropIn("db.toml", db)
		d.reload()
		follower := d.watch("db", "follow")
		follower.await(fmt.Sprintf("run %d started", run))
		follower.await("db is up\n")
		must(t, os.Remove(filepath.Join(d.dir, "conf.d", "db.toml")))
		d.reload()
		follower.await("db ends\n")
		follower.await(fmt.Sprintf("-- db run %d exited 3", run))
		if err := follower.awaitEnd(); err != nil {
			t.Errorf("a follower of the removed service ended with %v, want end of file", err)
		}
		if _, err := os.Stat(d.path("db")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the directory of the removed service: %v", err)
		}
		if a := readLogdir(t, d.logdir("db")); len(a) != 4*run {
			t.Errorf("after %d runs the files have %q", run, a)
		}
		d.verified(d.logdir("db"))
	}
	if after := d.statusOf("web"); after[statusPID] != before[statusPID] || after[statusRun] != before[statusRun] {
		t.Errorf("its neighbour was %q, is %q", before, after)
	}
	d.stop()
	if err := web.awaitEnd(); err != nil {
		t.Errorf("the follower of its neighbour ended with %v", err)
	}
}

// A command that has outlived its daemon is ended by the next one's reload.
func TestReloadAfterAKill(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "[service.web]\ncommand = \"echo up; exec sleep 1000\"\n")
	d.expectLog("stale mount|not closed cleanly|torn")
	d.start()
	d.watch("web", "follow").await("up\n")
	before := d.statusOf("web")
	d.kill()
	d.start()
	d.awaitState("web", "running")
	if after := d.statusOf("web"); after[statusPID] != before[statusPID] {
		t.Errorf("the service was %q, is %q", before, after)
	}
	web := d.watch("web", "follow")
	d.configure("")
	d.reload()
	web.await("-- web run 1 killed by SIGTERM")
	if err := web.awaitEnd(); err != nil {
		t.Errorf("a follower of the removed service ended with %v", err)
	}
	d.verified(d.logdir("web"))
}

// Every mistake is said, with its place, and changes nothing; so do other
// places for what cannot move.
func TestReloadOfBadFile(t *testing.T) {
	t.Parallel()
	const good = "[service.web]\ncommand = \"echo up; exec sleep 1000\"\nring-lines = 100\n"
	d := startDaemon(t, good)
	d.expectLog(`level=ERROR msg="configuration not reloaded, the old settings stay in force"`)
	web := d.watch("web", "follow")
	web.await("up\n")
	before := d.statusOf("web")
	for _, tt := range []struct {
		name, main, fragment string
		says                 []string
	}{
		{"mistakes", "[service.web]\ncommand = \"echo other\"\nkeep = 0\nmin = 11\n[service.new]\n", "[service.db]\nsise = 1\n", []string{
			"$D/logfs.toml:3: service.web.keep: cannot use 0: want a whole number from 1 to 100000",
			"$D/conf.d/x.toml:2: service.db.sise: unknown key: did you mean size?"}},
		{"no form", "[service.web\n", "", []string{"$D/logfs.toml:1: cannot parse"}},
		{"unknown account", "[service.web]\nowner = \"no-such-user\"\n", "", []string{"$D/logfs.toml:2: service.web.owner: cannot use"}},
		{"store in the mount", "mount = \"/x\"\nstore = \"/x/y\"\n", "", []string{"$D/logfs.toml:1: mount: mount"}},
		{"a log that cannot be made", "[service.file]\n[service.new]\n", "", []string{"cannot open the log of service"}},
	} {
		must(t, os.MkdirAll(d.store, 0o750))
		must(t, os.WriteFile(d.logdir("file"), nil, 0o644))
		d.configure(tt.main)
		d.dropIn("x.toml", tt.fragment)
		must(t, d.cmd.Process.Signal(unix.SIGHUP))
		for _, text := range tt.says {
			text = strings.ReplaceAll(text, "$D", d.dir)
			eventually(t, func() string { return fmt.Sprintf("%s: %q in the log:\n%s", tt.name, text, d.log) },
				func() bool { return strings.Contains(d.log.String(), text) })
		}
		if after := d.statusOf("web"); after[statusPID] != before[statusPID] || after[statusState] != "running" {
			t.Errorf("%s: the service was %q, is %q", tt.name, before, after)
		}
		names, err := os.ReadDir(d.mount)
		must(t, err)
		if len(names) != 4 {
			t.Errorf("%s: the tree holds %v", tt.name, names)
		}
	}
	// What is right again is taken, and what has not changed not touched.
	d.dropIn("x.toml", "")
	d.configure(good)
	d.reload()
	if after := d.statusOf("web"); after[statusPID] != before[statusPID] {
		t.Errorf("the service was %q, is %q", before, after)
	}
}

// The places of the daemon stay: flags decide, else a change is refused.
func TestReloadOfPlaces(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	places := func(store string) string {
		return fmt.Sprintf("mount = %q\nstore = %q\n", d.mount, store)
	}
	d.configure(places(d.store))
	d.startWith("daemon", "--config", d.conf, "--socket", d.sock)
	d.configure("socket = \"/by/no/flag\"\n" + places(d.store+"2") + "[service.web]\n")
	d.expectLog(`not reloaded.*store: cannot change from`)
	must(t, d.cmd.Process.Signal(unix.SIGHUP))
	d.awaitLog(fmt.Sprintf(`%s:3: store: cannot change from \"%s\" to \"%[2]s2\" while the daemon runs: want \"%[2]s\", or restart the daemon`, d.conf, d.store))
	if _, err := os.Stat(d.path("web")); err == nil {
		t.Error("a part of the file was used")
	}
	d.configure("socket = \"/by/no/flag\"\n" + places(d.store) + "[service.web]\n")
	d.reload()
	if _, err := os.Stat(d.path("web")); err != nil {
		t.Error(err)
	}
}

// Another command takes the place of the first, under the eyes of a follower;
// the other service goes on.
func TestReloadOfCommand(t *testing.T) {
	t.Parallel()
	conf := func(word string) string {
		return fmt.Sprintf("[service.web]\ncommand = \"echo %s; exec sleep 1000\"\n[service.db]\ncommand = \"echo db; exec sleep 1000\"\n", word)
	}
	d := startDaemon(t, conf("first"))
	web, db := d.watch("web", "follow"), d.watch("db", "follow")
	web.await("first\n")
	db.await("db\n")
	before := d.statusOf("db")
	d.configure(conf("second"))
	d.reload()
	between := web.await("second\n")
	if !regexp.MustCompile(`^-- web run 1 killed by SIGTERM after \S+ --\n-- web run 2 started \S+ pid \d+ --\nsecond\n$`).MatchString(between) {
		t.Errorf("between the two commands: %q", between)
	}
	if after := d.statusOf("db"); after[statusPID] != before[statusPID] {
		t.Errorf("the other service was %q, is %q", before, after)
	}
}

// Who may read a service is what the configuration says, from the reload on.
func TestReloadOfPermissions(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can become another user")
	}
	d := startDaemon(t, "[service.web]\n[service.db]\n")
	web, db := d.feed("web"), d.feed("db")
	web.say("secret")
	db.say("secret")
	reads := func(name, file string) bool {
		cmd := exec.Command("/bin/cat", d.path(name, file))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		out, err := cmd.CombinedOutput()
		if err != nil && !strings.Contains(string(out), "Permission denied") {
			t.Fatalf("cat: %v\n%s", err, out)
		}
		return err == nil && strings.Contains(string(out), "secret\n")
	}
	for _, tt := range []struct {
		settings string
		mode     uint32
		may      bool
	}{
		{"", 0o750, false},
		{"mode = \"0755\"", 0o755, true},
		{"mode = \"0750\"\nowner = \"65534\"", 0o750, true},
		{"group = \"65534\"", 0o750, true},
		{"mode = \"0640\"", 0o750, false},
		{"mode = \"0640\"\ngroup = \"65534\"", 0o750, true},
		{"mode = \"0700\"\ngroup = \"65534\"", 0o700, false},
	} {
		d.configure("[service.web]\n" + tt.settings + "\n[service.db]\n")
		d.reload()
		for _, file := range []string{"current", "seq", "stdout/current"} {
			if reads("web", file) != tt.may {
				t.Errorf("with %q nobody reads %s: %v, want %v", tt.settings, file, !tt.may, tt.may)
			}
		}
		if reads("db", "current") {
			t.Errorf("with %q for its neighbour nobody reads it", tt.settings)
		}
		if st := stat(t, d.path("web")); st.Mode&0o777 != tt.mode {
			t.Errorf("with %q the mode is %o, want %o", tt.settings, st.Mode&0o777, tt.mode)
		}
	}
	web.say("and the service went on")
}

// Settings of [defaults] are for services of clients too, and follow is listed
// or not.
func TestReloadOfDefaults(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, "")
	p := d.shell(t, setting{}, `exec "$B" run job -- sh -c 'echo one; exec sleep 1000'`, "B="+logfsBin)
	eventually(t, func() string { return "the job to say something" }, func() bool {
		b, err := os.ReadFile(d.path("job", "stdout", "current"))
		return err == nil && string(b) == "one\n"
	})
	d.configure("list-follow = false\n[defaults]\nmarks = false\nmode = \"0711\"\n")
	d.reload()
	if st := stat(t, d.path("job")); st.Mode&0o777 != 0o711 {
		t.Errorf("the mode is %o, want 711", st.Mode&0o777)
	}
	names, err := os.ReadDir(d.path("job"))
	must(t, err)
	for _, e := range names {
		if e.Name() == "follow" {
			t.Error("follow is listed")
		}
	}
	equal(t, "current", d.read("job", "current"), "one\n")
	p.end(syscall.SIGTERM)
}
