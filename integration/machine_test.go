package integration

import (
	"archive/tar"
	"bufio"
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A machine has processes, mounts and files of its own; the files begin as
// those of this machine, and what becomes of them is gone at the test's end.
type machine struct {
	t    *testing.T
	dir  string // for what belongs to the test, outside
	init string // pid, outside
	said logBuffer
}

// startMachine starts a machine whose process 1 is init.
func startMachine(t *testing.T, init ...string) *machine {
	t.Helper()
	needFUSE(t)
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can make a machine")
	}
	m := &machine{t: t, dir: t.TempDir()}
	root := filepath.Join(m.dir, "machine")
	must(t, os.Mkdir(root, 0o755))
	script, err := filepath.Abs(filepath.Join("testdata", "machine", "outer"))
	must(t, err)
	cmd := exec.Command(script, append([]string{root}, init...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	cmd.Stderr = &m.said
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	m.init = strings.TrimSpace(line)
	t.Cleanup(func() {
		if m.init != "" {
			_ = exec.Command("kill", "-KILL", m.init).Run()
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("the machine ended with %v\n%s", err, &m.said)
		}
	})
	if err != nil {
		t.Fatalf("cannot start a machine: %v\n%s", err, &m.said)
	}
	return m
}

// inside is the command line, out here, of one in the machine.
func (m *machine) inside(args ...string) []string {
	return append([]string{"nsenter", "--target", m.init, "--all", "--root", "--wd", "/usr/bin/env"}, args...)
}

// try runs a shell command in the machine to its end.
func (m *machine) try(script string) result {
	m.t.Helper()
	line := m.inside("-i", "HOME=/root", "PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin", "LC_ALL=C.UTF-8", "sh", "-c", script)
	return runCommand(m.t, nil, "/", line[0], line[1:]...)
}

// do is try for a command that must not fail, and returns what it printed.
func (m *machine) do(script string) string {
	m.t.Helper()
	r := m.try(script)
	if r.status != 0 {
		m.t.Fatalf("%q ended with status %d\n%s%s\ninit said:\n%s", script, r.status, r.stdout, r.stderr, &m.said)
	}
	return r.stdout
}

// eventually waits until a command prints what is wanted.
func (m *machine) eventually(script, want string) {
	m.t.Helper()
	var r result
	eventually(m.t, func() string { return script + " to print " + want + "; it prints:\n" + r.stdout + r.stderr },
		func() bool { r = m.try(script); return strings.Contains(r.stdout, want) })
}

// put puts a file or directory of this machine into a directory of that.
func (m *machine) put(from, dir string) {
	m.t.Helper()
	var packed bytes.Buffer
	w := tar.NewWriter(&packed)
	must(m.t, filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := e.Info()
		must(m.t, err)
		header, err := tar.FileInfoHeader(fi, "")
		must(m.t, err)
		header.Name, err = filepath.Rel(filepath.Dir(from), path)
		must(m.t, err)
		must(m.t, w.WriteHeader(header))
		if e.IsDir() {
			return nil
		}
		b, err := os.ReadFile(path)
		must(m.t, err)
		_, err = w.Write(b)
		return err
	}))
	must(m.t, w.Close())
	line := m.inside("sh", "-c", `mkdir -p "$0" && exec tar -x -C "$0"`, dir)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Stdin = &packed
	if said, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("cannot put %s into %s: %v\n%s", from, dir, err, said)
	}
}

// write writes a file of the machine.
func (m *machine) write(path, text string) {
	m.t.Helper()
	from := filepath.Join(m.t.TempDir(), filepath.Base(path))
	must(m.t, os.WriteFile(from, []byte(text), 0o644))
	m.put(from, filepath.Dir(path))
}
