package integration

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// nobody is a user who may do nothing in particular.
const nobody = 65534

// asNobody prepares a home for a user who is not root, with the binary in it,
// and lets everybody use /dev/fuse while the test runs, as udev has it.
func asNobody(t *testing.T) (home string, command func(path string, args ...string) *exec.Cmd) {
	t.Helper()
	needFUSE(t)
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can become another user")
	}
	fi, err := os.Stat("/dev/fuse")
	must(t, err)
	must(t, os.Chmod("/dev/fuse", 0o666))
	t.Cleanup(func() { must(t, os.Chmod("/dev/fuse", fi.Mode().Perm())) })
	home, err = os.MkdirTemp("", "logfs-nobody")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(home)) })
	b, err := os.ReadFile(logfsBin)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(home, "logfs"), b, 0o755))
	for _, dir := range []string{"", "run", "state"} {
		must(t, os.MkdirAll(filepath.Join(home, dir), 0o700))
		must(t, os.Chown(filepath.Join(home, dir), nobody, nobody))
	}
	return home, func(path string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(home, "logfs"), args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		cmd.Dir = home
		cmd.Env = []string{"PATH=" + path, "HOME=" + home, "XDG_RUNTIME_DIR=" + home + "/run", "XDG_STATE_HOME=" + home + "/state"}
		return cmd
	}
}

// startUp starts cmd, logfs up, and returns when it serves; stop ends it.
func startUp(t *testing.T, home, procfile string, cmd *exec.Cmd) (stderr *logBuffer, stop func()) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(home, "Procfile"), []byte(procfile), 0o644))
	ready, w, err := os.Pipe()
	must(t, err)
	defer ready.Close()
	stderr = &logBuffer{}
	cmd.ExtraFiles, cmd.Stderr = []*os.File{w}, stderr
	must(t, cmd.Start())
	w.Close()
	d := daemon{}
	if !d.awaitReady(ready) {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		t.Fatalf("logfs up did not become ready:\n%s", stderr)
	}
	return stderr, func() {
		must(t, cmd.Process.Signal(syscall.SIGTERM))
		if err := cmd.Wait(); err != nil {
			t.Errorf("logfs up ended with %v:\n%s", err, stderr)
		}
		if left := mountsUnder(home); len(left) > 0 {
			t.Errorf("mounts left: %v", left)
		}
	}
}

// A plain user mounts through fusermount3, and nobody else can look in.
func TestPlainUserMounts(t *testing.T) {
	needTools(t, "fusermount3")
	home, command := asNobody(t)
	_, stop := startUp(t, home, "web: echo hello; exec sleep 1000\n", command(os.Getenv("PATH"), "up", "--ready-fd", "3"))
	defer stop()
	current := filepath.Join(home, "run", "logfs", "web", "current")
	cat := command("/bin:/usr/bin")
	cat.Path, cat.Args = "/bin/sh", []string{"sh", "-c", "exec head -n 2 '" + filepath.Dir(current) + "/follow'"}
	out, err := cat.Output()
	if err != nil || !strings.HasSuffix(string(out), "\nhello\n") {
		t.Errorf("head as the user: %q, %v", out, err)
	}
	if _, err := os.ReadFile(current); !os.IsPermission(err) {
		t.Errorf("root reads a plain user's mount: %v, want permission denied", err)
	}
}

// What the README tells a newcomer to paste works for a plain user, too, and for
// nobody beside him.
func TestReadmeTranscriptOfAPlainUser(t *testing.T) {
	needTools(t, "fusermount3")
	home, command := asNobody(t)
	for _, dir := range []string{"", "run", "state"} { // it is the mount and the store that refuse
		must(t, os.Chmod(filepath.Join(home, dir), 0o755))
	}
	procfile, err := os.ReadFile("../Procfile")
	must(t, err)
	_, stop := startUp(t, home, string(procfile), command(os.Getenv("PATH"), "up", "--ready-fd", "3"))
	defer stop()
	d := &daemon{t: t, mount: filepath.Join(home, "run", "logfs"), store: filepath.Join(home, "state", "logfs")}
	he := setting{dir: home, as: &syscall.Credential{Uid: nobody, Gid: nobody}}
	another := setting{as: &syscall.Credential{Uid: somebody, Gid: somebody}}
	for _, c := range transcript(t)[1] {
		d.paste(c, he)
		p := startClient(t, another, "/bin/sh", "-c", d.here(c.line))
		if status := p.wait(); status == 0 || p.output() != "" || !strings.Contains(p.stderr.String(), "Permission denied") {
			t.Errorf("%q of another user ended with status %d, want permission denied\n%s", c.line, status, p.said())
		}
	}
}

// Without fusermount3 there is no mount, but lines are captured all the same.
func TestPlainUserWithoutFusermount(t *testing.T) {
	home, command := asNobody(t)
	empty := filepath.Join(home, "bin")
	must(t, os.Mkdir(empty, 0o755))
	stderr, stop := startUp(t, home, "web: echo hello; read never\n", command(empty, "up", "--ready-fd", "3"))
	file := filepath.Join(home, "state", "logfs", "web", "current")
	eventually(t, func() string { return "hello in " + file }, func() bool {
		b, _ := os.ReadFile(file)
		return strings.Contains(string(b), " o hello\n")
	})
	stop()
	if !strings.Contains(stderr.String(), "fusermount3 is not installed") {
		t.Errorf("the log does not say what is missing:\n%s", stderr)
	}
}

// The readers of a plain user outlive his daemon, too.
func TestPlainUserReadersOutliveTheDaemon(t *testing.T) {
	needTools(t, "fusermount3")
	home, command := asNobody(t)
	must(t, os.MkdirAll(filepath.Join(home, ".config", "logfs"), 0o755))
	must(t, os.WriteFile(filepath.Join(home, ".config", "logfs", "logfs.toml"), []byte(`
[service.web]
command = "i=0; while [ -e go ]; do i=$((i+1)); echo line $i; sleep 0.01; done; sleep 1000"
dir = "`+home+`"
`), 0o644))
	must(t, os.WriteFile(filepath.Join(home, "go"), nil, 0o644))
	mark := "LOGFS_TEST_ID=" + home
	start := func() (*exec.Cmd, *logBuffer) {
		t.Helper()
		cmd := command(os.Getenv("PATH"), "daemon", "--ready-fd", "3")
		cmd.Env = append(cmd.Env, mark)
		ready, w, err := os.Pipe()
		must(t, err)
		defer ready.Close()
		log := &logBuffer{}
		cmd.ExtraFiles, cmd.Stderr = []*os.File{w}, log
		must(t, cmd.Start())
		w.Close()
		if !(&daemon{}).awaitReady(ready) {
			_ = cmd.Process.Kill()
			t.Fatalf("the daemon did not become ready:\n%s", log)
		}
		return cmd, log
	}
	defer (&daemon{t: t, env: mark}).killServices()
	cmd, _ := start()
	cat := command("/bin:/usr/bin")
	cat.Path, cat.Args = "/bin/sh", []string{"sh", "-c", "exec cat run/logfs/web/stdout/follow"}
	out, err := cat.StdoutPipe()
	must(t, err)
	must(t, cat.Start())
	defer time.AfterFunc(2*patience, func() { _ = cat.Process.Kill() }).Stop()
	lines := bufio.NewScanner(out)
	read := func(from, to int) {
		t.Helper()
		for n := from; n <= to; n++ {
			if !lines.Scan() || lines.Text() != fmt.Sprintf("line %d", n) {
				t.Fatalf("line %d: %q, %v", n, lines.Text(), lines.Err())
			}
		}
	}
	read(1, 10)
	var log *logBuffer
	for n := 10; n < 40; n += 10 {
		must(t, cmd.Process.Kill())
		_ = cmd.Wait()
		cmd, log = start()
		read(n+1, n+10)
	}
	must(t, os.Remove(filepath.Join(home, "go")))
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	if err := cmd.Wait(); err != nil {
		t.Errorf("the daemon ended with %v:\n%s", err, log)
	}
	for lines.Scan() {
	}
	if err := cat.Wait(); err != nil {
		t.Errorf("cat ended with %v", err)
	}
	if left := mountsUnder(home); len(left) > 0 {
		t.Errorf("mounts left: %v", left)
	}
	if left := processesWith(mark); len(left) > 0 {
		t.Errorf("processes left: %v", left)
	}
}
