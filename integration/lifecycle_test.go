package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// An orderly end of the daemon is end of file to whoever is blocked.
func TestShutdownEndsReaders(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, smallRing)
	f := d.feed("web")
	f.upTo(5)
	old := d.read("web", "current")
	scripts := []string{
		`exec cat "$M/web/follow"`,
		`exec grep --line-buffered "" "$M/web/follow"`,
		`exec sed -u -n p "$M/web/follow"`,
		`exec dd if="$M/web/follow" bs=4k status=none`,
	}
	var clients []*process
	for _, script := range scripts {
		p := d.shell(t, setting{}, script)
		p.awaitBytes(len(old))
		clients = append(clients, p)
	}
	d.stop()
	for _, p := range clients {
		if code := p.wait(); code != 0 || p.stderr.String() != "" {
			t.Errorf("ended with %v\n%s", p.cmd.ProcessState, p.said())
		}
		checkSnapshot(t, p.name(), strings.TrimSuffix(p.output(), endOfRun(p.output())))
	}
	if err := f.watch.awaitEnd(); err != nil {
		t.Errorf("a blocked read ended with %v, want end of file", err)
	}
}

// endOfRun is the mark at the end of text that says that a run has ended, as
// the daemon may still tell its readers.
func endOfRun(text string) string {
	lines := strings.SplitAfter(text, "\n")
	if len(lines) < 2 {
		return ""
	}
	last := lines[len(lines)-2]
	if line := strings.TrimSuffix(last, "\n"); runMark.MatchString(line) && !startMark.MatchString(line) {
		return last
	}
	return ""
}

// The end of an idle daemon, and of one that never had a service, is clean.
func TestShutdownOfEmptyDaemon(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, "")
	d.stop()
}

// When the daemon and the holder of its mount are killed, the next daemon starts
// over the dead mount, knows what was said, and counts on.
func TestKilledDaemon(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, smallRing)
	f := d.feed("web")
	f.upTo(25)
	reader := d.shell(t, setting{}, `exec cat "$M/web/follow"`)
	reader.awaitText(numbered(25))
	before := parseSeq(t, d.read("web", "seq"))

	holder := d.mountHolder()
	d.kill()
	must(t, syscall.Kill(holder, syscall.SIGKILL))
	reader.wait()
	f.watch.awaitEnd()
	f.abandon()
	if len(mountsUnder(d.dir)) == 0 {
		t.Log("the mount was gone before the next daemon")
	}

	d.expectLog("level=WARN") // it was killed, and may say so
	d.start()
	if _, last := checkSnapshot(t, "current", withoutLaterMarks(d.read("web", "current"))); last != 25 {
		t.Errorf("current holds lines up to %d, want 25", last)
	}
	f = d.feed("web")
	f.n = 25
	f.upTo(30)
	after := parseSeq(t, d.read("web", "seq"))
	if len(after) < len(before)+5 {
		t.Fatalf("%d records after the restart, %d before", len(after), len(before))
	}
	for i, r := range before {
		if after[i] != r {
			t.Errorf("record %d was %+v, is %+v", i, r, after[i])
		}
	}
	checkTexts(t, after, 30)
	f.close()
	d.stop()
	checkStored(t, readLogdir(t, d.logdir("web")), 30)
}

// withoutLaterMarks leaves the first mark out of account and drops those that
// follow the lines.
func withoutLaterMarks(text string) string {
	for endOfRun(text) != "" {
		text = strings.TrimSuffix(text, endOfRun(text))
	}
	return text
}

// checkTexts wants the numbered lines 1 to n among the records, once, in order.
func checkTexts(t *testing.T, recs []seqRec, n int) {
	t.Helper()
	next := 1
	for _, r := range recs {
		if r.kind == "=" {
			continue
		}
		if r.text != numbered(next) {
			t.Fatalf("record %+v, want line %d", r, next)
		}
		next++
	}
	if next != n+1 {
		t.Errorf("records up to line %d, want %d", next-1, n)
	}
}

// checkStored wants the numbered lines 1 to n in the files, once, in order.
func checkStored(t *testing.T, stored []string, n int) {
	t.Helper()
	next := 1
	for _, line := range stored {
		if line[26] == '=' {
			continue
		}
		if storedText(line) != numbered(next) {
			t.Fatalf("in the files after line %d: %q", next-1, line)
		}
		next++
	}
	if next != n+1 {
		t.Errorf("the files hold lines up to %d, want %d", next-1, n)
	}
}

// A daemon that is stopped and started again goes on where it was.
func TestRestartedDaemon(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, smallRing)
	f := d.feed("web")
	f.upTo(10)
	f.close()
	before := d.read("web", "seq")
	d.stop()
	d.start()
	if after := d.read("web", "seq"); after != before {
		t.Errorf("seq after the restart: %s", difference(after, before))
	}
	f = d.feed("web")
	f.n = 10
	f.upTo(20)
	recs := parseSeq(t, d.read("web", "seq"))
	checkTexts(t, recs, 20)
	if last := recs[len(recs)-1]; last.run != 2 || last.first != len(recs) {
		t.Errorf("the last of %d records is %+v, want run 2", len(recs), last)
	}
}

// A service that ends and is started again goes on in the same files, under
// the readers it has.
func TestRestartedService(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, `
[service.web]
command = "echo begin; echo trouble >&2; exit 3"
restart = "always"
backoff = "50ms"
backoff-max = "100ms"
`)
	scripts := []string{`exec cat "$M/web/follow"`, `exec tail -s 0.1 -n +1 -f "$M/web/follow"`}
	run := `-- web run 1 started \S+ pid \d+ --\n(begin\ntrouble|trouble\nbegin)\n-- web run 1 exited 3 after \S+ --\n`
	var want strings.Builder
	want.WriteString("^")
	for _, n := range []string{"1", "2", "3"} {
		want.WriteString(strings.ReplaceAll(run, "run 1", "run "+n))
	}
	pattern := regexp.MustCompile(want.String())
	for _, script := range scripts {
		p := d.shell(t, setting{tty: true}, script)
		p.await("three runs", pattern.Match)
		p.end(syscall.SIGTERM)
	}
}

// The mount can be taken away from outside; the daemon then says so and still
// captures.
func TestUnmountedFromOutside(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, "[service.web]\n")
	d.says("echo one")
	reader := d.watch("web", "follow")
	reader.await("one\n")
	res := runLogfs(t, nil, d.dir, "unmount", d.mount)
	if res.status != refused || !strings.Contains(res.stderr, "open") {
		t.Errorf("logfs unmount beside a reader ended with %d: %s", res.status, res.stderr)
	}
	d.stop()
	reader.awaitEnd()
	d.start()
	d.expectLog("level=(WARN|ERROR)")
	res = runLogfs(t, nil, d.dir, "unmount", d.mount)
	if res.status != 0 {
		t.Fatalf("logfs unmount ended with %d: %s", res.status, res.stderr)
	}
	var st unix.Stat_t
	must(t, unix.Stat(d.mount, &st))
	if m := mountsUnder(d.dir); len(m) != 0 {
		t.Errorf("still mounted: %q", m)
	}
}

// A daemon that is killed while it mounts is gone. One that waited for an
// answer of its own would never end, and keep the store. Its writes are delayed
// so that it can be seen to wait.
func TestKilledWhileMounting(t *testing.T) {
	t.Parallel()
	needTools(t, "strace")
	d := newDaemon(t, "")
	ready, w, err := os.Pipe()
	must(t, err)
	defer ready.Close()
	argv := append([]string{"-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=write", "-e", "inject=write:delay_enter=100000",
		logfsBin, "daemon", "--ready-fd", "3"}, d.daemonArgs()[1:]...)
	cmd := exec.Command(lookTool("strace"), argv...)
	cmd.ExtraFiles = []*os.File{w}
	must(t, cmd.Start())
	w.Close()
	up := make(chan struct{})
	go func() { _, _ = ready.Read(make([]byte, 1)); close(up) }()
	exited := ended(cmd)
	eventually(t, func() string { return "the daemon to be up" },
		func() bool { return isClosed(up) || waitsForMount(cmd.Process.Pid) })
	must(t, cmd.Process.Kill())
	select {
	case <-exited:
	case <-time.After(patience):
		_ = unix.Unmount(d.mount, unix.MNT_FORCE) // which ends it
		t.Fatal("the daemon has survived SIGKILL")
	}
}

// waitsForMount says whether a thread of a process waits for an answer of a
// FUSE file system.
func waitsForMount(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/wchan", pid))
	for _, path := range threads {
		if at, _ := os.ReadFile(path); string(at) == "request_wait_answer" {
			return true
		}
	}
	return false
}

// A mount namespace made meanwhile, such as a container's, has a copy of the
// mount. That does not hold up the end of the daemon.
func TestStopBesideACopyOfTheMount(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can make a mount namespace")
	}
	d := startDaemon(t, "")
	other := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", "echo ready; exec sleep 1000")
	said, err := other.StdoutPipe()
	must(t, err)
	must(t, other.Start())
	t.Cleanup(func() { _ = other.Process.Kill(); _ = other.Wait() })
	_, err = said.Read(make([]byte, 6))
	must(t, err)
	d.stop()
}
