package main

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/pflag"

	"logfs/capture"
	"logfs/cmd/logfs/internal/config"
	"logfs/cmd/logfs/internal/control"
	"logfs/cmd/logfs/internal/daemon"
	"logfs/cmd/logfs/internal/exit"
)

// A way leads to a daemon: a running one, or one inside this process.
type way interface {
	Attach(control.Attach) (control.Run, error)
	close() error
}

type client struct{ *control.Client }

// close has nothing to say: the connection may have ended with its run.
func (c client) close() error {
	c.Close()
	return nil
}

type inside struct{ *daemon.Daemon }

func (i inside) close() error { return i.Close(nil) }

// addAlone is for commands that reach a daemon or serve one service alone.
func (p *places) addAlone(f *pflag.FlagSet) {
	p.addClientSocket(f)
	p.addMount(f, "use no daemon but show this one service under `DIR`, an empty directory")
	p.addStore(f)
}

// connect reaches the daemon, or begins one for this service alone.
func (p *places) connect(c *console, name string) (way, error) {
	if err := config.CheckName(name); err != nil {
		return nil, exit.With(exit.Misuse, err)
	}
	switch {
	case p.mount != "" && p.socket != "":
		return nil, exit.Misusef("--mount and --socket exclude each other: want the one or the other")
	case p.mount != "":
		return p.alone(c, name)
	case p.store != "":
		return nil, exit.Misusef("--store is for use with --mount: the daemon has a store of its own")
	}
	d, err := p.dial()
	if err != nil {
		return nil, err
	}
	return client{d}, nil
}

// attach takes a name for a run: one that outlives its daemon, unless that is
// this process.
func (p *places) attach(c *console, w way, a control.Attach) (control.Run, error) {
	there, ok := w.(client)
	if !ok {
		return w.Attach(a)
	}
	if err := withHold(&a); err != nil {
		return nil, err
	}
	return control.Hold(there.Client, a, control.Next{
		Dial:  p.dial,
		Say:   func(text string) { fmt.Fprintf(c.err, "logfs: %s\n", text) },
		Waits: waits(a),
	})
}

// withHold makes the Hold of a run. After an error the streams are closed.
func withHold(a *control.Attach) (err error) {
	if a.Hold, err = capture.NewHold(); err != nil {
		closeFiles(a.Streams)
		return exit.Refusedf("%w", err)
	}
	return nil
}

func waits(a control.Attach) func() int {
	return func() int { return capture.Waiting(a.Hold, a.Streams) }
}

// alone begins a daemon inside this process, for one service with the built-in
// settings. The store is shared: others may use it for other services.
func (p *places) alone(c *console, name string) (way, error) {
	cfg := config.Default()
	cfg.Socket = ""
	settings := cfg.Defaults
	settings.Name = name
	cfg.Services = []config.Service{settings}
	err := errors.Join(place(&cfg.Mount, p.mount, "mount"), place(&cfg.Store, p.store, "store"))
	if err != nil {
		return nil, err
	}
	prepare()
	d, err := daemon.Open(daemon.Options{Config: cfg, Share: true, Log: newLog(c.err, slog.LevelWarn)})
	if err != nil {
		return nil, err
	}
	return inside{d}, nil
}
