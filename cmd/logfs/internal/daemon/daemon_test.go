package daemon

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"logfs/cmd/logfs/internal/config"
	"logfs/cmd/logfs/internal/control"
	"logfs/cmd/logfs/internal/exit"
	"logfs/fs"
	"logfs/ring/record"
)

// fakeTree is a tree that only remembers.
type fakeTree struct {
	mu    sync.Mutex
	shown map[string]fs.Service
	wakes int
	done  chan struct{}

	listFollow bool
}

func newFakeTree() *fakeTree {
	return &fakeTree{shown: map[string]fs.Service{}, done: make(chan struct{})}
}

func (f *fakeTree) mount(fs.Options) (Tree, error) { return f, nil }

func (f *fakeTree) Add(s fs.Service) (Entry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shown[s.Name] = s
	return fakeEntry{f, s.Name}, nil
}

func (f *fakeTree) Remove(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.shown, name)
}

func (f *fakeTree) SetLimits(fs.Limits)         {}
func (f *fakeTree) LimitCounts() fs.LimitCounts { return fs.LimitCounts{} }

func (f *fakeTree) SetListFollow(shown bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listFollow = shown
}

// service is how a service is shown, if it is.
func (f *fakeTree) service(name string) (fs.Service, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.shown[name]
	return s, ok
}

func (f *fakeTree) Close() error          { close(f.done); return nil }
func (f *fakeTree) Done() <-chan struct{} { return f.done }

type fakeEntry struct {
	tree *fakeTree
	name string
}

func (e fakeEntry) Configure(l fs.Looks) {
	e.tree.mu.Lock()
	defer e.tree.mu.Unlock()
	s := e.tree.shown[e.name]
	s.Looks = l
	e.tree.shown[e.name] = s
}

func (e fakeEntry) Readers() int    { return 3 }
func (e fakeEntry) Refused() uint64 { return 4 }
func (e fakeEntry) Wake() {
	e.tree.mu.Lock()
	defer e.tree.mu.Unlock()
	e.tree.wakes++
}

// daemonTest is a daemon with a tree that only remembers.
type daemonTest struct {
	*Daemon
	o      Options
	tree   *fakeTree
	events *events
	closed sync.Once
}

// newOptions are those of a daemon in a directory of the test's.
func newOptions(t *testing.T, services ...config.Service) Options {
	dir := t.TempDir()
	c := config.Default()
	c.Mount, c.Store, c.Socket = filepath.Join(dir, "m"), filepath.Join(dir, "store"), ""
	must(t, os.Mkdir(c.Mount, 0o755))
	for _, s := range services {
		full := c.Defaults
		full.Name, full.Command, full.Restart, full.Env, full.Dir = s.Name, s.Command, s.Restart, s.Env, s.Dir
		c.Services = append(c.Services, full)
	}
	return Options{Config: c}
}

func shell(name, script string) config.Service {
	return config.Service{Name: name, Command: []string{"/bin/sh", "-c", script}, Restart: config.Never}
}

func openDaemon(t *testing.T, o Options) *daemonTest {
	t.Helper()
	dt := &daemonTest{o: o, tree: newFakeTree(), events: &events{}}
	if o.Mount == nil {
		o.Mount = dt.tree.mount
	}
	o.Log = dt.events.logger()
	d, err := Open(o)
	must(t, err)
	dt.Daemon = d
	t.Cleanup(func() { dt.end(t, nil) })
	return dt
}

// end closes the daemon, once.
func (dt *daemonTest) end(t *testing.T, hurry chan struct{}) {
	t.Helper()
	dt.closed.Do(func() {
		if err := dt.Close(hurry); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
}

func (dt *daemonTest) stored(t *testing.T, name string) []string {
	t.Helper()
	lines := stored(t, filepath.Join(dt.o.Config.Store, name))
	for i, l := range lines {
		lines[i] = withoutPid(withoutAfter(l))
	}
	return lines
}

// withoutAfter and withoutPid take off what differs from run to run.
func withoutAfter(l string) string {
	head, _, _ := strings.Cut(l, " after=")
	return head
}

func withoutPid(l string) string {
	if head, _, ok := strings.Cut(l, " pid="); ok && strings.HasPrefix(l, "= start") {
		return head
	}
	return l
}

// attach takes name and returns the run and the ends a command would have.
func (dt *daemonTest) attach(t *testing.T, name string, kind control.Kind) (control.Run, []*os.File) {
	t.Helper()
	var streams, ends []*os.File
	for range map[control.Kind]int{control.Command: 2, control.Pipe: 1}[kind] {
		r, w, err := os.Pipe()
		must(t, err)
		streams, ends = append(streams, r), append(ends, w)
	}
	t.Cleanup(func() { closeAll(ends) })
	run, err := dt.Attach(control.Attach{Name: name, Kind: kind, Streams: streams})
	must(t, err)
	return run, ends
}

// wait waits for the end of a run, within patience.
func wait(t *testing.T, r control.Run) error {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- r.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-time.After(patience):
		t.Fatal("the run does not end")
		return nil
	}
}

func say(t *testing.T, w io.Writer, text string) {
	t.Helper()
	_, err := io.WriteString(w, text)
	must(t, err)
}

func TestRunOfAClient(t *testing.T) {
	dt := openDaemon(t, newOptions(t))
	r, ends := dt.attach(t, "web", control.Command)
	must(t, r.Start(4242))
	say(t, ends[0], "out\n")
	say(t, ends[1], "unfinished")
	closeAll(ends)
	must(t, r.Exit(record.Exit{Known: true, Code: 7}))
	must(t, wait(t, r))
	got := dt.stored(t, "web")
	if len(got) != 4 || got[0] != "= start run=1" || got[3] != "= exit code=7" {
		t.Fatalf("stored %q", got)
	}
	same(t, "between the marks", sorted(got[1:3]), []string{"e+ unfinished", "o out"})
	if _, ok := dt.tree.shown["web"]; !ok || dt.tree.wakes < 3 {
		t.Errorf("shown %v, woken %d times", dt.tree.shown, dt.tree.wakes)
	}
	if state, pid, _ := dt.find("web").snapshot(); state != Failed || pid != 0 {
		t.Errorf("state %s pid %d, want failed and none", state, pid)
	}
}

func TestOneRunOfAName(t *testing.T) {
	dt := openDaemon(t, newOptions(t, shell("own", "true")))
	r, ends := dt.attach(t, "web", control.Command)
	refused := func(name, want string) {
		t.Helper()
		_, err := dt.Attach(control.Attach{Name: name, Kind: control.Pipe})
		if exit.Status(err) != exit.Misuse || !strings.Contains(err.Error(), want) {
			t.Errorf("second run: %v, want misuse: %s", err, want)
		}
	}
	refused("web", `service "web" already has a run`)
	must(t, r.Start(4242))
	refused("web", `service "web" already has a run: pid 4242`)
	refused("own", `service "own" is started by the daemon itself`)
	refused("../etc", `cannot use name`)
	closeAll(ends)
	must(t, r.Exit(record.Exit{Known: true}))
	must(t, wait(t, r))
	next, _ := dt.attach(t, "web", control.Command)
	next.Detach()
}

func TestReservationGivenBack(t *testing.T) {
	dt := openDaemon(t, newOptions(t))
	r, ends := dt.attach(t, "web", control.Command)
	r.Detach()
	if _, err := ends[0].Write([]byte("x")); err == nil {
		t.Error("the read end is still open")
	}
	if err := r.Start(1); err == nil {
		t.Error("Start after Detach succeeds")
	}
	again, _ := dt.attach(t, "web", control.Command)
	again.Detach()
	same(t, "stored", dt.stored(t, "web"), nil)
}

func TestClientGoesAway(t *testing.T) {
	dt := openDaemon(t, newOptions(t))
	r, ends := dt.attach(t, "web", control.Command)
	must(t, r.Start(1))
	r.Detach()
	say(t, ends[0], "still here\n")
	closeAll(ends)
	must(t, wait(t, r))
	same(t, "stored", dt.stored(t, "web"), []string{"= start run=1", "o still here", "= exit"})
}

func TestGrandchildDelaysTheExitMarkOnlyForAWhile(t *testing.T) {
	dt := openDaemon(t, newOptions(t))
	r, ends := dt.attach(t, "web", control.Command)
	must(t, r.Start(1))
	began := time.Now()
	must(t, r.Exit(record.Exit{Known: true}))
	must(t, wait(t, r))
	if d := time.Since(began); d < linger {
		t.Errorf("exit mark after %v with open pipes, want %v", d, linger)
	}
	say(t, ends[0], "late\n")
	dt.end(t, nil)
	same(t, "stored", dt.stored(t, "web"), []string{"= start run=1", "= exit code=0", "o late"})
}

func TestPipe(t *testing.T) {
	dt := openDaemon(t, newOptions(t))
	r, ends := dt.attach(t, "eof", control.Pipe)
	must(t, r.Start(1))
	say(t, ends[0], "a\nb")
	closeAll(ends)
	must(t, wait(t, r))
	same(t, "stored at end of file", dt.stored(t, "eof"), []string{"= start run=1", "o a", "o+ b", "= exit"})

	r, ends = dt.attach(t, "term", control.Pipe)
	must(t, r.Start(1))
	say(t, ends[0], "in the pipe\n")
	must(t, r.Exit(record.Exit{}))
	must(t, wait(t, r))
	same(t, "stored at TERM", dt.stored(t, "term"), []string{"= start run=1", "o in the pipe", "= exit"})
}

func TestCloseTakesWhatIsInThePipes(t *testing.T) {
	dt := openDaemon(t, newOptions(t))
	r, ends := dt.attach(t, "web", control.Command)
	must(t, r.Start(1))
	say(t, ends[0], "last words\n")
	dt.end(t, nil)
	if err := wait(t, r); !errors.Is(err, errStopped) {
		t.Errorf("Wait: %v, want %v", err, errStopped)
	}
	same(t, "stored", dt.stored(t, "web"), []string{"= start run=1", "o last words", "= exit"})
	if _, err := dt.Attach(control.Attach{Name: "web"}); !errors.Is(err, errStopping) {
		t.Errorf("Attach after Close: %v, want %v", err, errStopping)
	}
}

func TestPipeWhenTheDaemonStops(t *testing.T) {
	dt := openDaemon(t, newOptions(t))
	r, ends := dt.attach(t, "web", control.Pipe)
	must(t, r.Start(1))
	say(t, ends[0], "x\n")
	dt.end(t, nil)
	if err := wait(t, r); !errors.Is(err, errStopped) {
		t.Errorf("Wait: %v, want %v", err, errStopped)
	}
}

func TestStatus(t *testing.T) {
	o := newOptions(t)
	c := newClock()
	o.Now = c.now
	dt := openDaemon(t, o)
	idle, _ := dt.attach(t, "idle", control.Pipe)
	idle.Detach()
	r, ends := dt.attach(t, "web", control.Command)
	must(t, r.Start(77))
	dt.find("web").log.Take(pieces("12345"), noStall)
	c.add(90*time.Second + time.Millisecond)
	var b strings.Builder
	dt.Status(&b)
	want := statusHeader +
		"idle idle - - - - 0 0 70 0 3 - 0 4\n" +
		"web running 1 77 1 2 2 81 150 0 3 90s 0 4\n"
	if b.String() != want {
		t.Errorf("status:\n%s\nwant:\n%s", &b, want)
	}
	closeAll(ends)
	must(t, r.Exit(record.Exit{Known: true}))
	must(t, wait(t, r))
	b.Reset()
	dt.Status(&b)
	if !strings.Contains(b.String(), "web exited 1 - 1 3 ") {
		t.Errorf("status after the run:\n%s", &b)
	}
}

func TestRotateAndFlush(t *testing.T) {
	dt := openDaemon(t, newOptions(t, config.Service{Name: "web"}, config.Service{Name: "db"}))
	dt.find("web").log.Take(pieces("x"), noStall)
	must(t, dt.Flush(nil))
	must(t, dt.Rotate([]string{"web"}))
	if names, _ := filepath.Glob(filepath.Join(dt.o.Config.Store, "web", "@*.s")); len(names) != 1 {
		t.Errorf("archives %q, want one", names)
	}
	if err := dt.Rotate([]string{"web", "nope"}); exit.Status(err) != exit.Misuse || !strings.Contains(err.Error(), `"nope"`) {
		t.Errorf("Rotate of an unknown service: %v", err)
	}
}

func TestAdopt(t *testing.T) {
	o := newOptions(t)
	dt := openDaemon(t, o)
	r, ends := dt.attach(t, "job", control.Pipe)
	must(t, r.Start(1))
	say(t, ends[0], "earlier\n")
	closeAll(ends)
	must(t, wait(t, r))
	dt.end(t, nil)
	must(t, os.Mkdir(filepath.Join(o.Config.Store, "empty"), 0o755))
	must(t, os.Mkdir(filepath.Join(o.Config.Store, "no name"), 0o755))
	o.Adopt = true
	dt = openDaemon(t, o)
	if len(dt.list()) != 1 || len(dt.tree.shown) != 1 {
		t.Fatalf("%d services, shown %v; want job alone", len(dt.list()), dt.tree.shown)
	}
	same(t, "held", texts(dt.find("job").log)[1:2], []string{"o earlier"})
}

func TestMountRefusedBySystem(t *testing.T) {
	o := newOptions(t)
	o.Mount = func(fs.Options) (Tree, error) { return nil, fs.ErrNoFUSE }
	dt := openDaemon(t, o)
	if dt.Mounted() || !strings.Contains(dt.events.String(), "level=ERROR") {
		t.Errorf("mounted: %v, logged: %s", dt.Mounted(), dt.events)
	}
	r, ends := dt.attach(t, "web", control.Pipe)
	must(t, r.Start(1))
	say(t, ends[0], "captured all the same\n")
	closeAll(ends)
	must(t, wait(t, r))
	same(t, "stored", dt.stored(t, "web")[1:2], []string{"o captured all the same"})
}

func TestMountPointMadeAndRemoved(t *testing.T) {
	o := newOptions(t)
	o.Config.Mount += "/made/here"
	o.MakeMount = true
	dt := openDaemon(t, o)
	if _, err := os.Stat(o.Config.Mount); err != nil {
		t.Errorf("mount point not made: %v", err)
	}
	dt.end(t, nil)
	if _, err := os.Stat(o.Config.Mount); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("mount point not removed: %v", err)
	}
}

func TestMountTakenAway(t *testing.T) {
	o := newOptions(t)
	gone := newFakeTree()
	o.Mount = func(fs.Options) (Tree, error) { return goneTree{gone}, nil }
	logged := make(chan struct{})
	dt := openDaemon(t, o)
	go func() { dt.live.Wait(); close(logged) }()
	close(gone.done)
	<-logged
	if !strings.Contains(dt.events.String(), "the mount is gone") {
		t.Errorf("logged: %s", dt.events)
	}
}

type goneTree struct{ *fakeTree }

func (goneTree) Close() error { return nil }
