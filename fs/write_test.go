package fs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"logfs/ring"
)

type gate struct{ opened chan struct{} }

func shut(g *atomic.Pointer[gate]) (open func()) {
	opened := make(chan struct{})
	g.Store(&gate{opened})
	return func() { close(opened) }
}

// A fakeSink notes what is asked of it.
type fakeSink struct {
	heard chan string          // each thing that is asked
	full  atomic.Pointer[gate] // while not nil, writes wait until it is closed
	stuck atomic.Pointer[gate] // likewise, for the disk: the text is taken
	err   atomic.Int32
}

func (f *fakeSink) note(format string, args ...any) error {
	f.heard <- fmt.Sprintf(format, args...)
	if errno := f.err.Load(); errno != 0 {
		return syscall.Errno(errno)
	}
	return nil
}

func (f *fakeSink) Open(o Opening) (Writer, error) {
	if o.Pid == 0 {
		return nil, errors.New("nobody opens")
	}
	return &fakeWriter{f}, f.note("open stderr=%v append=%v uid=%d", o.Stderr, o.Append, o.Uid)
}
func (f *fakeSink) Rotate() error { return f.note("rotate") }
func (f *fakeSink) Sync() error   { return f.note("sync") }
func (f *fakeSink) SetAccess(a Access) error {
	said := "access"
	for _, v := range []struct {
		name string
		to   *uint32
	}{{"uid", a.Uid}, {"gid", a.Gid}, {"mode", a.Mode}} {
		if v.to != nil {
			said += fmt.Sprintf(" %s=%o", v.name, *v.to)
		}
	}
	return f.note("%s", said)
}

type fakeWriter struct{ f *fakeSink }

func (w *fakeWriter) TryWrite(text []byte, stored func()) (bool, error) {
	if w.f.full.Load() != nil {
		return false, nil
	}
	said := string(text)
	if g := w.f.stuck.Load(); g != nil {
		stored()
		<-g.opened
	}
	return true, w.f.note("write %q", said)
}

func (w *fakeWriter) Write(ctx context.Context, text []byte, _ func()) error {
	_ = w.f.note("waits")
	select {
	case <-w.f.full.Load().opened:
		return w.f.note("write %q", text)
	case <-ctx.Done():
		_ = w.f.note("interrupted")
		return syscall.EINTR
	}
}

func (w *fakeWriter) Close() { _ = w.f.note("close") }

// writable is a mount with a service that can be written.
func writable(t *testing.T) (*mounted, *fakeSink) {
	t.Helper()
	f := &fakeSink{heard: make(chan string, 1000)}
	m := mountService(t, Options{}, Service{Ring: ring.New(ring.Limits{}), Sink: f})
	return m, f
}

func (f *fakeSink) expect(t *testing.T, want ...string) {
	t.Helper()
	for _, w := range want {
		if got := <-f.heard; got != w {
			t.Errorf("the sink was asked to %q, want %q", got, w)
		}
	}
}

// sh runs a shell command in the directory of the service. The shell goes there
// itself: until it is executed, this process may be waiting for it.
func (m *mounted) sh(script string) (string, error) {
	out, err := exec.Command("sh", "-c", "cd "+m.dir+"; LC_ALL=C; export LC_ALL; "+script).CombinedOutput()
	return string(out), err
}

func TestWrites(t *testing.T) {
	m, f := writable(t)
	for _, tt := range []struct {
		script string
		want   []string
	}{
		{"echo a >>current", []string{"open stderr=false append=true uid=0", `write "a\n"`, "close"}},
		{"echo a >>stdout/current", []string{"open stderr=false append=true uid=0", `write "a\n"`, "close"}},
		{"echo a >>stderr/current", []string{"open stderr=true append=true uid=0", `write "a\n"`, "close"}},
		{"echo a >current", []string{"open stderr=false append=false uid=0", "rotate", `write "a\n"`, "close"}},
		{": >current", []string{"open stderr=false append=false uid=0", "rotate", "close"}},
		{"truncate -s 0 current", []string{"open stderr=false append=false uid=0", "rotate", "close"}},
		{"touch current", []string{"open stderr=false append=false uid=0", "close"}},
		{"echo a 1<>current", []string{"open stderr=false append=false uid=0", `write "a\n"`, "close"}},
		{"echo ab | dd of=current conv=notrunc,fsync bs=1 seek=5000 2>/dev/null",
			[]string{"open stderr=false append=false uid=0", `write "a"`, `write "b"`, `write "\n"`, "sync", "close"}},
		{"exec 3>>current; (echo child >&3); echo parent >&3", // one open file: one close
			[]string{"open stderr=false append=true uid=0", `write "child\n"`, `write "parent\n"`, "close"}},
		{"chmod 700 .", []string{"access mode=700"}},
		{"chown 1:2 .", []string{"access uid=1 gid=2"}},
		{"chgrp 3 .", []string{"access gid=3"}},
	} {
		if out, err := m.sh(tt.script); err != nil {
			t.Errorf("%s: %v\n%s", tt.script, err, out)
			continue
		}
		t.Run(tt.script, func(t *testing.T) { f.expect(t, tt.want...) })
	}
}

func TestRefusedWrites(t *testing.T) {
	m, f := writable(t)
	for script, want := range map[string]string{
		"echo a >>follow": "Permission denied", "echo a >>seq": "Permission denied", "echo a >>../status": "Permission denied",
		"rm current": "not permitted", "rmdir stdout": "not permitted", "mkdir x": "not permitted", "echo >x": "not permitted",
		"mv current x": "not permitted", "mv ../web ../x": "not permitted", "ln current x": "not permitted",
		"chmod 600 current": "not permitted", "chmod 4755 .": "Invalid argument", "chmod 700 stdout": "not permitted",
		"touch follow": "Permission denied", "rmdir ../web": "not permitted", "mkdir ../x": "not permitted",
	} {
		if out, err := m.sh(script); err == nil || !strings.Contains(out, want) {
			t.Errorf("%s: %v, %q, want %q", script, err, out, want)
		}
	}
	if len(f.heard) > 0 {
		t.Errorf("the sink was asked to %q", <-f.heard)
	}
	f.err.Store(int32(syscall.ENOSPC))
	if out, _ := m.sh("chmod 700 ."); !strings.Contains(out, "No space left") {
		t.Errorf("the error of the sink became %q", out)
	}
}

// More writes wait than there are loops, and everything else is answered.
func TestWritesThatWait(t *testing.T) {
	m, f := writable(t)
	open := shut(&f.full)
	var echoes []*exec.Cmd
	for range 2 * loops {
		echo := exec.Command("sh", "-c", "echo a >>"+m.path("current"))
		if err := echo.Start(); err != nil {
			t.Fatal(err)
		}
		echoes = append(echoes, echo)
		f.expect(t, "open stderr=false append=true uid=0", "waits")
	}
	m.say("o read meanwhile")
	if got := m.cat("current"); got != "read meanwhile\n" {
		t.Errorf("current is %q", got)
	}
	// A signal that does nothing ends no write, one that kills does.
	echoes[0].Process.Signal(syscall.SIGWINCH)
	echoes[1].Process.Kill()
	f.expect(t, "interrupted", "close")
	echoes[1].Wait()
	open()
	for i, echo := range echoes {
		if err := echo.Wait(); i != 1 && err != nil {
			t.Errorf("echo: %v", err)
		}
	}
}

// Writes that are stuck in the disk are answered, and as many loops read
// requests as before.
func TestWritesWhileTheDiskIsStuck(t *testing.T) {
	m, f := writable(t)
	open := shut(&f.stuck)
	for range 2 * loops {
		if out, err := m.sh("echo a >>current"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		f.expect(t, "open stderr=false append=true uid=0", "close")
	}
	m.say("o read meanwhile")
	if got := m.cat("current"); got != "read meanwhile\n" {
		t.Errorf("current is %q", got)
	}
	open()
	for range 2 * loops {
		f.expect(t, `write "a\n"`)
	}
}

// What is open when the mount goes away is closed, and writing fails.
func TestWriterOutlivesTheMount(t *testing.T) {
	m, f := writable(t)
	fd, err := syscall.Open(m.path("current"), syscall.O_WRONLY|syscall.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := m.s.Close(); err != nil {
		t.Fatal(err)
	}
	f.expect(t, "open stderr=false append=true uid=0", "close")
	if _, err := syscall.Write(fd, []byte("late\n")); err != syscall.ENOTCONN {
		t.Errorf("writing when the mount is gone: %v, want ENOTCONN", err)
	}
}

func TestVerbs(t *testing.T) {
	var s atomic.Pointer[Server]
	m := mountService(t, Options{
		Make: func(name string, mode uint32) error {
			if name == "bad" {
				return syscall.EINVAL
			}
			_, err := s.Load().Add(Service{Name: name, Ring: ring.New(ring.Limits{}), Looks: Looks{Mode: mode}})
			return err
		},
		Remove: func(name string) error {
			if name == "web" {
				return fmt.Errorf("it is in use: %w", syscall.EBUSY)
			}
			s.Load().Remove(name)
			return nil
		},
	}, Service{Ring: ring.New(ring.Limits{})})
	s.Store(m.s)
	if out, err := m.sh("mkdir -m 700 ../job && ls -d ../job/current && test $(stat -c %a ../job) = 700 && rmdir ../job"); err != nil {
		t.Errorf("mkdir and rmdir: %v\n%s", err, out)
	}
	if _, err := os.Stat(m.path("../job")); !os.IsNotExist(err) {
		t.Errorf("a removed service: %v", err)
	}
	for script, want := range map[string]string{
		"mkdir ../bad": "Invalid argument", "rmdir ../web": "resource busy", "mkdir ../web": "File exists",
		"rm -rf ../web": "not permitted",
	} {
		if out, err := m.sh(script); err == nil || !strings.Contains(out, want) {
			t.Errorf("%s: %v, %q, want %q", script, err, out, want)
		}
	}
}
