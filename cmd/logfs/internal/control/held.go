package control

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"logfs/cmd/logfs/internal/exit"
	"logfs/ring/record"
)

// How often a daemon that is gone is looked for; after how long that is said; and
// how long it is looked for once the run has ended: while there are lines that it
// should get, or its exit mark only, which nobody may come for.
const (
	firstLook    = 20 * time.Millisecond
	lastLook     = 250 * time.Millisecond
	sayAfter     = 5 * time.Second
	linePatience = 10 * time.Second
	markPatience = time.Second
)

// Next is what a Held needs to go on when its daemon is gone.
type Next struct {
	// Dial connects to the next daemon.
	Dial func() (*Client, error)
	// Say is told if there is none for long.
	Say func(string)
	// Waits is how many bytes of the run no daemon has stored.
	Waits func() int
	// Stays says that a run is over only when Exit was called: until then the
	// next daemon is looked for, however long that takes.
	Stays bool
}

// A Held is a run whose pipes this process keeps open, with a Hold, so that the
// daemon may end, be killed and come back: what the service says meanwhile waits
// in its pipe. The next daemon goes on with the same run.
//
// One goroutine may be in Wait while another calls Exit. Start comes before.
type Held struct {
	next   Next
	attach Attach // its files are ours; daemons get duplicates
	pid    int

	ended   chan struct{} // closed by Exit
	exiting sync.Once

	mu     sync.Mutex // guards the following
	client *Client
	run    Run
	how    record.Exit // valid when ended is closed
}

// Hold takes the name for a run that is held here, and owns the connection and
// the files from now on.
func Hold(c *Client, a Attach, next Next) (*Held, error) {
	h := HoldLater(a, next)
	h.client = c
	var err error
	if h.run, err = h.attachTo(c); err != nil {
		closeAll(a.files())
		return nil, err
	}
	return h, nil
}

// HoldLater is Hold for a run that is begun in any case: Wait takes the name.
func HoldLater(a Attach, next Next) *Held {
	return &Held{next: next, attach: a, ended: make(chan struct{})}
}

func (h *Held) attachTo(c *Client) (Run, error) {
	a := h.attach
	var err error
	if a.Streams, err = duplicates(a.Streams); err != nil {
		return nil, err
	}
	if a.Hold, err = duplicates(a.Hold); err != nil {
		closeAll(a.Streams)
		return nil, err
	}
	return c.Attach(a)
}

func duplicates(files []*os.File) (dups []*os.File, err error) {
	for _, f := range files {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			closeAll(dups)
			return nil, exit.Refusedf("cannot duplicate a descriptor: %w", err)
		}
		dups = append(dups, os.NewFile(uintptr(fd), f.Name()))
	}
	return dups, nil
}

func (h *Held) Start(pid int) error {
	h.pid = pid
	if h.run == nil {
		return nil
	}
	err := h.run.Start(pid)
	if goesOn(err) {
		return nil // Wait finds the next daemon
	}
	return err
}

// Exit is told to the daemon now, and to every later one.
func (h *Held) Exit(e record.Exit) error {
	h.exiting.Do(func() {
		h.mu.Lock()
		h.how = e
		h.mu.Unlock()
		close(h.ended)
	})
	if _, run := h.present(); run != nil {
		_ = run.Exit(e) // a daemon that did not hear it will be replaced
	}
	return nil
}

func (h *Held) present() (*Client, Run) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.client, h.run
}

func (h *Held) Wait() error {
	for {
		err := error(ErrLost)
		if _, run := h.present(); run != nil {
			err = run.Wait()
		}
		if !goesOn(err) {
			return err
		}
		if err := h.findNext(errors.Is(err, ErrLeft)); err != nil {
			return err
		}
	}
}

// goesOn says whether another daemon can go on with the run.
func goesOn(err error) bool {
	return errors.Is(err, ErrLost) || errors.Is(err, ErrLeft)
}

func (h *Held) Detach() {
	h.letGo()
	closeAll(h.attach.files())
}

// letGo leaves the daemon.
func (h *Held) letGo() {
	if c, run := h.present(); run != nil {
		run.Detach()
		c.Close()
	}
}

// findNext attaches to the next daemon, for as long as it takes while the
// service runs.
func (h *Held) findNext(inOrder bool) error {
	h.letGo()
	began, said := time.Now(), false
	var since time.Time // when the run was over
	look := time.NewTimer(0)
	defer look.Stop()
	for wait := firstLook; ; wait = min(2*wait, lastLook) {
		<-look.C
		err := h.tryNext()
		if err == nil {
			return nil
		}
		if since.IsZero() && h.over() {
			since = time.Now()
		}
		if !since.IsZero() {
			if err := h.giveUp(time.Since(since), inOrder); err != nil {
				return err
			}
		}
		if !said && time.Since(began) > sayAfter {
			said = true
			h.next.Say(fmt.Sprintf("the output of %q waits for a daemon: %v", h.attach.Name, err))
		}
		look.Reset(wait)
	}
}

// over says whether nothing is to be expected from the run: it was said to have
// ended, or nobody can write to its streams any more.
func (h *Held) over() bool {
	select {
	case <-h.ended:
		return true
	default:
	}
	if h.next.Stays {
		return false
	}
	fds := make([]unix.PollFd, len(h.attach.Streams))
	for i, f := range h.attach.Streams {
		fds[i].Fd = int32(f.Fd())
	}
	if _, err := unix.Poll(fds, 0); err != nil {
		return false
	}
	for _, fd := range fds {
		if fd.Revents&(unix.POLLHUP|unix.POLLERR) == 0 {
			return false
		}
	}
	return true
}

// giveUp is why the run, which is over for so long, waits for no other daemon.
// One that has ended in order, and left nothing but the exit mark to be done, is
// hardly followed by another.
func (h *Held) giveUp(waited time.Duration, inOrder bool) error {
	n := h.next.Waits()
	switch {
	case waited > linePatience:
		return fmt.Errorf("the daemon is gone, and no other came for %v: %d bytes are lost", linePatience, n)
	case n == 0 && inOrder && waited > markPatience:
		return errors.New("the daemon has ended, and no other came for the exit mark")
	}
	return nil
}

// tryNext attaches to a daemon, if there is one, and tells it what it has to know.
func (h *Held) tryNext() error {
	c, err := h.next.Dial()
	if err != nil {
		return err
	}
	run, err := h.attachTo(c)
	if err == nil {
		err = run.Start(h.pid)
	}
	if err != nil {
		c.Close()
		return err
	}
	h.mu.Lock()
	h.client, h.run = c, run
	how := h.how
	h.mu.Unlock()
	select {
	case <-h.ended:
		_ = run.Exit(how)
	default:
	}
	return nil
}
