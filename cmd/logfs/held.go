package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"logfs/capture"
	"logfs/cmd/logfs/internal/control"
	"logfs/cmd/logfs/internal/exit"
	"logfs/ring/record"
)

// How often a daemon that is gone is looked for, and for how long once the run
// has ended: then its last lines are all that is waited for.
const (
	firstLook   = 20 * time.Millisecond
	lastLook    = time.Second
	sayAfter    = 5 * time.Second
	endPatience = 10 * time.Second
)

// A heldRun is a run whose pipes this process keeps open, with a Hold, so that
// the daemon may end, be killed and come back: what the service says meanwhile
// waits in its pipe. The next daemon goes on with the same run.
//
// One goroutine may be in Wait while another calls Exit.
type heldRun struct {
	dial   func() (way, error)
	attach control.Attach // its files are ours; daemons get duplicates
	pid    int
	say    io.Writer

	ended   chan struct{} // closed by Exit
	exiting sync.Once

	mu  sync.Mutex // guards the following
	way way
	run control.Run
	how record.Exit // valid when ended is closed
}

// holdRun takes the name for a run that is held here. It owns the streams.
func holdRun(w way, dial func() (way, error), a control.Attach, say io.Writer) (control.Run, error) {
	hold, err := capture.NewHold()
	if err != nil {
		closeFiles(a.Streams)
		return nil, exit.Refusedf("%w", err)
	}
	a.Hold = hold
	h := &heldRun{dial: dial, attach: a, say: say, ended: make(chan struct{}), way: w}
	if h.run, err = h.attachTo(w); err != nil {
		h.closeFiles()
		return nil, err
	}
	return h, nil
}

func (h *heldRun) closeFiles() {
	closeFiles(h.attach.Streams)
	closeFiles(h.attach.Hold)
}

func (h *heldRun) attachTo(w way) (control.Run, error) {
	a := h.attach
	var err error
	if a.Streams, err = duplicates(a.Streams); err != nil {
		return nil, err
	}
	if a.Hold, err = duplicates(a.Hold); err != nil {
		closeFiles(a.Streams)
		return nil, err
	}
	return w.Attach(a)
}

func duplicates(files []*os.File) (dups []*os.File, err error) {
	for _, f := range files {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			closeFiles(dups)
			return nil, exit.Refusedf("cannot duplicate a descriptor: %w", err)
		}
		dups = append(dups, os.NewFile(uintptr(fd), f.Name()))
	}
	return dups, nil
}

func (h *heldRun) Start(pid int) error {
	h.pid = pid
	err := h.run.Start(pid)
	if goesOn(err) {
		return nil // Wait finds the next daemon
	}
	return err
}

// Exit is told to the daemon now, and to every later one.
func (h *heldRun) Exit(e record.Exit) error {
	h.exiting.Do(func() {
		h.mu.Lock()
		h.how = e
		h.mu.Unlock()
		close(h.ended)
	})
	_, run := h.present()
	_ = run.Exit(e) // one who did not hear it will be replaced
	return nil
}

func (h *heldRun) present() (way, control.Run) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.way, h.run
}

func (h *heldRun) Wait() error {
	for {
		_, run := h.present()
		err := run.Wait()
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
	return errors.Is(err, control.ErrLost) || errors.Is(err, control.ErrLeft)
}

func (h *heldRun) Detach() {
	w, run := h.present()
	run.Detach()
	h.closeFiles()
	_ = w.close()
}

// findNext attaches to the next daemon, for as long as it takes while the
// service runs.
func (h *heldRun) findNext() error {
	w, run := h.present()
	run.Detach()
	_ = w.close()
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
			fmt.Fprintf(h.say, "logfs: the output of %q waits for a daemon: %s\n", h.attach.Name, oneLine(err))
		}
		look.Reset(wait)
	}
}

// tryNext attaches to a daemon, if there is one, and tells it what it has to know.
func (h *heldRun) tryNext() error {
	w, err := h.dial()
	if err != nil {
		return err
	}
	run, err := h.attachTo(w)
	if err == nil {
		err = run.Start(h.pid)
	}
	if err != nil {
		_ = w.close()
		return err
	}
	h.mu.Lock()
	h.way, h.run = w, run
	how := h.how
	h.mu.Unlock()
	select {
	case <-h.ended:
		_ = run.Exit(how)
	default:
	}
	return nil
}
