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
)

// waitsForDaemon is what logfs pipe says when the daemon is away for a while.
var waitsForDaemon = regexp.MustCompile(`(?m)^logfs: the output of .* waits for a daemon: .*\n`)

// seats are supervisors of a service directory DIR/NAME and its log; both end when they get TERM.
var seats = map[string]string{
	"runsv": "exec runsv DIR/NAME",
	"s6":    "exec s6-svscan DIR",
}

// supervise starts the supervisor called name, of a service that writes numbered
// lines and stays, and of logfs pipe, which logs it under that name.
func (d *daemon) supervise(name string, lines int) *process {
	d.t.Helper()
	self, err := os.Executable()
	must(d.t, err)
	dir := d.t.TempDir()
	must(d.t, os.MkdirAll(filepath.Join(dir, name, "log"), 0o755))
	script := func(file, command string) {
		must(d.t, os.WriteFile(filepath.Join(dir, name, file), []byte("#!/bin/sh\nexec env "+command+"\n"), 0o755))
	}
	script("run", fmt.Sprintf("LOGFS_TEST_HELPER=emit %q %d 50 /dev/null stay", self, lines))
	script("log/run", fmt.Sprintf("LOGFS_SOCKET=%q %q pipe %s", d.sock, logfsBin, name))
	return startClient(d.t, setting{}, "sh", "-c", strings.NewReplacer("DIR", dir, "NAME", name).Replace(seats[name]))
}

// The daemon is killed at random moments. The services do not notice: their
// lines are in the files once, in order, in one run, and their commands end as
// they would.
func TestServicesOutliveTheDaemon(t *testing.T) {
	kills, lines, alive := 20, 40_000, uint64(80)
	if os.Getenv("LOGFS_LONG") != "" {
		kills, lines, alive = 500, 2_000_000, 200
	}
	self, err := os.Executable()
	must(t, err)
	needTools(t, "runsv", "s6-svscan")
	d := newDaemon(t, fmt.Sprintf(`[defaults]
%s
[service.run]
[service.pipe]
[service.runsv]
[service.s6]
[service.own]
command = [%q, "%d", "50", %q, "stay"]
env = { LOGFS_TEST_HELPER = "emit" }
`, keepAll, self, lines, os.DevNull))
	d.expectLog("stale mount|not closed cleanly|torn")
	d.start()
	env := setting{env: []string{"LOGFS_SOCKET=" + d.sock, "LOGFS_TEST_HELPER=emit", "B=" + logfsBin, "S=" + self}}
	emit := fmt.Sprintf(`"$S" %d 50`, lines)
	clients := map[string]*process{
		"run":  startClient(t, env, "sh", "-c", `exec env -u LOGFS_TEST_HELPER "$B" run run -- env LOGFS_TEST_HELPER=emit `+emit),
		"pipe": startClient(t, env, "sh", "-c", emit+` | env -u LOGFS_TEST_HELPER "$B" pipe pipe`),
	}
	supervisors := map[string]*process{}
	for name := range seats {
		supervisors[name] = d.supervise(name, lines)
		d.awaitState(name, "running")
	}
	d.awaitState("run", "running")
	d.awaitState("pipe", "running")
	random, n := uint64(time.Now().UnixNano()), 0
	t.Logf("random moments from %d", random)
	for ; n < kills || n < 10*kills && !allEnded(clients); n++ {
		random = random*6364136223846793005 + 1442695040888963407
		time.Sleep(time.Duration(random>>40%alive) * time.Millisecond)
		d.kill()
		d.start()
	}
	for name, p := range clients {
		if status := p.wait(); status != 0 {
			t.Errorf("%s: ended with %d\n%s", name, status, p.said())
		}
	}
	for name, p := range supervisors {
		d.watch(name, "stdout", "follow").await(numbered(lines) + "\n")
		must(t, p.cmd.Process.Signal(syscall.SIGTERM))
		p.wait()
		if said := waitsForDaemon.ReplaceAllString(p.output()+p.stderr.String(), ""); said != "" {
			t.Errorf("%s, its service or its log said %q, want nothing", name, said)
		}
	}
	d.watch("own", "stdout", "follow").await(numbered(lines) + "\n")
	d.stop()
	ends := map[string]string{"run": "code=0", "pipe": "after=", "runsv": "after=", "s6": "after=", "own": "signal=TERM"}
	for name := range ends {
		d.verified(d.logdir(name))
		a := accountOfFiles(t, d.logdir(name))
		if a.lines != lines || a.marks != 0 || a.runs != 1 {
			t.Errorf("%s: %d lines in %d runs, %d lost in %d marks, want %d lines in one run", name, a.lines, a.runs, a.lost, a.marks, lines)
		}
		stored := readLogdir(t, d.logdir(name))
		if last := stored[len(stored)-1]; !strings.Contains(last, " = exit "+ends[name]) {
			t.Errorf("%s ends with %q, want exit %s", name, last, ends[name])
		}
	}
	t.Logf("%d kills, 5 services of %d lines each: none lost, none repeated, none torn", n, lines)
}

func allEnded(clients map[string]*process) bool {
	for _, p := range clients {
		if !p.ended() {
			return false
		}
	}
	return true
}

// A service that the configuration has lost while there was no daemon is ended by
// the next one, as by a reload.
func TestServiceIsRemovedBetweenDaemons(t *testing.T) {
	const kept = "[service.kept]\ncommand = \"exec sleep 1000\"\n"
	for _, by := range takeovers {
		t.Run(by.name, func(t *testing.T) {
			d := startDaemon(t, kept+"[service.lost]\ncommand = \"trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done\"\n")
			d.watch("lost", "follow").await("\nup\n")
			must(t, os.WriteFile(d.conf, []byte(kept), 0o644))
			by.run(d)
			d.awaitState("lost", "exited")
			d.awaitState("kept", "running")
			d.stop()
			stored := readLogdir(t, d.logdir("lost"))
			if last := stored[len(stored)-2:]; !strings.HasSuffix(last[0], " o bye") || !strings.Contains(last[1], " = exit code=0") {
				t.Errorf("the log of the lost service ends with %q", last)
			}
		})
	}
}
