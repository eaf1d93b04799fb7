package control

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"logfs/cmd/logfs/internal/exit"
	"logfs/ring/record"
)

// daemons is a socket on which the test is one daemon after the other, which can
// be gone at any point.
type daemons struct {
	t        *testing.T
	path     string
	listener *net.UnixListener
}

func newDaemons(t *testing.T) *daemons {
	d := &daemons{t: t, path: filepath.Join(t.TempDir(), "control")}
	d.listen()
	t.Cleanup(func() { d.listener.Close() })
	return d
}

func (d *daemons) listen() {
	var err error
	d.listener, err = listen(d.path)
	must(d.t, err)
}

// A bringing is a connection on which a run was brought.
type bringing struct {
	t *testing.T
	packets
	asked request
	files []*os.File
}

// accept waits for somebody who brings a run.
func (d *daemons) accept() *bringing {
	d.t.Helper()
	c, err := d.listener.AcceptUnix()
	must(d.t, err)
	b := &bringing{t: d.t, packets: packets{c}}
	b.files, err = b.receive(&b.asked, maxPacket)
	must(d.t, err)
	d.t.Cleanup(b.gone)
	return b
}

func (b *bringing) gone() {
	b.Close()
	closeAll(b.files)
}

func (b *bringing) answer(r reply) {
	b.t.Helper()
	must(b.t, b.send(r))
}

func (b *bringing) hears(want request) {
	b.t.Helper()
	var got request
	_, err := b.receive(&got, shortPacket)
	must(b.t, err)
	if got.Do != want.Do || got.Pid != want.Pid || got.Code != want.Code || got.Known != want.Known {
		b.t.Errorf("heard %+v, want %+v", got, want)
	}
}

// newAttach is a run with a Hold, and the end that its command would have.
func newAttach(t *testing.T) (a Attach, end *os.File) {
	t.Helper()
	a = Attach{Name: "web", Kind: Command}
	for range 5 {
		r, w, err := os.Pipe()
		must(t, err)
		t.Cleanup(func() { r.Close(); w.Close() })
		if len(a.Streams) < 2 {
			a.Streams = append(a.Streams, r)
		} else {
			a.Hold = append(a.Hold, r)
		}
		if end == nil {
			end = w
		}
	}
	return a, end
}

func (d *daemons) next() Next {
	return Next{
		Dial:  func() (*Client, error) { return Dial(d.path) },
		Say:   func(string) {},
		Waits: func() int { return 1 },
	}
}

// hold takes the name from the first daemon.
func (d *daemons) hold(a Attach) (*Held, *bringing) {
	d.t.Helper()
	c, err := Dial(d.path)
	must(d.t, err)
	held := make(chan *Held)
	go func() {
		h, err := Hold(c, a, d.next())
		if err != nil {
			d.t.Error(err)
		}
		held <- h
	}()
	first := d.accept()
	first.answer(reply{Re: reOK})
	return <-held, first
}

var exited = record.Exit{Known: true, Code: 3}

// Whenever the daemon goes, the next one gets the same run, and is told all that
// the one before was told.
func TestHeldIsBroughtToTheNextDaemon(t *testing.T) {
	start, end := request{Do: doStart, Pid: 42}, request{Do: doExit, Known: true, Code: 3}
	for name, until := range map[string]func(h *Held, first *bringing){
		"gone before the start": func(h *Held, first *bringing) {
			first.gone()
			must(t, h.Start(42))
		},
		"gone during the run": func(h *Held, first *bringing) {
			must(t, h.Start(42))
			first.hears(start)
			first.gone()
		},
		"gone before the exit mark was in": func(h *Held, first *bringing) {
			must(t, h.Start(42))
			first.hears(start)
			must(t, h.Exit(exited))
			first.hears(end)
			first.gone()
		},
		"gone before it heard of the end": func(h *Held, first *bringing) {
			must(t, h.Start(42))
			first.gone()
			must(t, h.Exit(exited))
		},
		"ended in order": func(h *Held, first *bringing) {
			must(t, h.Start(42))
			first.hears(start)
			first.answer(reply{Re: reLeft})
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDaemons(t)
			a, w := newAttach(t)
			h, first := d.hold(a)
			until(h, first)
			waited := make(chan error)
			go func() { waited <- h.Wait() }()
			next := d.accept()
			if q := next.asked; q.Do != doAttach || q.Name != "web" || q.Kind != Command || !q.Hold || len(next.files) != 5 {
				t.Errorf("asked for %+v with %d files", q, len(next.files))
			}
			_, err := w.WriteString("x")
			must(t, err)
			if n, err := next.files[0].Read(make([]byte, 2)); n != 1 {
				t.Errorf("the stream is another: read %d, %v", n, err)
			}
			next.answer(reply{Re: reOK})
			next.hears(start)
			must(t, h.Exit(exited))
			next.hears(end)
			next.answer(reply{Re: reDone})
			must(t, receive(t, waited))
			h.Detach()
		})
	}
}

// A daemon that refuses the run is asked again: it may still be ending, or the
// name is free later.
func TestHeldIsRefused(t *testing.T) {
	d := newDaemons(t)
	a, _ := newAttach(t)
	h, first := d.hold(a)
	defer h.Detach()
	must(t, h.Start(42))
	first.gone()
	waited := make(chan error)
	go func() { waited <- h.Wait() }()
	for _, err := range []error{exit.Refusedf("stopping"), exit.Misusef("has a run")} {
		no := d.accept()
		no.answer(failure(err))
		no.gone()
	}
	d.accept().gone() // without a word
	d.listener.Close()
	d.listen()
	last := d.accept()
	last.answer(reply{Re: reOK})
	last.hears(request{Do: doStart, Pid: 42})
	last.answer(reply{Re: reDone, Error: "capture ended"})
	if err := receive(t, waited); err == nil || err.Error() != "capture ended" {
		t.Errorf("Wait: %v", err)
	}
}

// A run is brought as often as it takes, and that leaves no descriptor open.
func TestHeldLeavesNoDescriptors(t *testing.T) {
	d := newDaemons(t)
	a, _ := newAttach(t)
	h, daemon := d.hold(a)
	must(t, h.Start(42))
	waited := make(chan error)
	go func() { waited <- h.Wait() }()
	open := 0
	for range 20 {
		daemon.gone()
		daemon = d.accept()
		daemon.answer(reply{Re: reOK})
		daemon.hears(request{Do: doStart, Pid: 42})
		if n := descriptors(t); open == 0 {
			open = n
		} else if n > open {
			t.Fatalf("%d descriptors open, %d before", n, open)
		}
	}
	daemon.answer(reply{Re: reDone})
	must(t, receive(t, waited))
	h.Detach()
	for _, f := range a.files() {
		if _, err := f.Stat(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s is open after Detach: %v", f.Name(), err)
		}
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(all)
}

// No daemon comes any more. While the service runs, that may change at any time;
// when it has ended it waits for a while, less for nothing but the exit mark.
func TestHeldGivesUp(t *testing.T) {
	for _, tt := range []struct {
		name    string
		ends    func(h *Held, writers []int)
		waits   int
		inOrder bool
		after   time.Duration
		want    string
	}{
		{"the command has ended, lines wait", sayExit, 7, true, linePatience, "7 bytes are lost"},
		{"the command has ended, the mark waits", sayExit, 0, true, markPatience, "exit mark"},
		{"the command has ended, the daemon was killed", sayExit, 0, false, linePatience, "exit mark"},
		{"nobody can write any more", hangUp, 7, true, linePatience, "7 bytes are lost"},
		{"nobody can write any more, the mark waits", hangUp, 0, true, markPatience, "exit mark"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var writers []int
				a := Attach{Name: "web", Kind: Command}
				for range 2 {
					var fds [2]int
					must(t, unix.Pipe2(fds[:], unix.O_CLOEXEC))
					a.Streams, writers = append(a.Streams, os.NewFile(uintptr(fds[0]), "stream")), append(writers, fds[1])
				}
				said := make(chan string, 10)
				h := HoldLater(a, Next{
					Dial:  func() (*Client, error) { return nil, errors.New("nobody listens") },
					Say:   func(text string) { said <- text },
					Waits: func() int { return tt.waits },
				})
				defer h.Detach()
				gaveUp := make(chan error, 1)
				go func() { gaveUp <- h.findNext(tt.inOrder) }()
				time.Sleep(time.Hour)
				if len(said) != 1 || !strings.Contains(<-said, "nobody listens") {
					t.Error("it is not said, once, that there is no daemon")
				}
				select {
				case err := <-gaveUp:
					t.Fatalf("gave up while the service runs: %v", err)
				default:
				}
				tt.ends(h, writers)
				began := time.Now()
				err := <-gaveUp
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("gave up: %v, want %q", err, tt.want)
				}
				// It looks four times a second.
				if waited := time.Since(began); waited < tt.after || waited > tt.after+4*lastLook {
					t.Errorf("gave up after %v, want %v", waited, tt.after)
				}
			})
		})
	}
}

func sayExit(h *Held, _ []int) { _ = h.Exit(exited) }

func hangUp(_ *Held, writers []int) {
	for _, w := range writers {
		unix.Close(w)
	}
}
