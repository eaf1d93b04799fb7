package integration

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A pasted is one command of the README's transcript.
type pasted struct {
	line        string
	interrupted bool // by ^C
}

// transcript returns the commands shown in the README, in their order, by the
// blocks they are in.
func transcript(t *testing.T) (blocks [][]pasted) {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	must(t, err)
	for _, block := range regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		var commands []pasted
		for line := range strings.Lines(block[1]) {
			line = strings.TrimSuffix(line, "\n")
			if command, ok := strings.CutPrefix(line, "# "); ok {
				commands = append(commands, pasted{line: command})
			} else if line == "^C" && len(commands) > 0 {
				commands[len(commands)-1].interrupted = true
			}
		}
		blocks = append(blocks, commands)
	}
	return blocks
}

// What the README tells a newcomer to paste works: the first command sets all
// up, the others show something, and ^C ends it and leaves nothing. Only the
// places are those of the test.
func TestReadmeTranscript(t *testing.T) {
	t.Parallel()
	blocks := transcript(t)
	if len(blocks) != 3 || len(blocks[0]) != 1 || len(blocks[1]) < 5 || len(blocks[2]) != 1 {
		t.Fatalf("the transcript of README.md is %+v; want the start, the second terminal, the tests", blocks)
	}
	if fi, err := os.Stat(filepath.Join("..", blocks[2][0].line)); err != nil || fi.Mode()&0o111 == 0 {
		t.Errorf("%q is no program of the checkout (%v)", blocks[2][0].line, err)
	}
	d := newDaemon(t, "")
	up := d.startPasted(blocks[0][0].line)
	load, disk := d.watch("load", "follow"), d.watch("disk", "follow")
	d.awaitNews("load", load)
	d.awaitNews("disk", disk)
	for _, c := range blocks[1] {
		d.paste(c, setting{})
	}
	d.interrupt(up)
	for _, w := range []*watch{load, disk} {
		if err := w.awaitEnd(); err != nil {
			t.Errorf("follow ended with %v, want end of file", err)
		}
	}
}

// startPasted runs the first command of the README and returns when logfs says
// that it is up.
func (d *daemon) startPasted(line string) *process {
	d.t.Helper()
	up := startClient(d.t, setting{dir: "..", env: []string{d.env}}, "/bin/sh", "-c",
		line+` --mount "$0" --store "$1" --socket "$2" 2>&1`, d.mount, d.store, d.sock)
	d.t.Cleanup(d.killServices)
	compiled := time.After(5 * time.Minute)
	for {
		up.mu.Lock()
		isUp, news := bytes.Contains(up.out, []byte("services on "+d.mount)), up.news
		up.mu.Unlock()
		if isUp {
			return up
		}
		select {
		case <-news:
		case <-up.done:
			d.t.Fatalf("%q ended: %s", line, up.said())
		case <-compiled:
			d.t.Fatalf("%q is not up: %s", line, up.said())
		}
	}
}

// killServices kills what is left when the test could not end it in order, or has
// killed its daemon.
func (d *daemon) killServices() {
	for _, p := range processesWith(d.env) {
		pid, _, _ := strings.Cut(p, " ")
		if n, err := strconv.Atoi(pid); err == nil {
			_ = syscall.Kill(n, syscall.SIGKILL)
		}
	}
}

// awaitNews waits until the service has said a line that it had not said when
// awaitNews was called.
func (d *daemon) awaitNews(name string, w *watch) {
	d.t.Helper()
	for range strings.Count(d.read(name, "current"), "\n") + 1 {
		w.await("\n")
	}
}

// paste runs a command of the second terminal: it must show something, and end
// well, or at ^C after it has shown something new.
func (d *daemon) paste(c pasted, s setting) {
	t := d.t
	t.Helper()
	line := d.here(c.line)
	p := startClient(t, s, "/bin/sh", "-c", line)
	if c.interrupted {
		p.await("output", func(out []byte) bool { return len(out) > 0 })
		fields := strings.Fields(line)
		shown := startClient(t, s, "cat", strings.TrimSuffix(fields[len(fields)-1], "follow")+"current")
		shown.wait()
		p.await("a new line", func(out []byte) bool { return saysMore(out, []byte(shown.output())) })
		must(t, syscall.Kill(-p.pid(), syscall.SIGINT))
	}
	status := p.wait()
	if c.interrupted && p.signalled() == syscall.SIGINT {
		status = 0
	}
	if status != 0 || len(p.output()) == 0 || p.stderr.String() != "" {
		t.Errorf("%q ended with %v, want status 0 and output\n%s", c.line, p.cmd.ProcessState, p.said())
	}
}

// here is a command of the README with the places of the test.
func (d *daemon) here(line string) string {
	return strings.NewReplacer("/mnt/logs", d.mount, "/var/log/logfs", d.store).Replace(line)
}

// saysMore says whether out has a whole line that is not in old.
func saysMore(out, old []byte) bool {
	for line := range bytes.Lines(out) {
		if bytes.HasSuffix(line, []byte("\n")) && !bytes.Contains(old, line) {
			return true
		}
	}
	return false
}

// interrupt is ^C in the first terminal.
func (d *daemon) interrupt(up *process) {
	t := d.t
	t.Helper()
	must(t, syscall.Kill(-up.pid(), syscall.SIGINT))
	up.wait() // with status 1, because of go run
	d.log = &logBuffer{}
	_, _ = d.log.Write([]byte(up.output()))
	if strings.Contains(up.output(), "exit status") { // so go run calls one other than 0
		t.Errorf("logfs up did not end with status 0: %s", up.said())
	}
	if m := mountsUnder(d.dir); len(m) != 0 {
		t.Errorf("mounts left: %q", m)
	}
	if p := processesWith(d.env); len(p) != 0 {
		t.Errorf("processes left: %q", p)
	}
	d.checkLog()
}
