package daemon

import (
	"errors"
	"fmt"
	"sync"

	"logfs/cmd/logfs/internal/exit"
	"logfs/rotate"
)

// Start starts the commands of the configuration, and captures its inputs.
func (d *Daemon) Start() {
	d.endStrangers()
	d.reloading.Lock()
	defer d.reloading.Unlock()
	for _, s := range d.list() {
		d.startWays(s)
	}
}

// begin begins a run of a client's, unless the daemon is ending.
func (d *Daemon) begin(r *run, pid int) error {
	d.gate.RLock()
	defer d.gate.RUnlock()
	if d.stopping {
		return errStopping
	}
	r.begin(r.svc.capturing, &r.svc.live, pid)
	return nil
}

// Close ends the commands, takes what is in the pipes, ends the followers,
// unmounts, closes the logs and removes the socket. When hurry is closed, it
// does not wait for commands any more but kills them.
func (d *Daemon) Close(hurry <-chan struct{}) error {
	if d.leaving() {
		return d.leave()
	}
	d.stop()
	ended := make(chan struct{})
	go d.hurryUp(hurry, ended)
	d.reloading.Lock() // one that is under way ends soon
	d.reloading.Unlock()
	d.commands.Wait()
	d.children.Wait()
	d.stopIntakes()
	close(ended)
	return d.finish()
}

// finish ends capture with what the pipes hold and closes all that Open opened.
func (d *Daemon) finish() error {
	d.gate.Lock()
	d.stopping = true
	d.gate.Unlock()
	d.cut()
	for _, s := range d.list() {
		s.log.Release()
	}
	for _, s := range d.list() {
		s.live.Wait()
	}
	d.live.Wait()
	return d.unwind()
}

func (d *Daemon) hurryUp(hurry, ended <-chan struct{}) {
	select {
	case <-hurry:
		close(d.hurry)
	case <-ended:
	}
}

// closeLogs is called when nothing writes to them any more.
func (d *Daemon) closeLogs() error {
	return inParallel(d.list(), func(s *service) error {
		if err := s.log.Close(); err != nil {
			return fmt.Errorf("cannot close the log of service %q: %w", s.name, err)
		}
		return nil
	})
}

// disks is how many logs are worked on at the same time, so that one on a slow
// disk does not hold up all others.
const disks = 32

// inParallel does one thing to all services and joins the errors, in order.
func inParallel(services []*service, do func(*service) error) error {
	var wait sync.WaitGroup
	places := make(chan struct{}, disks)
	errs := make([]error, len(services))
	for i, s := range services {
		places <- struct{}{}
		wait.Go(func() {
			errs[i] = do(s)
			<-places
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

// Rotate begins new files for the services named, or for all.
func (d *Daemon) Rotate(names []string) error {
	return d.each("rotate", names, (*Log).Rotate)
}

// Flush brings the lines of the services named, or of all, to stable storage.
func (d *Daemon) Flush(names []string) error {
	return d.each("flush", names, (*Log).Sync)
}

// each does one thing to all services named, also after an error. If a name is
// unknown it does nothing.
func (d *Daemon) each(verb string, names []string, do func(*Log) error) error {
	services, err := d.named(names)
	if err != nil {
		return err
	}
	err = inParallel(services, func(s *service) error {
		err := do(s.log)
		if err != nil && !(s.isLeaving() && errors.Is(err, rotate.ErrClosed)) {
			return fmt.Errorf("cannot %s the log of service %q: %w", verb, s.name, err)
		}
		return nil
	})
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		return exit.With(exit.Refused, all.Unwrap()[0]) // an error is one line
	}
	return nil
}

func (d *Daemon) named(names []string) ([]*service, error) {
	if len(names) == 0 {
		return d.list(), nil
	}
	services := make([]*service, len(names))
	for i, name := range names {
		s := d.find(name)
		if s == nil {
			return nil, exit.Misusef("no service %q: logfs status lists those there are", name)
		}
		services[i] = s
	}
	return services, nil
}
