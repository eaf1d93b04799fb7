package daemon

import (
	"errors"
	"fmt"

	"logfs/cmd/logfs/internal/exit"
)

// Start starts the commands of the configuration.
func (d *Daemon) Start() {
	for _, s := range d.list() {
		if s.settings.Command != nil {
			d.commands.Go(func() { d.supervise(s) })
		}
	}
}

// begin begins a run of a client's, unless the daemon is ending.
func (d *Daemon) begin(r *run, pid int) error {
	d.gate.RLock()
	defer d.gate.RUnlock()
	if d.stopping {
		return errStopping
	}
	r.begin(d.capturing, &d.live, pid)
	return nil
}

// Close ends the commands, takes what is in the pipes, ends the followers,
// unmounts, closes the logs and removes the socket. When hurry is closed, it
// does not wait for commands any more but kills them.
func (d *Daemon) Close(hurry <-chan struct{}) error {
	d.stop()
	ended := make(chan struct{})
	go d.hurryUp(hurry, ended)
	d.commands.Wait()
	d.children.Wait()
	close(ended)
	return d.finish()
}

// finish ends capture with what the pipes hold and closes all that Open opened.
func (d *Daemon) finish() error {
	d.gate.Lock()
	d.stopping = true
	d.gate.Unlock()
	d.cut()
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
func (d *Daemon) closeLogs() (err error) {
	for _, s := range d.list() {
		if cerr := s.log.Close(); cerr != nil {
			err = errors.Join(err, fmt.Errorf("cannot close the log of service %q: %w", s.settings.Name, cerr))
		}
	}
	return err
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
func (d *Daemon) each(verb string, names []string, do func(*Log) error) (err error) {
	services, err := d.named(names)
	if err != nil {
		return err
	}
	for _, s := range services {
		if derr := do(s.log); derr != nil && err == nil {
			err = exit.Refusedf("cannot %s the log of service %q: %w", verb, s.settings.Name, derr)
		}
	}
	return err
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
