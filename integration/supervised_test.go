package integration

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// idle is an init that only waits for its orphans.
var idle = []string{"sh", "-c", "while sleep 1000; do :; done"}

// counting is a service whose lines show whether one is missing.
const counting = "#!/bin/sh\nexec 2>&1\nexec sh -c 'while echo n=$((n += 1)); do sleep 0.01; done'\n"

// A supervisor runs service directories, those of contrib.
type supervisor struct {
	name  string   // and the folder of contrib
	tools []string // that show that it is installed
	start string   // supervises all of /sv
	up    string   // waits until the daemon is up
	pid   string   // prints that of a service directory, the $1 of it
	stop  []string // in order
	gone  string   // a pattern of its processes, for pgrep
}

var supervisors = []supervisor{
	{
		name: "runit", tools: []string{"runsvdir", "runsv", "sv"},
		start: "runsvdir -P /sv",
		up:    "sv check /sv/logfs && logfs status",
		pid:   "cat $1/supervise/pid",
		stop:  []string{"sv -w 20 exit /sv/count", "sv -w 20 exit /sv/logfs", "kill -HUP $(pgrep -x runsvdir)"},
		gone:  "runsv|logfs",
	},
	{
		name: "s6", tools: []string{"s6-svscan", "s6-supervise", "s6-svc"},
		start: "s6-svscan /sv",
		up:    "s6-svwait -U -t 15000 /sv/logfs && logfs status",
		pid:   "s6-svstat -o pid $1",
		stop:  []string{"s6-svc -wD -T 15000 -d /sv/count", "s6-svscanctl -t /sv"},
		gone:  "s6-|logfs",
	},
}

// The service directories of contrib work with the real supervisors: a daemon
// and a log process that are killed are started again, and no line is missing
// at the end.
func TestSupervised(t *testing.T) {
	for _, s := range supervisors {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			needTools(t, append(s.tools, "pgrep")...)
			s.test(startMachine(t, idle...))
		})
	}
}

func (s supervisor) test(m *machine) {
	m.put(logfsBin, "/usr/local/bin")
	m.put("../contrib/"+s.name, "/")
	m.write("/"+s.name+"/web/run", counting)
	m.do(fmt.Sprintf("cd /%[1]s && chmod +x web/run && mv web count && mv /%[1]s /sv", s.name))
	m.do("setsid " + s.start + " >>/tmp/said 2>&1 &")
	m.eventually(s.up, "NAME STATE")
	m.counts()
	s.kill(m, "/sv/logfs")
	m.eventually(s.up, "NAME STATE")
	m.counts()
	s.kill(m, "/sv/count/log")
	m.counts()
	for _, line := range s.stop {
		m.do(line)
	}
	m.eventually(fmt.Sprintf("pgrep -l '%s' || echo none", s.gone), "none")
	m.eventually("grep /mnt/logs /proc/self/mounts || echo none", "none")
	checkCounted(m.t, m.do("cd /var/log/logfs/count && cat @* current"))
}

// kill kills the process of a service directory and waits for the next one. One
// that is refused because the daemon still reads the pipe says so.
func (s supervisor) kill(m *machine, dir string) {
	m.t.Helper()
	m.do(": >/tmp/said")
	pid := "set -- " + dir + "; " + s.pid
	old := strings.TrimSpace(m.do(pid))
	m.do("kill -KILL " + old)
	m.eventually(fmt.Sprintf("p=$(%s); if [ ${p:-0} -gt 0 ] && [ $p != %s ] || grep 'logfs: pipe' /tmp/said; then echo again; fi", pid, old), "again")
}

// counts waits until the service has said some more.
func (m *machine) counts() {
	m.t.Helper()
	const current = "cat /mnt/logs/count/current"
	m.eventually(current, "\nn=")
	m.eventually(current, fmt.Sprintf("\nn=%d\n", lastCount(m.do(current))+10))
}

var counted = regexp.MustCompile(`(?m)^(?:@[0-9a-f]{24} o )?n=([0-9]+)$`)

func lastCount(text string) int {
	all := counted.FindAllStringSubmatch(text, -1)
	var n int
	fmt.Sscan(all[len(all)-1][1], &n)
	return n
}

// checkCounted fails the test unless every number is there once, in order.
func checkCounted(t *testing.T, stored string) {
	t.Helper()
	all := counted.FindAllStringSubmatch(stored, -1)
	for i, n := range all {
		if n[1] != fmt.Sprint(i+1) {
			t.Fatalf("line %d of the store is n=%s:\n%s", i+1, n[1], stored)
		}
	}
	if len(all) < 20 {
		t.Errorf("the store has %d lines of the service, want at least 20:\n%s", len(all), stored)
	}
}
