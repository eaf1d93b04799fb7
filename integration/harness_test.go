package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long anything may take that should happen at once. It is
// long because the machine is shared, and only ever waited out by a failure.
var patience = 20 * time.Second

func init() {
	if raceBuild {
		patience = 60 * time.Second
	}
}

// A daemon is one logfs daemon, its mount and its store.
type daemon struct {
	t                        testing.TB
	dir                      string // parent of all below
	mount, store, sock, conf string
	env                      string // marks the daemon's descendants
	zone                     string // TZ, if not that of the test
	cmd                      *exec.Cmd
	log                      *logBuffer
	mayLog                   []*regexp.Regexp
	disks                    []string // mounts that are not the daemon's
	exited                   chan struct{}
}

var daemons atomic.Int64

// newDaemon prepares directories and a configuration, and starts nothing.
func newDaemon(t testing.TB, conf string) *daemon {
	t.Helper()
	needFUSE(t)
	n := daemons.Add(1)
	dir := fmt.Sprintf("%s%d", testRoot(), n)
	d := &daemon{
		t: t, dir: dir,
		mount: filepath.Join(dir, "m"), store: filepath.Join(dir, "store"),
		sock: filepath.Join(dir, "sock"), conf: filepath.Join(dir, "logfs.toml"),
		env: fmt.Sprintf("LOGFS_TEST_ID=%d.%d", os.Getpid(), n),
	}
	must(t, os.MkdirAll(d.mount, 0o755))
	must(t, os.WriteFile(d.conf, []byte(conf), 0o644))
	t.Cleanup(d.cleanup)
	return d
}

// startDaemon starts a daemon and returns when its mount serves.
func startDaemon(t testing.TB, conf string) *daemon {
	t.Helper()
	d := newDaemon(t, conf)
	d.start()
	return d
}

// start starts the daemon and waits until it says that it is ready.
func (d *daemon) start() {
	d.t.Helper()
	d.startWith(d.daemonArgs()...)
}

func (d *daemon) daemonArgs() []string {
	return []string{"daemon", "--config", d.conf, "--mount", d.mount,
		"--store", d.store, "--socket", d.sock}
}

// startWith runs logfs with args and --ready-fd, and waits for readiness.
func (d *daemon) startWith(args ...string) {
	d.t.Helper()
	if !d.launch(nil, args...) {
		d.kill()
		d.t.Fatalf("daemon did not become ready, its log:\n%s", d.log)
	}
}

// launch runs logfs with args and --ready-fd, by way of the command tracer if
// there is one, and says whether it has become ready.
func (d *daemon) launch(tracer []string, args ...string) bool {
	t := d.t
	t.Helper()
	ready, w, err := os.Pipe()
	must(t, err)
	defer ready.Close()
	argv := slices.Concat(tracer, []string{logfsBin, args[0], "--ready-fd", "3"}, args[1:])
	d.cmd = exec.Command(argv[0], argv[1:]...)
	d.cmd.Env = append(os.Environ(), d.env)
	if d.zone != "" {
		d.cmd.Env = append(d.cmd.Env, "TZ="+d.zone)
	}
	d.cmd.Dir = d.dir
	d.cmd.ExtraFiles = []*os.File{w}
	d.log = &logBuffer{}
	d.cmd.Stderr = d.log
	must(t, d.cmd.Start())
	w.Close()
	d.exited = ended(d.cmd)
	if tracer != nil { // which keeps it open
		_ = ready.SetReadDeadline(time.Now().Add(patience))
		n, err := ready.Read(make([]byte, 1))
		return n == 1 && err == nil
	}
	return d.awaitReady(ready)
}

func (d *daemon) awaitReady(ready *os.File) bool {
	_ = ready.SetReadDeadline(time.Now().Add(patience))
	b, err := io.ReadAll(ready)
	return err == nil && string(b) == "\n"
}

func (d *daemon) pid() int { return d.cmd.Process.Pid }

func (d *daemon) path(elem ...string) string {
	return filepath.Join(append([]string{d.mount}, elem...)...)
}

// expectLog allows warnings and errors that match in the daemon's log.
func (d *daemon) expectLog(pattern string) {
	d.mayLog = append(d.mayLog, regexp.MustCompile(pattern))
}

// stop ends the daemon with TERM and checks what an orderly end leaves:
// status 0, no mount, no descendant, no unexpected warning.
func (d *daemon) stop() {
	d.t.Helper()
	must(d.t, d.cmd.Process.Signal(syscall.SIGTERM))
	d.awaitExit()
	d.checkEnd()
}

// awaitExit waits for the daemon's end and forces it after patience.
func (d *daemon) awaitExit() {
	d.t.Helper()
	select {
	case <-d.exited:
	case <-time.After(patience):
		_ = d.cmd.Process.Signal(syscall.SIGQUIT)
		select {
		case <-d.exited:
		case <-time.After(5 * time.Second):
			d.kill()
		}
		d.t.Fatalf("daemon did not end, its log:\n%s", d.log)
	}
}

func (d *daemon) checkEnd() {
	d.t.Helper()
	if code := d.cmd.ProcessState.ExitCode(); code != 0 {
		d.t.Errorf("daemon ended with %v, want status 0; its log:\n%s", d.cmd.ProcessState, d.log)
	}
	m := slices.DeleteFunc(mountsUnder(d.dir), func(dir string) bool { return slices.Contains(d.disks, dir) })
	if len(m) != 0 {
		d.t.Errorf("mounts left after the daemon's end: %q", m)
	}
	if c := processesWith(d.env); len(c) != 0 {
		d.t.Errorf("processes left after the daemon's end: %q", c)
	}
	d.checkLog()
}

// checkLog fails the test for warnings and errors it did not announce.
func (d *daemon) checkLog() {
	d.t.Helper()
	for line := range strings.Lines(d.log.String()) {
		if d.unexpected(line) {
			d.t.Errorf("daemon logged: %s", line)
		}
	}
}

func (d *daemon) unexpected(line string) bool {
	bad := strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR") ||
		strings.Contains(line, "DATA RACE") || strings.HasPrefix(line, "panic:")
	for _, re := range d.mayLog {
		bad = bad && !re.MatchString(line)
	}
	return bad
}

// kill ends the daemon with SIGKILL and waits for it.
func (d *daemon) kill() {
	d.t.Helper()
	_ = d.cmd.Process.Kill()
	select {
	case <-d.exited:
	case <-time.After(patience):
		d.t.Errorf("daemon %d survived SIGKILL for %v", d.pid(), patience)
	}
}

// running says whether the daemon was started and has not ended.
func (d *daemon) running() bool {
	if d.cmd == nil {
		return false
	}
	select {
	case <-d.exited:
		return false
	default:
		return true
	}
}

// cleanup stops a daemon that still runs, with all checks, and removes what a
// failed test left behind.
func (d *daemon) cleanup() {
	if d.running() {
		d.stop()
	}
	if d.t.Failed() && d.log != nil {
		d.t.Logf("log of the last daemon of this test:\n%s", d.log)
	}
	d.killServices()
	for _, m := range mountsUnder(d.dir) {
		if err := unix.Unmount(m, unix.MNT_DETACH); err != nil {
			_ = exec.Command("fusermount3", "-u", "-z", m).Run()
		}
	}
	must(d.t, os.RemoveAll(d.dir))
}

// mountsUnder lists the mount points in and under dir.
func mountsUnder(dir string) (found []string) {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return []string{err.Error()}
	}
	for line := range strings.Lines(string(info)) {
		f := strings.Fields(line)
		if len(f) > 4 && (f[4] == dir || strings.HasPrefix(f[4], dir+"/")) {
			found = append(found, f[4])
		}
	}
	return found
}

// processesWith lists the live processes whose environment holds entry.
func processesWith(entry string) (found []string) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		env, _ := os.ReadFile(dir + "/environ")
		for e := range bytes.SplitSeq(env, []byte{0}) {
			if string(e) == entry {
				cmdline, _ := os.ReadFile(dir + "/cmdline")
				found = append(found, filepath.Base(dir)+" "+
					string(bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '})))
			}
		}
	}
	return found
}

// logfs runs the binary to its end against the daemon's socket.
func (d *daemon) logfs(args ...string) result {
	d.t.Helper()
	return runLogfs(d.t, []string{"LOGFS_SOCKET=" + d.sock}, d.dir, args...)
}

// A result is what one finished command left.
type result struct {
	stdout, stderr string
	status         int
}

// runLogfs runs the binary to its end, within patience.
func runLogfs(t testing.TB, env []string, dir string, args ...string) result {
	t.Helper()
	return runCommand(t, env, dir, logfsBin, args...)
}

func runCommand(t testing.TB, env []string, dir, name string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Env, cmd.Dir = append(os.Environ(), env...), dir
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("%s %q did not end within %v\nstdout: %s\nstderr: %s",
			name, args, patience, &stdout, &stderr)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("cannot run %s %q: %v", name, args, err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// A logBuffer collects output while the process still writes it.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// ended is closed when the command, which has been started, has ended.
func ended(cmd *exec.Cmd) chan struct{} {
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	return done
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for a state that the system reports only when asked, such
// as the position of another process in a file.
func eventually(t testing.TB, what func() string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("gave up after %v waiting for %s", patience, what())
		}
	}
}
