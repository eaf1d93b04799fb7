package daemon

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"logfs/cmd/logfs/internal/config"
)

func sorted(all []string) []string {
	all = slices.Clone(all)
	slices.Sort(all)
	return all
}

// runs starts the commands of the daemon and waits for their ends.
func (dt *daemonTest) runs(t *testing.T) {
	t.Helper()
	dt.Start()
	ended := make(chan struct{})
	go func() { dt.commands.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("the commands do not end")
	}
}

func TestCommands(t *testing.T) {
	dt := openDaemon(t, newOptions(t,
		shell("code", "echo out; exit 3"),
		shell("signal", "kill -USR1 $$"),
		shell("ok", "cat; echo err >&2"),
		shell("env", "echo $A $B $NOTIFY_SOCKET; pwd"),
	))
	t.Setenv("B", "inherited")
	t.Setenv("NOTIFY_SOCKET", "/nowhere")
	dt.find("env").settings.Env = []string{"A=configured"}
	dt.find("env").settings.Dir = "/proc"
	dt.runs(t)
	tests := []struct {
		service string
		state   State
		want    []string
	}{
		{"code", Failed, []string{"= start run=1", "o out", "= exit code=3"}},
		{"signal", Failed, []string{"= start run=1", "= exit signal=USR1"}},
		{"ok", Exited, []string{"= start run=1", "e err", "= exit code=0"}},
		{"env", Exited, []string{"= start run=1", "o configured inherited", "o /proc", "= exit code=0"}},
	}
	for _, tt := range tests {
		same(t, tt.service, dt.stored(t, tt.service), tt.want)
		if state, _, _ := dt.find(tt.service).snapshot(); state != tt.state {
			t.Errorf("%s is %s, want %s", tt.service, state, tt.state)
		}
	}
}

func TestCommandInheritsNothing(t *testing.T) {
	const script = "cd /proc/self/fd; echo *"
	// What this test itself was left open is not the daemon's doing.
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Stderr = os.Stderr
	bare, err := cmd.Output()
	must(t, err)
	dt := openDaemon(t, newOptions(t, shell("fds", script)))
	dt.runs(t)
	same(t, "stored", dt.stored(t, "fds"),
		[]string{"= start run=1", "o " + strings.TrimSpace(string(bare)), "= exit code=0"})
}

func TestCommandThatCannotBeStarted(t *testing.T) {
	s := config.Service{Name: "web", Command: []string{"/no/such/command"}, Restart: config.Never}
	dt := openDaemon(t, newOptions(t, s))
	dt.runs(t)
	log := dt.events.String()
	if !strings.Contains(log, "level=ERROR") || !strings.Contains(log, "service=web") ||
		!strings.Contains(log, `err="no such file or directory"`) {
		t.Errorf("logged: %s", log)
	}
	if state, _, _ := dt.find("web").snapshot(); state != Failed {
		t.Errorf("state %s, want failed", state)
	}
	same(t, "stored", dt.stored(t, "web"), nil)
}

// started waits until a service has said its first line.
func (dt *daemonTest) started(t *testing.T, name string) {
	t.Helper()
	said := make(chan struct{}, 1)
	l := dt.find(name).log
	l.OnCommit(func() {
		if _, next := l.Ring().Bounds(); next > 2 {
			select {
			case said <- struct{}{}:
			default:
			}
		}
	})
	dt.Start()
	select {
	case <-said:
	case <-time.After(patience):
		t.Fatalf("%s says nothing", name)
	}
}

func TestCloseEndsCommands(t *testing.T) {
	dt := openDaemon(t, newOptions(t, shell("web", "trap 'echo bye; exit 0' TERM; echo hi; while :; do :; done")))
	dt.started(t, "web")
	dt.end(t, nil)
	same(t, "stored", dt.stored(t, "web"), []string{"= start run=1", "o hi", "o bye", "= exit code=0"})
}

func TestCloseInAHurryKills(t *testing.T) {
	dt := openDaemon(t, newOptions(t, shell("web", "trap '' TERM; echo hi; while :; do sleep 1000; done")))
	dt.started(t, "web")
	hurry := make(chan struct{})
	close(hurry)
	began := time.Now()
	dt.end(t, hurry)
	if d := time.Since(began); d >= killAfter {
		t.Errorf("ended after %v, want no wait for the command", d)
	}
	same(t, "stored", dt.stored(t, "web"), []string{"= start run=1", "o hi", "= exit signal=KILL"})
}

func TestCloseEndsGrandchildren(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	dt := openDaemon(t, newOptions(t, shell("web", "sleep 1000 & echo $! >"+pidFile+"; echo hi")))
	dt.runs(t)
	text, err := os.ReadFile(pidFile)
	must(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	must(t, err)
	fd, err := unix.PidfdOpen(pid, 0)
	must(t, err)
	defer unix.Close(fd)
	dt.end(t, nil)
	// It has been signalled by now, and becomes readable when it has ended.
	n, err := 0, error(unix.EINTR)
	for err == unix.EINTR {
		n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience.Milliseconds()))
	}
	if n != 1 {
		t.Errorf("the grandchild is alive: poll says %d, %v", n, err)
	}
}

func TestEnvironment(t *testing.T) {
	own := []string{"PATH=/bin", "NOTIFY_SOCKET=x", "LISTEN_FDS=1", "HOME=/root"}
	got := environment(own, config.Service{Dir: "/srv", Env: []string{"A=1"}}, []string{"HOME=/home/u"})
	same(t, "environment", got, []string{"PATH=/bin", "HOME=/root", "HOME=/home/u", "PWD=/srv", "A=1"})
}

func TestRunAs(t *testing.T) {
	if who, err := runAs(""); err != nil || who.credential != nil || who.env != nil {
		t.Errorf("no user: %+v, %v", who, err)
	}
	if _, err := runAs("no-such-user-here"); err == nil || !strings.Contains(err.Error(), "no-such-user-here") {
		t.Errorf("unknown user: %v", err)
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root to become somebody else")
	}
	who, err := runAs("nobody")
	if err != nil || who.credential == nil || who.credential.Uid == 0 || !slices.Contains(who.env, "USER=nobody") {
		t.Errorf("nobody: %+v, %v", who, err)
	}
}

func TestReason(t *testing.T) {
	missingDir := exec.Command("/bin/true")
	missingDir.Dir = "/no/such/dir"
	tests := []struct {
		name string
		cmd  *exec.Cmd
		want string
	}{
		{"not in PATH", exec.Command("no-such-command-here"), "executable file not found in $PATH"},
		{"no such file", exec.Command("/no/such/command"), "no such file or directory"},
		{"not executable", exec.Command("/etc/passwd"), "permission denied"},
		{"no such directory", missingDir, "chdir /no/such/dir: no such file or directory"},
	}
	for _, tt := range tests {
		if err := Reason(tt.cmd.Start()); err == nil || err.Error() != tt.want {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
	other := errors.New("x")
	if Reason(other) != other {
		t.Error("another error is changed")
	}
}

func TestSignalName(t *testing.T) {
	for s, want := range map[syscall.Signal]string{syscall.SIGKILL: "KILL", syscall.Signal(40): "40"} {
		if got := signalName(s); got != want {
			t.Errorf("signal %d: %q, want %q", s, got, want)
		}
	}
}
