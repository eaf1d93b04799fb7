package integration

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A reader that is stopped while the service writes more than memory and disk
// keep is told once, exactly, what it has missed.
func TestOvertakenReader(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, `
[service.web]
ring-bytes = "64KiB"
size = "16KiB"
keep = 1
`)
	f := d.feed("web")
	f.upTo(20)
	p := d.shell(t, setting{}, `exec cat "$M/web/follow"`)
	p.awaitText(numbered(20))

	must(t, p.cmd.Process.Signal(syscall.SIGSTOP))
	f.upTo(21) // it stops when its read has returned
	eventually(t, func() string { return "cat to stop" }, func() bool { return stateOf(p.pid()) == "T" })
	f.upTo(5000)
	must(t, p.cmd.Process.Signal(syscall.SIGCONT))
	p.awaitText(numbered(5000) + "\n")
	f.say("the reader goes on")
	p.awaitText("the reader goes on\n")
	p.end(syscall.SIGTERM)

	out := strings.TrimSuffix(p.output(), "the reader goes on\n")
	a := checkAccount(t, "cat", out)
	if a.marks != 1 || a.lines+a.lost != 5000 || a.next != 5001 {
		t.Errorf("%d lines, %d lost by %d marks, then line %d; want 5000 in all, one mark",
			a.lines, a.lost, a.marks, a.next)
	}
	if a.lines < 100 {
		t.Errorf("only %d lines were left of a ring of 64 KiB", a.lines)
	}
}

// stateOf is the state letter of a process.
func stateOf(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	state, _, _ := strings.Cut(rest, " ")
	return state
}

// A million lines, as fast as the service can, with a ring that holds a few
// hundred and four followers: the files have every line once, in order, and
// every follower has each line or is told its number.
func TestNothingLostNothingSilent(t *testing.T) {
	const million = 1_000_000
	d := startDaemon(t, `
[service.web]
ring-bytes = "64KiB"
keep = 1000
`)
	followers := map[string]string{
		"cat":         `exec cat "$M/web/follow"`,
		"dd":          `exec dd if="$M/web/follow" bs=64k status=none`,
		"grep":        `exec grep --line-buffered "" "$M/web/follow"`,
		"tail -s 0.1": `exec tail -s 0.1 -f "$M/web/follow"`,
	}
	done := make(chan error, len(followers))
	for name, script := range followers {
		go d.follower(t, name, script, million, done)
	}
	eventually(t, func() string { return "four readers" }, func() bool {
		s := d.statusOf("web")
		return len(s) == statusFields && s[statusReaders] == "4"
	})
	began := time.Now()
	out := runCommand(t, []string{"LOGFS_SOCKET=" + d.sock}, d.dir, logfsBin,
		"run", "web", "--", "sh", "-c", countingScript(million))
	if out.status != 0 || out.stderr != "" {
		t.Fatalf("logfs run ended with %d: %s", out.status, out.stderr)
	}
	t.Logf("the service wrote %d lines in %v", million, time.Since(began).Round(time.Millisecond))
	for range followers {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	d.stop()
	checkMillion(t, readLogdir(t, d.logdir("web")), million)
}

// countingScript writes the lines of countingLine as fast as seq does.
func countingScript(n int) string { return fmt.Sprintf("exec seq -f 'line %%08.0f' %d", n) }

func countingLine(i int) string { return fmt.Sprintf("line %08d", i) }

// follower reads until the run has ended and sends what was wrong to done.
func (d *daemon) follower(t *testing.T, name, script string, n int, done chan<- error) {
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Env = append(os.Environ(), "M="+d.mount)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		done <- fmt.Errorf("%s: %w", name, err)
		return
	}
	timer := time.AfterFunc(4*patience, func() { _ = cmd.Process.Kill() })
	a := &account{number: func(line string) int {
		var i int
		if _, err := fmt.Sscanf(line, "line %d", &i); err != nil || line != countingLine(i) {
			return 0
		}
		return i
	}}
	lines := bufio.NewScanner(out)
	for !a.ended && err == nil && lines.Scan() {
		err = a.add(lines.Text())
	}
	timer.Stop()
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	switch {
	case err != nil:
		err = fmt.Errorf("%s: %w", name, err)
	case !a.ended || a.lines+a.lost != n:
		err = fmt.Errorf("%s: %d lines and %d lost by %d marks, of %d; run ended: %v",
			name, a.lines, a.lost, a.marks, n, a.ended)
	}
	done <- err
	t.Logf("%s: %d lines, %d marks for %d lines", name, a.lines, a.marks, a.lost)
}

func checkMillion(t *testing.T, stored []string, n int) {
	t.Helper()
	next := 1
	for _, line := range stored {
		kind, text := line[26:27], storedText(line)
		switch {
		case kind == "=":
		case kind != "o" || text != countingLine(next):
			t.Fatalf("in the files after line %d: %q", next-1, line)
		default:
			next++
		}
	}
	if next != n+1 {
		t.Errorf("the files hold lines up to %d, want %d", next-1, n)
	}
}
