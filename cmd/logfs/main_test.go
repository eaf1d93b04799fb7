package main

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"logfs/cmd/logfs/internal/config"
	"logfs/cmd/logfs/internal/daemon"
	"logfs/cmd/logfs/internal/exit"
	"logfs/fs"
)

const patience = 30 * time.Second

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// logfs runs a command line within this process.
func logfs(args ...string) (status int, stdout, stderr string) {
	var out, err bytes.Buffer
	status = run(args, &out, &err)
	return status, out.String(), err.String()
}

// output collects what is printed while it is still being printed.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func noFUSE(fs.Options) (daemon.Tree, error) { return nil, fs.ErrNoFUSE }

// options are those of a daemon without a mount, in a directory of the test's.
func options(t *testing.T, log io.Writer) daemon.Options {
	t.Helper()
	dir := t.TempDir()
	cfg := config.Default()
	cfg.Mount, cfg.Store, cfg.Socket = filepath.Join(dir, "m"), filepath.Join(dir, "store"), filepath.Join(dir, "sock")
	must(t, os.Mkdir(cfg.Mount, 0o755))
	return daemon.Options{Config: cfg, Mount: noFUSE, Log: slog.New(slog.NewTextHandler(log, nil))}
}

// startDaemon starts one and returns its socket and store.
func startDaemon(t *testing.T) (socket, store string) {
	t.Helper()
	o := options(t, io.Discard)
	d, err := daemon.Open(o)
	must(t, err)
	t.Cleanup(func() { must(t, d.Close(nil)) })
	return o.Config.Socket, o.Config.Store
}

// stored returns the lines of a log, their stamps taken off.
func stored(t *testing.T, store, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(store, name, "current"))
	must(t, err)
	var lines []string
	for line := range strings.Lines(string(b)) {
		if _, text, _ := strings.Cut(line, " "); !strings.HasPrefix(text, "= logfs ") {
			text, _, _ = strings.Cut(strings.TrimSpace(text), " after=")
			text, _, _ = strings.Cut(text, " pid=")
			lines = append(lines, text)
		}
	}
	return strings.Join(lines, "; ")
}

func TestMistakes(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	must(t, os.MkdirAll(at("m"), 0o755))
	must(t, os.WriteFile(at("Procfile"), []byte("web: true\n"), 0o644))
	must(t, os.WriteFile(at("bad.Procfile"), []byte("web true\n"), 0o644))
	must(t, os.WriteFile(at("bad.toml"), []byte("[service.web]\nsise = 1\n"), 0o644))
	t.Setenv(socketVariable, at("none"))
	live, _ := startDaemon(t)
	tests := []struct {
		line string // words; @ is dir, # the socket of a daemon
		want int
		say  string
	}{
		{"explode", 100, `unknown command "explode": want one of daemon, up, run`},
		{"--explode", 100, "unknown flag: --explode"},
		{"help explode", 100, `unknown command "explode"`},
		{"daemon --explode", 100, "unknown flag: --explode; see logfs help daemon"},
		{"daemon x", 100, `unexpected argument "x"`},
		{"daemon --config @/none.toml", 100, "none.toml"},
		{"daemon --config @/bad.toml", 100, "bad.toml:2: "},
		{"daemon --config @/m", 111, "is a directory"},
		{"daemon --ready-fd 999 --mount @/m --store @/s --socket @/sock", 100, "--ready-fd 999"},
		{"daemon --ready-fd x", 100, "--ready-fd"},
		{"daemon --mount @/none --store @/s --socket @/sock", 100, `mount point "` + at("none") + `" does not exist`},
		{"daemon --mount @/m --store @/m/s --socket @/sock", 100, "overlap"},
		{"daemon --mount @/m --store @/s --socket #", 111, "in use: a daemon listens on it"},
		{"daemon --mount @/m --store @/s --socket @/" + strings.Repeat("s", 108), 100, "too long: at most 107 bytes"},
		{"up -f @/none", 100, "cannot read"},
		{"up -f @/bad.Procfile", 100, "bad.Procfile:1: "},
		{"up -f @/Procfile --mount @/bad.toml --store @/s", 100, "is no directory"},
		{"up -f @/Procfile x", 100, `unexpected argument "x"`},
		{"run", 100, "want logfs run NAME -- COMMAND..."},
		{"run web", 100, "want logfs run NAME -- COMMAND..."},
		{"run web true", 100, "want logfs run NAME -- COMMAND..."},
		{"run web --", 100, "want logfs run NAME -- COMMAND..."},
		{"run web db -- true", 100, "want logfs run NAME -- COMMAND..."},
		{"run ../etc -- true", 100, `cannot use name "../etc"`},
		{"run all -- true", 100, "it is reserved"},
		{"run web -- true", 111, `no daemon listens on "` + at("none") + `": start one with logfs daemon`},
		{"run --socket # web -- @/none", 111, `cannot start "` + at("none") + `": no such file or directory`},
		{"run --socket # web -- no-such-command", 111, `cannot start "no-such-command": executable file not found`},
		{"run --store @/s web -- true", 100, "--store is for use with --mount"},
		{"run --mount @/m --socket # web -- true", 100, "exclude each other"},
		{"run --mount @/none --store @/s web -- true", 100, "does not exist"},
		{"pipe", 100, "want logfs pipe NAME"},
		{"pipe web db", 100, "want logfs pipe NAME"},
		{"pipe web", 111, "no daemon listens"},
		{"rotate", 111, "no daemon listens"},
		{"rotate a/b", 100, "cannot use name"},
		{"rotate --socket # none", 100, `no service "none"`},
		{"flush --socket @/Procfile", 111, "no daemon listens"},
		{"status --socket @/none", 111, "no daemon listens"},
		{"status x", 100, `unexpected argument "x"`},
		{"check --config @/bad.toml", 100, "bad.toml:2: "},
		{"check x", 100, `unexpected argument "x"`},
		{"unmount", 100, "want logfs unmount DIR"},
		{"unmount @/m", 100, "nothing to unmount"},
	}
	for _, tt := range tests {
		line := strings.NewReplacer("@", dir, "#", live).Replace(tt.line)
		status, stdout, stderr := logfs(strings.Fields(line)...)
		if status != tt.want || !strings.Contains(stderr, tt.say) {
			t.Errorf("logfs %s\nstatus %d, stderr %q\nwant %d and %q", tt.line, status, stderr, tt.want, tt.say)
		}
		if stdout != "" || !strings.HasPrefix(stderr, "logfs: ") || strings.Count(stderr, "\n") != 1 {
			t.Errorf("logfs %s: want one line on stderr and nothing else: %q, %q", tt.line, stderr, stdout)
		}
	}
	if _, err := os.Stat(at("s")); err == nil {
		entries, _ := os.ReadDir(at("s"))
		for _, e := range entries {
			if e.Name() != ".lock" {
				t.Errorf("a mistake has left %s in the store", e.Name())
			}
		}
	}
}

func TestHelp(t *testing.T) {
	_, whole, _ := logfs("--help")
	for _, args := range [][]string{nil, {"-h"}, {"help"}} {
		if status, stdout, stderr := logfs(args...); status != 0 || stdout != whole || stderr != "" {
			t.Errorf("logfs %v: status %d, %q, %q", args, status, stdout, stderr)
		}
	}
	for _, cmd := range commands() {
		if !strings.Contains(whole, "logfs "+cmd.name+" ") {
			t.Errorf("%s is not in the overview", cmd.name)
		}
		_, text, _ := logfs("help", cmd.name)
		status, again, stderr := logfs(cmd.name, "--help")
		if status != 0 || again != text || stderr != "" || !strings.Contains(text, "\nExamples:\n  ") {
			t.Errorf("help of %s: status %d, stderr %q:\n%s", cmd.name, status, stderr, text)
		}
		flags, _ := cmd.flags()
		flags.VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" || !strings.Contains(text, "--"+f.Name) {
				t.Errorf("%s: no help for --%s", cmd.name, f.Name)
			}
		})
		for line := range strings.Lines(text) {
			text, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " (default ")
			if len(text) > 110 {
				t.Errorf("%s: a line of %d bytes: %s", cmd.name, len(text), text)
			}
		}
	}
}

func TestVersion(t *testing.T) {
	if status, stdout, _ := logfs("--version"); status != 0 || !strings.HasPrefix(stdout, "logfs ") || strings.Count(stdout, "\n") != 1 {
		t.Errorf("status %d, %q", status, stdout)
	}
}

func TestCheck(t *testing.T) {
	path := filepath.Join(t.TempDir(), "logfs.toml")
	must(t, os.WriteFile(path, []byte("[service.web]\n"), 0o644))
	status, stdout, stderr := logfs("check", "--config", path)
	if want := path + ": 1 service, no mistakes\n"; status != 0 || stdout != want || stderr != "" {
		t.Errorf("status %d, %q, %q, want %q", status, stdout, stderr, want)
	}
}

func TestRun(t *testing.T) {
	socket, store := startDaemon(t)
	tests := []struct {
		name, script string
		status       int
		stored       string
	}{
		{"ok", "echo out", 0, "= start run=1; o out; = exit code=0"},
		{"code", "echo err >&2; exit 7", 7, "= start run=1; e err; = exit code=7"},
		{"signal", "kill -KILL $$", 137, "= start run=1; = exit signal=KILL"},
		{"forwards", "trap 'echo got TERM; exit 9' TERM; kill -TERM $PPID; while :; do :; done", 9,
			"= start run=1; o got TERM; = exit code=9"},
	}
	for _, tt := range tests {
		status, stdout, stderr := logfs("run", "--socket", socket, tt.name, "--", "/bin/sh", "-c", tt.script)
		if status != tt.status || stdout+stderr != "" {
			t.Errorf("%s: status %d, %q, %q, want %d and silence", tt.name, status, stdout, stderr, tt.status)
		}
		if got := stored(t, store, tt.name); got != tt.stored {
			t.Errorf("%s: stored %q, want %q", tt.name, got, tt.stored)
		}
	}
}

func TestRunOutlivesTheDaemon(t *testing.T) {
	o := options(t, io.Discard)
	d, err := daemon.Open(o)
	must(t, err)
	gate := filepath.Join(t.TempDir(), "gate") // what the command waits for
	must(t, unix.Mkfifo(gate, 0o600))
	w, err := os.OpenFile(gate, os.O_RDWR, 0)
	must(t, err)
	defer w.Close()
	cmd := "echo started; printf unfinished; read x <" + gate + "; echo line; exit 5"
	var stderr output
	ended := make(chan int, 1)
	go func() {
		ended <- run([]string{"run", "--socket", o.Config.Socket, "web", "--", "/bin/sh", "-c", cmd}, io.Discard, &stderr)
	}()
	awaitText(t, func() string { return statusOfAll(d) }, "web running")
	awaitText(t, func() string { return stored(t, o.Config.Store, "web") }, "o started")
	must(t, d.Close(nil))
	_, err = w.WriteString("go\n")
	must(t, err)
	d, err = daemon.Open(o)
	must(t, err)
	if status := receive(t, ended); status != 5 || stderr.String() != "" {
		t.Errorf("status %d, %q, want that of the command and silence", status, stderr.String())
	}
	must(t, d.Close(nil))
	want := "= start run=1; o started; o unfinishedline; = exit code=5"
	if got := stored(t, o.Config.Store, "web"); got != want {
		t.Errorf("stored %q, want %q", got, want)
	}
}

func statusOfAll(d *daemon.Daemon) string {
	var b strings.Builder
	d.Status(&b)
	return b.String()
}

// awaitText looks again until text appears; what says when is elsewhere.
func awaitText(t *testing.T, read func() string, text string) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(patience); !strings.Contains(read(), text); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%q does not appear in %q", text, read())
		}
	}
}

func receive[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatal("nothing comes")
	}
	return v
}

func TestPipe(t *testing.T) {
	socket, store := startDaemon(t)
	p := places{socket: socket}
	c := &console{io.Discard, io.Discard}
	r, w, err := os.Pipe()
	must(t, err)
	_, err = w.WriteString("a\nb\n")
	must(t, err)
	w.Close()
	must(t, runPipe(c, p, "eof", r))
	if got, want := stored(t, store, "eof"), "= start run=1; o a; o b; = exit"; got != want {
		t.Errorf("stored %q, want %q", got, want)
	}
}

func TestPipeEndsAtTERM(t *testing.T) {
	o := options(t, io.Discard)
	d, err := daemon.Open(o)
	must(t, err)
	defer d.Close(nil)
	r, w, err := os.Pipe()
	must(t, err)
	defer w.Close()
	_, err = w.WriteString("before\n")
	must(t, err)
	ended := make(chan error, 1)
	go func() {
		ended <- runPipe(&console{io.Discard, io.Discard}, places{socket: o.Config.Socket}, "web", r)
	}()
	awaitText(t, func() string { return statusOfAll(d) }, "web running")
	must(t, unix.Kill(os.Getpid(), unix.SIGTERM)) // caught since before the run began
	must(t, receive(t, ended))
	if got, want := stored(t, o.Config.Store, "web"), "= start run=1; o before; = exit"; got != want {
		t.Errorf("stored %q, want %q", got, want)
	}
}

func TestAdmin(t *testing.T) {
	socket, store := startDaemon(t)
	t.Setenv(socketVariable, socket)
	logfs("run", "web", "--", "/bin/echo", "x")
	for _, line := range []string{"flush", "flush web", "rotate web", "rotate"} {
		if status, stdout, stderr := logfs(strings.Fields(line)...); status != 0 || stdout+stderr != "" {
			t.Errorf("logfs %s: status %d, %q, %q", line, status, stdout, stderr)
		}
	}
	if archives, _ := filepath.Glob(filepath.Join(store, "web", "@*.s")); len(archives) != 1 {
		t.Errorf("archives %q, want one", archives)
	}
	if status, _, stderr := logfs("leave"); status != exit.Misuse || !strings.Contains(stderr, "holds everything itself") {
		t.Errorf("logfs leave: status %d, %q", status, stderr)
	}
	status, stdout, _ := logfs("status")
	if fields := strings.Fields(stdout); status != 0 || len(fields) != 28 || fields[0] != "NAME" || fields[14] != "web" || fields[15] != "exited" {
		t.Errorf("status %d:\n%s", status, stdout)
	}
}

func TestServe(t *testing.T) {
	var log output
	r, w, err := os.Pipe()
	must(t, err)
	notified := listenNotify(t)
	ready, err := unix.Dup(int(w.Fd())) // serve closes it
	must(t, err)
	w.Close()
	s := serving{options: options(t, &log), ready: readiness{ready}}
	ended := make(chan error, 1)
	go func() { ended <- s.serve() }()
	if b, err := io.ReadAll(r); string(b) != "\n" || err != nil {
		t.Errorf("readiness: %q, %v", b, err)
	}
	if got := receive(t, notified); got != "READY=1" {
		t.Errorf("notified %q", got)
	}
	must(t, unix.Kill(os.Getpid(), unix.SIGTERM))
	must(t, receive(t, ended))
	if got := receive(t, notified); got != "STOPPING=1" {
		t.Errorf("notified %q", got)
	}
	if _, err := os.Stat(s.options.Config.Socket); err == nil {
		t.Error("the socket is still there")
	}
}

// listenNotify is a service manager.
func listenNotify(t *testing.T) <-chan string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	must(t, err)
	t.Cleanup(func() { c.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	said := make(chan string, 4)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			said <- string(buf[:n])
		}
	}()
	return said
}

func TestSignalsOfTheDaemon(t *testing.T) {
	var log output
	s := serving{options: options(t, &log), received: make(chan os.Signal, 8)}
	d, err := daemon.Open(s.options)
	must(t, err)
	defer d.Close(nil)
	logfs("run", "--socket", s.options.Config.Socket, "web", "--", "/bin/echo", "x")
	loading, loaded := make(chan struct{}), make(chan struct{})
	s.reload = func() (config.Config, error) {
		loading <- struct{}{}
		<-loaded
		return config.Config{}, errors.New("not to be had")
	}
	ended := make(chan struct{})
	go func() { s.untilEnd(d); close(ended) }()
	s.received <- unix.SIGHUP
	receive(t, loading)
	// One that comes meanwhile is not lost.
	for _, sig := range []os.Signal{unix.SIGHUP, unix.SIGALRM, unix.SIGHUP, unix.SIGUSR1} {
		s.received <- sig
	}
	loaded <- struct{}{}
	receive(t, loading)
	loaded <- struct{}{}
	s.received <- unix.SIGTERM
	receive(t, ended)
	if archives, _ := filepath.Glob(filepath.Join(s.options.Config.Store, "web", "@*.s")); len(archives) != 1 {
		t.Errorf("archives after ALRM %q, want one", archives)
	}
	s.reload = nil
	s.received <- unix.SIGHUP
	s.untilEnd(d)
	hurry := s.hurry()
	s.received <- unix.SIGALRM
	s.received <- unix.SIGINT
	receive(t, hurry)
}

func TestGreet(t *testing.T) {
	cfg := config.Config{Mount: "/m", Store: "/s", Services: []config.Service{{Name: "db"}, {Name: "web"}}}
	for _, tt := range []struct {
		mounted bool
		want    string
	}{
		{true, "logfs: 2 services on /m; try: tail -f /m/db/follow\n"},
		{false, "logfs: 2 services on /s; try: tail -f /s/db/current\n"},
	} {
		var b bytes.Buffer
		greet(&console{io.Discard, &b}, cfg, tt.mounted)
		if b.String() != tt.want {
			t.Errorf("%q, want %q", &b, tt.want)
		}
	}
}

func TestClientSocket(t *testing.T) {
	conf := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", conf)
	t.Setenv(socketVariable, "/env")
	if got := (&places{socket: "/flag"}).clientSocket(); got != "/flag" {
		t.Errorf("with a flag: %q", got)
	}
	if got := (&places{}).clientSocket(); got != "/env" {
		t.Errorf("with the variable: %q", got)
	}
	t.Setenv(socketVariable, "")
	if got := (&places{}).clientSocket(); got != config.Default().Socket {
		t.Errorf("without: %q", got)
	}
}

func TestExitStatusOfErrors(t *testing.T) {
	if _, err := checked(config.Config{}, os.ErrInvalid); exit.Status(err) != exit.Misuse {
		t.Errorf("a mistake in the file: %d", exit.Status(err))
	}
	_, err := os.Open("/proc/self/mem/x")
	if _, err := checked(config.Config{}, err); exit.Status(err) != exit.Refused {
		t.Errorf("a file that cannot be read: %d", exit.Status(err))
	}
}

func TestVerify(t *testing.T) {
	o := options(t, &output{})
	d, err := daemon.Open(o)
	must(t, err)
	logfs("run", "--socket", o.Config.Socket, "web", "--", "/bin/echo", "x")
	must(t, d.Close(nil))
	logdir := filepath.Join(o.Config.Store, "web")
	if status, out, said := logfs("verify", logdir); status != exit.OK || out+said != "" {
		t.Errorf("verify of a sound logdir: %d, %q, %q", status, out, said)
	}
	f, err := os.OpenFile(filepath.Join(logdir, "current"), os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	_, err = f.WriteString("@4000")
	must(t, errors.Join(err, f.Close(), os.WriteFile(filepath.Join(logdir, "a\nb"), nil, 0o600)))
	status, out, said := logfs("verify", logdir)
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if status != exit.Found || said != "" || len(lines) != 2 ||
		!strings.HasPrefix(lines[0], logdir+"/current:5: ") || !strings.Contains(lines[1], `a\nb": `) {
		t.Errorf("verify of a torn line and a stranger: %d, %q, %q", status, out, said)
	}
	status, out, said = logfs("verify", filepath.Join(logdir, "none"), logdir)
	if status != exit.Refused || strings.Count(said, "\n") != 1 || strings.Count(out, "\n") != 2 {
		t.Errorf("verify of what is not there, and of another: %d, %q, %q", status, out, said)
	}
	if status, _, said := logfs("verify"); status != exit.Misuse || !strings.Contains(said, "DIR") {
		t.Errorf("verify of nothing: %d, %q", status, said)
	}
}
