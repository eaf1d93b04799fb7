package integration

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A process is a client program under test, its output collected as it comes.
type process struct {
	t      testing.TB
	cmd    *exec.Cmd
	stderr logBuffer
	mu     sync.Mutex
	out    []byte
	news   chan struct{} // closed and replaced with each piece of output
	done   chan struct{} // closed when the process has ended and all is read
}

// A setting is how a client is started.
type setting struct {
	tty bool // standard output is a terminal
	dir string
	env []string
	as  *syscall.Credential // nil for the user of the test
}

// startClient starts a program; the test's end kills it.
func startClient(t testing.TB, s setting, name string, args ...string) *process {
	t.Helper()
	p := &process{t: t, news: make(chan struct{}), done: make(chan struct{})}
	p.cmd = exec.Command(name, args...)
	p.cmd.Dir, p.cmd.Env, p.cmd.Stderr = s.dir, append(os.Environ(), s.env...), &p.stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: s.as}
	p.cmd.WaitDelay = time.Second
	r, w, err := outputPair(s.tty)
	must(t, err)
	p.cmd.Stdout = w
	err = p.cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		t.Fatalf("cannot start %s: %v", name, err)
	}
	go p.collect(r)
	t.Cleanup(p.kill)
	return p
}

func outputPair(tty bool) (r, w *os.File, err error) {
	if tty {
		return openTerminal()
	}
	return os.Pipe()
}

// openTerminal returns both sides of a new terminal that passes bytes on as
// they are.
func openTerminal() (master, slave *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err == nil {
		err = setRaw(int(slave.Fd()))
	}
	if err != nil {
		master.Close()
	}
	return master, slave, err
}

func setRaw(fd int) error {
	mode, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	mode.Oflag &^= unix.OPOST
	mode.Lflag &^= unix.ECHO | unix.ICANON
	return unix.IoctlSetTermios(fd, unix.TCSETS, mode)
}

func (p *process) collect(r *os.File) {
	defer close(p.done)
	defer r.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		p.mu.Lock()
		p.out = append(p.out, buf[:n]...)
		close(p.news)
		p.news = make(chan struct{})
		p.mu.Unlock()
		if err != nil {
			_ = p.cmd.Wait()
			return
		}
	}
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// output is what the client has written so far.
func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.out)
}

// await waits until ok holds for the output, at most patience.
func (p *process) await(what string, ok func(out []byte) bool) {
	p.t.Helper()
	timeout := time.After(patience)
	for {
		p.mu.Lock()
		good, news := ok(p.out), p.news
		p.mu.Unlock()
		if good {
			return
		}
		select {
		case <-news:
		case <-p.done:
			if !ok(p.out) {
				p.t.Fatalf("%s ended (%v) without %s\n%s", p.name(), p.cmd.ProcessState, what, p.said())
			}
			return
		case <-timeout:
			p.t.Fatalf("%s: no %s within %v\n%s", p.name(), what, patience, p.said())
		}
	}
}

// awaitBytes waits for n bytes of output.
func (p *process) awaitBytes(n int) {
	p.t.Helper()
	p.await(fmt.Sprintf("%d bytes of output", n), func(out []byte) bool { return len(out) >= n })
}

// awaitText waits for text in the output.
func (p *process) awaitText(text string) {
	p.t.Helper()
	p.await(fmt.Sprintf("%q", text), func(out []byte) bool { return strings.Contains(string(out), text) })
}

// awaitPos waits until the client has read path up to pos, by its own account
// in /proc.
func (p *process) awaitPos(path string, pos int) {
	p.t.Helper()
	what := func() string {
		return fmt.Sprintf("%s to have read %d bytes of %s (it is at %v)\n%s",
			p.name(), pos, path, positions(p.pid(), path), p.said())
	}
	eventually(p.t, what, func() bool {
		for _, at := range positions(p.pid(), path) {
			if at >= pos {
				return true
			}
		}
		return p.ended()
	})
}

// positions are the offsets at which a process and its children have path
// open. The kernel calls a file deleted whose name was looked up afresh since.
func positions(pid int, path string) (at []int) {
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for _, child := range strings.Fields(string(children)) {
		if n, err := strconv.Atoi(child); err == nil {
			at = append(at, positions(n, path)...)
		}
	}
	dir := fmt.Sprintf("/proc/%d/", pid)
	fds, _ := os.ReadDir(dir + "fd")
	for _, fd := range fds {
		if target, _ := os.Readlink(dir + "fd/" + fd.Name()); strings.TrimSuffix(target, " (deleted)") != path {
			continue
		}
		info, _ := os.ReadFile(dir + "fdinfo/" + fd.Name())
		var pos int
		if _, err := fmt.Sscanf(string(info), "pos:\t%d", &pos); err == nil {
			at = append(at, pos)
		}
	}
	return at
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// end sends sig and waits for the client's end.
func (p *process) end(sig syscall.Signal) {
	p.t.Helper()
	_ = p.cmd.Process.Signal(sig)
	p.wait()
}

// wait waits for the client's end and returns its exit status, -1 if a signal
// ended it.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("%s did not end within %v\n%s", p.name(), patience, p.said())
	}
	return p.cmd.ProcessState.ExitCode()
}

// signalled is the signal that ended the client, 0 if none did.
func (p *process) signalled() syscall.Signal {
	if ws, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return ws.Signal()
	}
	return 0
}

// kill ends the client, and what it started, for certain.
func (p *process) kill() {
	_ = unix.Kill(-p.pid(), unix.SIGKILL)
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Errorf("%s survived SIGKILL for %v", p.name(), patience)
	}
}

func (p *process) name() string { return strings.Join(p.cmd.Args, " ") }

func (p *process) said() string {
	return fmt.Sprintf("stdout: %q\nstderr: %q", tail(p.output(), 600), tail(p.stderr.String(), 600))
}
