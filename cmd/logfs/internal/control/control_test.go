package control

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"logfs/cmd/logfs/internal/exit"
	"logfs/ring/record"
)

const patience = 30 * time.Second

// fakeDaemon remembers what it was asked.
type fakeDaemon struct {
	runs chan *fakeRun

	mu     sync.Mutex // guards the following
	status string
	err    error // of every answer
	asked  []string
}

func (d *fakeDaemon) ask(format string, args ...any) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, fmt.Sprintf(format, args...))
	return d.err
}

func (d *fakeDaemon) refuse(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

func (d *fakeDaemon) questions() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.asked)
}

func (d *fakeDaemon) Rotate(names []string) error { return d.ask("rotate %v", names) }
func (d *fakeDaemon) Flush(names []string) error  { return d.ask("flush %v", names) }
func (d *fakeDaemon) Leave() error                { return d.ask("leave") }

func (d *fakeDaemon) Status(w io.Writer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, _ = io.WriteString(w, d.status)
}

func (d *fakeDaemon) Limits(w io.Writer) { _, _ = io.WriteString(w, "limits\n") }

func (d *fakeDaemon) setStatus(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status = text
}

func (d *fakeDaemon) Attach(a Attach) (Run, error) {
	if err := d.ask("attach %s %s %d", a.Name, a.Kind, len(a.Streams)); err != nil {
		closeAll(a.Streams)
		return nil, err
	}
	r := &fakeRun{streams: a.Streams, said: make(chan string, 8), ended: make(chan error)}
	d.runs <- r
	return r, nil
}

type fakeRun struct {
	streams []*os.File
	said    chan string
	ended   chan error
}

func (r *fakeRun) Start(pid int) error { r.said <- fmt.Sprintf("start %d", pid); return nil }
func (r *fakeRun) Exit(e record.Exit) error {
	r.said <- fmt.Sprintf("exit %v %d %q", e.Known, e.Code, e.Signal)
	return nil
}
func (r *fakeRun) Wait() error { return <-r.ended }
func (r *fakeRun) Detach()     { r.said <- "detach" }

func (r *fakeRun) hears(t *testing.T, want string) {
	t.Helper()
	if got := receive(t, r.said); got != want {
		t.Errorf("the run hears %q, want %q", got, want)
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

// serve serves a fake daemon on a socket in a directory of the test's.
func serve(t *testing.T) (*fakeDaemon, string) {
	t.Helper()
	d := &fakeDaemon{runs: make(chan *fakeRun, 1)}
	path := filepath.Join(t.TempDir(), "dir", "control")
	s, err := Listen(path, d, slog.New(slog.DiscardHandler))
	must(t, err)
	t.Cleanup(func() {
		must(t, s.Close())
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is still there: %v", err)
		}
	})
	return d, path
}

func dial(t *testing.T, path string) *Client {
	t.Helper()
	c, err := Dial(path)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestRequests(t *testing.T) {
	d, path := serve(t)
	must(t, dial(t, path).Rotate([]string{"web", "db"}))
	must(t, dial(t, path).Flush(nil))
	must(t, dial(t, path).Leave())
	if got := d.questions(); !slices.Equal(got, []string{"rotate [web db]", "flush []", "leave"}) {
		t.Errorf("asked %q", got)
	}
}

func TestLongStatus(t *testing.T) {
	d, path := serve(t)
	d.setStatus(strings.Repeat("web running 1 \"<\\>\x00é\"\n", 20_000))
	var b strings.Builder
	must(t, dial(t, path).Status(&b))
	if b.String() != d.status {
		t.Errorf("%d bytes arrive of %d", b.Len(), len(d.status))
	}
}

func TestErrorsKeepTheirStatus(t *testing.T) {
	for _, status := range []int{exit.Misuse, exit.Refused} {
		d, path := serve(t)
		d.refuse(exit.With(status, errors.New("no such thing")))
		err := dial(t, path).Flush(nil)
		if err == nil || err.Error() != "no such thing" || exit.Status(err) != status {
			t.Errorf("%v with status %d, want %d", err, exit.Status(err), status)
		}
		r, _, _ := os.Pipe()
		_, err = dial(t, path).Attach(Attach{Name: "web", Kind: Pipe, Streams: []*os.File{r}})
		if exit.Status(err) != status {
			t.Errorf("attach: %v with status %d, want %d", err, exit.Status(err), status)
		}
	}
}

// attach brings a run of the kind to the daemon: both ends of it, and the ends
// that its command would have.
func attach(t *testing.T, d *fakeDaemon, path string, kind Kind) (Run, *fakeRun, []*os.File) {
	t.Helper()
	var streams, ends []*os.File
	n, _ := kind.streams()
	for range n {
		r, w, err := os.Pipe()
		must(t, err)
		streams, ends = append(streams, r), append(ends, w)
	}
	t.Cleanup(func() { closeAll(ends) })
	run, err := dial(t, path).Attach(Attach{Name: "web", Kind: kind, Streams: streams})
	must(t, err)
	if err := streams[0].Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the client has its read end still: %v", err)
	}
	there := receive(t, d.runs)
	t.Cleanup(func() { closeAll(there.streams) })
	return run, there, ends
}

func TestRunWithItsPipes(t *testing.T) {
	d, path := serve(t)
	run, there, ends := attach(t, d, path, Command)
	must(t, run.Start(4242))
	there.hears(t, "start 4242")
	for i, text := range []string{"to stdout", "to stderr"} {
		_, err := ends[i].WriteString(text)
		must(t, err)
		ends[i].Close()
		if got, err := io.ReadAll(there.streams[i]); string(got) != text || err != nil {
			t.Errorf("stream %d: %q, %v", i, got, err)
		}
	}
	must(t, run.Exit(record.Exit{Known: true, Signal: "KILL"}))
	there.hears(t, `exit true 0 "KILL"`)
	there.ended <- nil
	must(t, run.Wait())
	must(t, run.Wait()) // and again
	run.Detach()
	there.hears(t, "detach")
}

func TestCaptureEndsBeforeTheRun(t *testing.T) {
	d, path := serve(t)
	run, there, _ := attach(t, d, path, Pipe)
	must(t, run.Start(1))
	there.ended <- errors.New("the daemon has stopped")
	if err := run.Wait(); err == nil || err.Error() != "the daemon has stopped" {
		t.Errorf("Wait: %v", err)
	}
}

func TestClientGoesAway(t *testing.T) {
	d, path := serve(t)
	run, there, _ := attach(t, d, path, Command)
	run.Detach()
	there.hears(t, "detach")

	run, there, _ = attach(t, d, path, Command)
	must(t, run.Start(1))
	there.hears(t, "start 1")
	run.Detach()
	there.hears(t, "detach")
	there.ended <- nil
}

func TestDaemonGoesAway(t *testing.T) {
	d := &fakeDaemon{runs: make(chan *fakeRun, 1)}
	path := filepath.Join(t.TempDir(), "control")
	s, err := Listen(path, d, slog.New(slog.DiscardHandler))
	must(t, err)
	run, _, _ := attach(t, d, path, Command)
	waited := make(chan error, 1)
	go func() { waited <- run.Wait() }()
	must(t, s.Close())
	if err := receive(t, waited); !errors.Is(err, ErrLost) {
		t.Errorf("Wait: %v, want %v", err, ErrLost)
	}
	if err := run.Exit(record.Exit{}); !errors.Is(err, ErrLost) {
		t.Errorf("Exit: %v, want %v", err, ErrLost)
	}
	var none *UnreachableError
	if _, err := Dial(path); !errors.As(err, &none) || none.Path != path {
		t.Errorf("Dial: %v, want an UnreachableError", err)
	}
}

func TestBadPackets(t *testing.T) {
	r, w, err := os.Pipe()
	must(t, err)
	defer closeAll([]*os.File{r, w})
	tests := []struct {
		name, packet string
		files        []*os.File
		want         string
	}{
		{"no JSON", "hello", nil, "not a request"},
		{"unknown", `{"do":"explode"}`, nil, `unknown request "explode"`},
		{"too long", strings.Repeat(" ", maxPacket+1), nil, "too long"},
		{"run with one descriptor", `{"do":"attach","name":"web","kind":"run"}`, []*os.File{r}, "run needs 2"},
		{"unknown kind", `{"do":"attach","name":"web","kind":"x"}`, nil, `kind "x"`},
		{"too many descriptors", `{"do":"attach","name":"web","kind":"pipe"}`, slices.Repeat([]*os.File{r}, 20), "at most"},
	}
	d, path := serve(t)
	for _, tt := range tests {
		c := dial(t, path)
		if err := c.p.write([]byte(tt.packet), tt.files); err != nil {
			t.Errorf("%s: cannot send: %v", tt.name, err)
			continue
		}
		err := c.answer(io.Discard)
		if exit.Status(err) != exit.Misuse || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want misuse: %s", tt.name, err, tt.want)
		}
	}
	if got := d.questions(); len(got) != 0 {
		t.Errorf("the daemon was asked %q", got)
	}
}

func TestListen(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale")
	leaveSocket(t, stale)
	file := filepath.Join(dir, "file")
	must(t, os.WriteFile(file, nil, 0o600))
	_, live := serve(t)
	tests := []struct{ name, path, want string }{
		{"what a killed daemon leaves", stale, ""},
		{"a daemon listens", live, "in use"},
		{"a file has the name", file, "no socket"},
		{"no room", "/dev/null/control", "cannot make"},
		{"too long", filepath.Join(dir, strings.Repeat("x", 120)), "too long"},
	}
	for _, tt := range tests {
		s, err := Listen(tt.path, &fakeDaemon{}, slog.New(slog.DiscardHandler))
		if err == nil {
			if fi, err := os.Stat(tt.path); err != nil || fi.Mode().Perm() != 0o600 {
				t.Errorf("%s: mode of the socket: %v, %v", tt.name, fi, err)
			}
			must(t, s.Close())
		}
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), filepath.Dir(tt.path))):
			t.Errorf("%s: %v, want it to name the path and say: %s", tt.name, err, tt.want)
		}
	}
	if err := dial(t, live).Flush(nil); err != nil {
		t.Errorf("the live socket has suffered: %v", err)
	}
}

// leaveSocket leaves a socket as a killed daemon does.
func leaveSocket(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	must(t, err)
	l.SetUnlinkOnClose(false)
	must(t, l.Close())
}

func TestAllowed(t *testing.T) {
	tests := []struct {
		peer uint32
		own  int
		ok   bool
	}{{0, 1000, true}, {1000, 1000, true}, {0, 0, true}, {1001, 1000, false}, {1000, 0, false}}
	for _, tt := range tests {
		if err := allowed(tt.peer, tt.own); (err == nil) != tt.ok {
			t.Errorf("user %d to the daemon of %d: %v", tt.peer, tt.own, err)
		}
	}
}

// A run that nobody can write to any more is over, unless its holder stays.
func TestHeldIsOver(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	a := Attach{Name: "web", Kind: Pipe, Streams: []*os.File{r}}
	goes, stays := HoldLater(a, Next{}), HoldLater(a, Next{Stays: true})
	if goes.over() || stays.over() {
		t.Error("over while there is a writer")
	}
	w.Close()
	if !goes.over() || stays.over() {
		t.Errorf("without a writer: over is %v, and %v for one that stays", goes.over(), stays.over())
	}
	if err := stays.Exit(record.Exit{}); err != nil || !stays.over() {
		t.Errorf("not over after Exit: %v", err)
	}
}
