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

// How often a daemon that is gone is looked for, and for how long once the run
// has ended: then its last lines are all that is waited for.
const (
	firstLook   = 20 * time.Millisecond
	lastLook    = 250 * time.Millisecond
	sayAfter    = 5 * time.Second
	endPatience = 10 * time.Second
)

// A Held is a run whose pipes this process keeps open, with a Hold, so that the
// daemon may end, be killed and come back: what the service says meanwhile waits
// in its pipe. The next daemon goes on with the same run.
//
// One goroutine may be in Wait while another calls Exit. Start comes before.
type Held struct {
	dial   func() (*Client, error)
	attach Attach // its files are ours; daemons get duplicates
	pid    int
	say    func(string)

	ended   chan struct{} // closed by Exit
	exiting sync.Once

	mu     sync.Mutex // guards the following
	client *Client
	run    Run
	how    record.Exit // valid when ended is closed
}

// Hold takes the name for a run that is held here, and owns the connection and
// the files from now on. Later daemons are found by dial; say is told if that
// takes long.
func Hold(c *Client, dial func() (*Client, error), a Attach, say func(string)) (*Held, error) {
	h := HoldLater(dial, a, say)
	h.client = c
	var err error
	if h.run, err = h.attachTo(c); err != nil {
		closeAll(a.files())
		return nil, err
	}
	return h, nil
}

// HoldLater is Hold for a run that is begun in any case: Wait takes the name.
func HoldLater(dial func() (*Client, error), a Attach, say func(string)) *Held {
	return &Held{dial: dial, attach: a, say: say, ended: make(chan struct{})}
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
		if err := h.findNext(); err != nil {
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
func (h *Held) findNext() error {
	h.letGo()
	began, said := time.Now(), false
	var patience <-chan time.Time
	ended := h.ended
	look := time.NewTimer(0)
	defer look.Stop()
	for wait := firstLook; ; wait = min(2*wait, lastLook) {
		select {
		case <-look.C:
		case <-ended:
			ended, patience = nil, time.After(endPatience)
			continue
		case <-patience:
			return fmt.Errorf("the daemon is gone, and no other came for %v", endPatience)
		}
		err := h.tryNext()
		if err == nil {
			return nil
		}
		if !said && time.Since(began) > sayAfter {
			said = true
			h.say(fmt.Sprintf("the output of %q waits for a daemon: %v", h.attach.Name, err))
		}
		look.Reset(wait)
	}
}

// tryNext attaches to a daemon, if there is one, and tells it what it has to know.
func (h *Held) tryNext() error {
	c, err := h.dial()
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
