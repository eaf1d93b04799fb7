package daemon

import (
	"errors"
	"os"
	"sync"

	"logfs/capture"
	"logfs/cmd/logfs/internal/config"
	"logfs/cmd/logfs/internal/control"
	"logfs/cmd/logfs/internal/exit"
	"logfs/ring/record"
)

var errStopping = errors.New("the daemon is stopping")

// Attach takes the name of a service for a run of a client's. A name that is
// new gets a log with the settings of [defaults].
func (d *Daemon) Attach(a control.Attach) (control.Run, error) {
	s, err := d.reserve(a)
	if err != nil {
		closeAll(a.Streams)
		closeAll(a.Hold)
		return nil, err
	}
	// Not before: a daemon that refuses the run has nothing to do with its Hold.
	hold, err := openHold(a.Hold)
	if err != nil {
		s.release()
		closeAll(a.Streams)
		return nil, err
	}
	r := d.newRun(s, a.Kind, a.Streams)
	r.hold = hold
	if a.Service {
		r.hurry = s.hurry(r.hurry)
	}
	if a.Kind == control.Written {
		r.arrived = s.writers.expect()
	}
	return &attached{run: r, daemon: d, own: a.Service, about: a.About}, nil
}

func openHold(files []*os.File) (*capture.Hold, error) {
	if len(files) == 0 {
		return nil, nil
	}
	hold, err := capture.OpenHold(files)
	if err != nil {
		return nil, exit.With(exit.Misuse, err)
	}
	return hold, nil
}

func (d *Daemon) reserve(a control.Attach) (*service, error) {
	if a.Kind == control.Written && len(a.Hold) > 0 {
		return nil, exit.Misusef("attach of kind %q with a hold: what is written to the mount is not held", a.Kind)
	}
	d.gate.RLock()
	defer d.gate.RUnlock()
	if d.stopping {
		return nil, exit.With(exit.Refused, errStopping)
	}
	if a.Kind == control.Written && d.mounted() == nil {
		return nil, exit.Refusedf("cannot have a command write to the mount: nothing is mounted")
	}
	s, err := d.service(a.Name)
	if err != nil {
		return nil, err
	}
	return s, s.take(a.Service)
}

// service finds the service called name, or makes it.
func (d *Daemon) service(name string) (*service, error) {
	if err := config.CheckName(name); err != nil {
		return nil, exit.With(exit.Misuse, err)
	}
	d.opening.Lock()
	defer d.opening.Unlock()
	if s := d.find(name); s != nil {
		return s, nil
	}
	return d.openNew(name)
}

// attached is a run of a client's.
type attached struct {
	*run
	daemon *Daemon
	own    bool      // of a service of the configuration
	about  string    // what its command is
	once   sync.Once // Start or Detach, whichever comes first
}

// Mount implements control.Mounted.
func (a *attached) Mount() string { return a.daemon.o.Config.Mount }

// Start begins the run. The command of the daemon's own is a process that it can
// end.
func (a *attached) Start(pid int) error {
	err := errors.New("the run was started or given up already")
	a.once.Do(func() {
		command := a.own && a.kind == control.Command
		if command && pid <= 1 {
			err = exit.Misusef("cannot attend to process %d: want that of a command", pid)
		} else {
			err = a.daemon.begin(a.run, pid)
		}
		if err != nil {
			a.giveUp()
		} else if h := (broughtRun{a.run, pid, a.about}); command && a.svc.config().Command == nil {
			go a.daemon.endStray(a.svc, h)
		} else if command {
			a.svc.bring(h)
		}
	})
	return err
}

// Exit says how the client's command ended. A pipe has no status: its run ends
// with what it holds now.
func (a *attached) Exit(e record.Exit) error {
	if a.kind == control.Pipe {
		if a.cancel != nil { // else the run was over already, under another daemon
			a.cancel(capture.ErrOver)
		}
		return nil
	}
	a.exited(e)
	return nil
}

// Wait waits until the exit mark is in.
func (a *attached) Wait() error {
	<-a.ended
	return a.err
}

// Detach leaves the run of a command to its pipes, and ends that of a pipe with
// what it holds now: whoever has it will bring it again. Before Start it takes
// the reservation back.
func (a *attached) Detach() {
	a.once.Do(a.giveUp)
	if a.cancel != nil && a.kind == control.Pipe {
		a.cancel(capture.ErrOver)
	}
	a.say(word{linger: forever})
}

func (a *attached) giveUp() {
	closeAll(a.streams)
	a.hold.Close()
	a.svc.release()
	if a.arrived != nil {
		a.arrived()
	}
}
