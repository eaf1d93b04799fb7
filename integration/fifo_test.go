package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newInputs prepares a daemon whose configuration may name its directory, $D.
func newInputs(t testing.TB, conf string) *daemon {
	t.Helper()
	d := newDaemon(t, "")
	d.configure(strings.ReplaceAll(conf, "$D", d.dir))
	return d
}

func startInputs(t testing.TB, conf string) *daemon {
	t.Helper()
	d := newInputs(t, conf)
	d.start()
	return d
}

// sh runs a shell command to its end, in the directory of the daemon.
func (d *daemon) sh(script string) {
	d.t.Helper()
	if p := d.shell(d.t, setting{}, script); p.wait() != 0 {
		d.t.Fatalf("%s\n%s", script, p.said())
	}
}

// described is kind, mode and owner of a file.
func described(t testing.TB, path string) string {
	t.Helper()
	fi, err := os.Lstat(path)
	must(t, err)
	st := fi.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%v %d:%d", fi.Mode(), st.Uid, st.Gid)
}

// A FIFO is made, its writers come and go, and each time that the last has gone a
// run ends.
func TestFifo(t *testing.T) {
	t.Parallel()
	d := startInputs(t, "[service.web]\nfifo = \"$D/run/web\"\n")
	fifo := filepath.Join(d.dir, "run", "web")
	if got, want := described(t, fifo), fmt.Sprintf("prw------- %d:%d", os.Getuid(), os.Getgid()); got != want {
		t.Errorf("the FIFO is %s, want %s", got, want)
	}
	watch := d.watch("web", "follow")
	d.sh(`echo one >run/web`)
	watch.await(" ended after")
	d.sh(`exec 3>run/web; echo two >&3; printf unfinished >run/web; sh -c 'printf " line" >&3'; echo >run/web; printf three >&3`)
	watch.await("unfinished line\nthree\n-- web run 2 ended after")
	d.awaitState("web", "exited")
	if got := d.statusOf("web"); got[statusRun] != "2" || got[statusPID] != "-" {
		t.Errorf("status says %q", got)
	}
	if res := d.logfs("run", "web", "--", "true"); res.status != misuse {
		t.Errorf("logfs run of the service ended with %d: %s", res.status, res.stderr)
	}
	d.stop()
	d.start()
	watch = d.watch("web", "follow")
	d.sh(`echo four >run/web`)
	watch.await("four\n-- web run 3 ended after")
	equal(t, "stdout/current", d.read("web", "stdout", "current"), "one\ntwo\nunfinished line\nthreefour\n")
}

// What is written while no daemon is there, and the writer gone, is captured when
// one comes; what is written until its orderly end, before that.
func TestFifoAroundTheDaemon(t *testing.T) {
	t.Parallel()
	d := startInputs(t, "[service.web]\nfifo = \"$D/web\"\n"+keepAll)
	holdersOf(t, d, "web")
	d.kill()
	d.sh(`echo while dead >web; printf 'and unfinished' >web`)
	d.start()
	d.watch("web", "follow").await("while dead\nand unfinished\n-- web run 1 ended after")
	p := d.shell(t, setting{}, `exec 3>web; echo ready >&3; seq 2000 >&3; echo all; exec sleep 1000`)
	p.awaitText("all\n")
	d.stop()
	got := storedLines(t, d.logdir("web"))
	var want strings.Builder
	want.WriteString("while dead\nand unfinished\nready\n")
	for i := range 2000 {
		fmt.Fprintln(&want, i+1)
	}
	equal(t, "the files", got, want.String())
}

// storedLines is the text of all lines in the files, without marks.
func storedLines(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	for _, line := range readLogdir(t, dir) {
		if m := storedLine.FindStringSubmatch(line); m[2] != "=" {
			b.WriteString(m[3] + "\n")
		}
	}
	return b.String()
}

// Lines of many writers do not mix, up to what the kernel promises: 4096 bytes with
// the newline.
func TestFifoManyWriters(t *testing.T) {
	t.Parallel()
	const writers, lines = 16, 200
	d := startInputs(t, "[service.web]\nfifo = \"$D/web\"\n"+keepAll)
	d.sh(fmt.Sprintf(`
		exec 3>web
		for w in $(seq %d); do
			(long=$(head -c $((4000 - w * 200)) /dev/zero | tr '\000' x)
			for n in $(seq %d); do echo "writer $w line $n $long" >&3; done) &
		done
		wait`, writers, lines))
	d.watch("web", "follow").await(" ended after")
	form := regexp.MustCompile(`^writer (\d+) line (\d+) (x+)$`)
	next := map[string]int{}
	total := 0
	for line := range strings.Lines(storedLines(t, d.logdir("web"))) {
		m := form.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			t.Fatalf("mixed: %.200q", line)
		}
		next[m[1]]++
		var w int
		fmt.Sscan(m[1], &w)
		if m[2] != fmt.Sprint(next[m[1]]) || len(m[3]) != 4000-w*200 {
			t.Fatalf("line %s of writer %s with %d bytes, want line %d", m[2], m[1], len(m[3]), next[m[1]])
		}
		total++
	}
	if total != writers*lines {
		t.Errorf("%d lines, want %d", total, writers*lines)
	}
}

// The daemon is killed at random moments while a writer has the FIFO open. It does
// not notice: its lines are in the files once, in order, in one run.
func TestFifoOutlivesTheDaemon(t *testing.T) {
	kills, lines, alive := 10, 20_000, uint64(80)
	if os.Getenv("LOGFS_LONG") != "" {
		kills, lines, alive = 300, 2_000_000, 200
	}
	d := newInputs(t, "[service.web]\nfifo = \"$D/web\"\n"+keepAll)
	d.expectLog("stale mount|not closed cleanly|torn")
	d.start()
	holdersOf(t, d, "web")
	p := d.shell(t, setting{}, fmt.Sprintf(`exec "$T" %d 50 >web`, lines), "LOGFS_TEST_HELPER=emit")
	random, n := uint64(time.Now().UnixNano()), 0
	t.Logf("random moments from %d", random)
	for ; n < kills || n < 10*kills && !p.ended(); n++ {
		random = random*6364136223846793005 + 1442695040888963407
		time.Sleep(time.Duration(random>>40%alive) * time.Millisecond)
		d.kill()
		d.start()
	}
	if status := p.wait(); status != 0 {
		t.Errorf("the writer ended with %d\n%s", status, p.said())
	}
	d.watch("web", "follow").await(" ended after")
	d.stop()
	d.verified(d.logdir("web"))
	a := accountOfFiles(t, d.logdir("web"))
	if a.lines != lines || a.marks != 0 || a.runs != 1 {
		t.Errorf("%d lines in %d runs, %d lost in %d marks, want %d lines in one run", a.lines, a.runs, a.lost, a.marks, lines)
	}
	t.Logf("%d kills, %d lines: none lost, none repeated, none torn", n, lines)
}

// A FIFO that the configuration names no more is let go by the next daemon, also
// after a kill; and a holder that is killed is replaced.
func TestFifoHolders(t *testing.T) {
	t.Parallel()
	d := newInputs(t, "[service.web]\nfifo = \"$D/web\"\n[service.db]\nfifo = \"$D/db\"\n")
	d.expectLog("the input is not read")
	d.start()
	for _, pid := range holdersOf(t, d, "db") {
		must(t, unix.Kill(pid, unix.SIGKILL))
	}
	d.awaitLog("the input will be opened again")
	d.sh(`echo still here >db`)
	d.watch("db", "follow").await("still here\n")
	d.kill()
	d.configure(strings.ReplaceAll("[service.web]\nfifo = \"$D/other\"\n[service.db]\n", "$D", d.dir))
	d.start()
	for _, name := range []string{"web", "db"} {
		fd, err := unix.Open(filepath.Join(d.dir, name), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != unix.ENXIO {
			t.Errorf("FIFO %s opens for writing with %v, want it to have no reader", name, err)
			unix.Close(fd)
		}
	}
	d.sh(`echo other >other`)
	d.watch("web", "follow").await("other\n")
}

// holdersOf waits for the holder of a service and returns its number.
func holdersOf(t *testing.T, d *daemon, name string) (pids []int) {
	t.Helper()
	eventually(t, func() string { return "the holder of " + name }, func() bool {
		pids = nil
		for _, p := range processesWith(d.env) {
			var pid int
			if fmt.Sscan(p, &pid); strings.HasSuffix(strings.TrimSpace(p), " hold "+name) {
				pids = append(pids, pid)
			}
		}
		text, _ := os.ReadFile(filepath.Join(d.store, ".held", name))
		return len(pids) == 1 && len(text) > 0
	})
	return pids
}

// Owner and mode are those of the configuration, and what is there already keeps
// its own if there is none.
func TestInputModes(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can give files away")
	}
	d := newInputs(t, `[defaults]
input-owner = "65534"
[service.made]
fifo = "$D/made"
input-group = "3000000000"
input-mode = "0622"
[service.there]
fifo = "$D/there"
input-owner = "0"
[service.log]
syslog = "$D/run/log"
input-mode = "0666"
[service.plain]
syslog = "$D/plain"
`)
	must(t, unix.Mkfifo(filepath.Join(d.dir, "there"), 0o600))
	must(t, os.Chmod(filepath.Join(d.dir, "there"), 0o620))
	d.start()
	for name, want := range map[string]string{
		"made": "prw--w--w- 65534:3000000000", "there": "prw--w---- 0:0",
		"run/log": "Srw-rw-rw- 65534:0", "plain": "Srw------- 65534:0",
	} {
		if got := described(t, filepath.Join(d.dir, name)); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

// A reload opens and closes inputs, without a word to those whose input stays.
func TestInputsReload(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can give files away")
	}
	d := newInputs(t, "[service.web]\nfifo = \"$D/web\"\n[service.db]\ncommand = \"exec sleep 1000\"\n")
	d.start()
	must(t, unix.Mkfifo(filepath.Join(d.dir, "go"), 0o600))
	p := d.shell(t, setting{}, `exec 3>web; echo one >&3; while read line; do echo "$line" >&3; done <go`)
	watch := d.watch("web", "follow")
	watch.await("one\n")
	d.configure(strings.ReplaceAll("[defaults]\ninput-mode = \"0622\"\n"+
		"[service.web]\nfifo = \"$D/web\"\ninput-group = \"65534\"\nkeep = 3\n"+
		"[service.db]\nfifo = \"$D/db\"\n[service.log]\nsyslog = \"$D/log\"\n", "$D", d.dir))
	d.reload()
	for name, want := range map[string]string{"web": "prw--w--w- 0:65534", "db": "prw--w--w- 0:0", "log": "Srw--w--w- 0:0"} {
		eventually(t, func() string { return name + " to be " + want }, func() bool {
			_, err := os.Lstat(filepath.Join(d.dir, name))
			return err == nil && described(t, filepath.Join(d.dir, name)) == want
		})
	}
	d.sh(`echo two >go; echo three >db`)
	watch.await("two\n")
	if status := p.wait(); status != 0 {
		t.Errorf("the writer ended with %d\n%s", status, p.said())
	}
	d.watch("db", "follow").await("three\n")
	s := d.sender(t)
	s.send("<13>four")
	log := d.watch("log", "follow")
	log.await("<13>four\n")

	d.expectLog("the input is not read")
	d.configure(strings.ReplaceAll("[service.web]\n[service.db]\nsyslog = \"$D/go\"\n", "$D", d.dir))
	d.reload()
	if err := log.awaitEnd(); err != nil {
		t.Errorf("the follower of a removed service ended with %v", err)
	}
	if err := s.trySend("<13>nobody"); err != unix.EPIPE && err != unix.ECONNREFUSED {
		t.Errorf("a sender to a removed service is told %v", err)
	}
	d.awaitState("db", "backoff")
	must(t, os.Remove(filepath.Join(d.dir, "go")))
	d.awaitState("db", "running")
	if res := d.logfs("run", "web", "--", "echo", "five"); res.status != 0 {
		t.Errorf("logfs run of a service without input ended with %d: %s", res.status, res.stderr)
	}
}
