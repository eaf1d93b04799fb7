package integration

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A watch is the test's own reader of a follow file: it is blocked in read(2)
// until the service says something, which is how the test learns of a line's
// arrival.
type watch struct {
	t    testing.TB
	mu   sync.Mutex
	buf  []byte
	err  error         // why the reading ended
	news chan struct{} // closed and replaced with each read
	done chan struct{} // closed when the reading has ended
}

// watch opens a file of the mount and reads it until its end.
func (d *daemon) watch(elem ...string) *watch {
	d.t.Helper()
	path := d.path(elem...)
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		d.t.Fatalf("cannot open %s: %v", path, err)
	}
	w := &watch{t: d.t, news: make(chan struct{}), done: make(chan struct{})}
	go w.run(fd)
	return w
}

func (w *watch) run(fd int) {
	defer close(w.done)
	defer unix.Close(fd)
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(fd, buf)
		if err == unix.EINTR {
			continue
		}
		w.mu.Lock()
		w.buf = append(w.buf, buf[:max(n, 0)]...)
		if n <= 0 {
			w.err = err
		}
		close(w.news)
		w.news = make(chan struct{})
		w.mu.Unlock()
		if n <= 0 {
			return
		}
	}
}

// await waits until text has been read, and returns all up to its end; the
// next await looks behind it.
func (w *watch) await(text string) string {
	w.t.Helper()
	timeout := time.After(patience)
	for {
		w.mu.Lock()
		i, news := bytes.Index(w.buf, []byte(text)), w.news
		if i >= 0 {
			got := string(w.buf[:i+len(text)])
			w.buf = w.buf[i+len(text):]
			w.mu.Unlock()
			return got
		}
		w.mu.Unlock()
		select {
		case <-news:
		case <-w.done:
			if !w.holds(text) {
				w.t.Fatalf("follow ended (%v) before %q came; last read: %q", w.err, text, w.rest())
			}
		case <-timeout:
			w.t.Fatalf("%q did not come within %v; last read: %q", text, patience, w.rest())
		}
	}
}

func (w *watch) holds(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Contains(w.buf, []byte(text))
}

func (w *watch) rest() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return tail(string(w.buf), 300)
}

// awaitEnd waits until the reading has ended and returns why: nil is end of
// file.
func (w *watch) awaitEnd() error {
	w.t.Helper()
	select {
	case <-w.done:
	case <-time.After(patience):
		w.t.Fatalf("the reader of follow did not end within %v", patience)
	}
	return w.err
}

// A feed is a service whose lines are written by the test, through
// "logfs pipe".
type feed struct {
	d      *daemon
	name   string
	n      int // the last numbered line said
	cmd    *exec.Cmd
	w      *os.File
	stderr logBuffer
	watch  *watch
	ended  chan struct{}
}

// feed starts a feed for a service of the configuration.
func (d *daemon) feed(name string) *feed {
	d.t.Helper()
	f := &feed{d: d, name: name, watch: d.watch(name, "follow"), ended: make(chan struct{})}
	r, w, err := os.Pipe()
	must(d.t, err)
	f.w = w
	f.cmd = exec.Command(logfsBin, "pipe", "--socket", d.sock, name)
	f.cmd.Stdin, f.cmd.Stderr = r, &f.stderr
	must(d.t, f.cmd.Start())
	r.Close()
	go func() { _ = f.cmd.Wait(); close(f.ended) }()
	d.t.Cleanup(f.abandon)
	return f
}

// write writes text as it stands and waits for nothing.
func (f *feed) write(text string) {
	f.d.t.Helper()
	_ = f.w.SetWriteDeadline(time.Now().Add(patience))
	if _, err := f.w.WriteString(text); err != nil {
		f.d.t.Fatalf("cannot write to service %s: %v; logfs pipe said: %s", f.name, err, &f.stderr)
	}
}

// say writes a line and waits until a reader of follow has it.
func (f *feed) say(line string) {
	f.d.t.Helper()
	f.write(line + "\n")
	f.watch.await(line + "\n")
}

// upTo says the numbered lines up to n, and returns when the last has
// arrived. They are written in parts that no ring of these tests drops before
// the watch has read them.
func (f *feed) upTo(n int) {
	f.d.t.Helper()
	for f.n < n {
		to := min(n, f.n+60)
		f.write(numberedRun(f.n+1, to))
		f.n = to
		f.watch.await(numbered(to) + "\n")
	}
}

// close ends the service's output; logfs pipe must end with status 0.
func (f *feed) close() {
	f.d.t.Helper()
	must(f.d.t, f.w.Close())
	f.awaitEnd()
	if code := f.cmd.ProcessState.ExitCode(); code != 0 || f.stderr.String() != "" {
		f.d.t.Errorf("logfs pipe ended with %v: %s", f.cmd.ProcessState, &f.stderr)
	}
}

func (f *feed) awaitEnd() {
	f.d.t.Helper()
	select {
	case <-f.ended:
	case <-time.After(patience):
		f.d.t.Fatalf("logfs pipe %s did not end within %v", f.name, patience)
	}
}

// abandon ends logfs pipe whatever its state.
func (f *feed) abandon() {
	f.w.Close()
	select {
	case <-f.ended:
	case <-time.After(2 * time.Second):
		_ = f.cmd.Process.Signal(syscall.SIGKILL)
		<-f.ended
	}
}

// read returns the content of a file of the mount.
func (d *daemon) read(elem ...string) string {
	d.t.Helper()
	b, err := os.ReadFile(d.path(elem...))
	must(d.t, err)
	return string(b)
}

// statusOf returns the fields of a service's line in the status file.
func (d *daemon) statusOf(name string) []string {
	d.t.Helper()
	for line := range strings.Lines(d.read("status")) {
		if f := strings.Fields(line); len(f) > 0 && f[0] == name {
			return f
		}
	}
	return nil
}

// The fields of a line of the status file.
const (
	statusName = iota
	statusState
	statusRun
	statusPID
	statusFirst
	statusLast
	statusLines
	statusBytes
	statusDisk
	statusLost
	statusReaders
	statusAge
	statusPinned
	statusRefused
	statusFields
)

// logdir is the directory of a service's files on disk.
func (d *daemon) logdir(name string) string { return filepath.Join(d.store, name) }
