package main

import (
	"errors"
	"io"
	"os"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"logfs/cmd/logfs/internal/control"
	"logfs/cmd/logfs/internal/exit"
	"logfs/ring/record"
)

var pipeCommand = command{
	name:    "pipe",
	args:    "NAME",
	summary: "have a daemon capture standard input",
	about: `
Hands standard input over to the service NAME of the daemon and waits for its
end. TERM and HUP end it sooner, after what has been written to the pipe; so
does ^C, the first of which is left to the writer if standard input is a pipe.

With --mount no daemon is needed: this command serves the one service itself,
for as long as there is input.`,
	examples: []string{
		"./server 2>&1 | logfs pipe web",
		"exec logfs pipe web    as the log/run of a service directory",
	},
	setup: func(f *pflag.FlagSet) func(*console, *pflag.FlagSet) (int, error) {
		var p places
		p.addAlone(f)
		return func(c *console, f *pflag.FlagSet) (int, error) {
			if f.NArg() != 1 {
				return 0, exit.Misusef("want logfs pipe NAME; see logfs help pipe")
			}
			return 0, runPipe(c, p, f.Arg(0), os.Stdin)
		}
	},
}

func runPipe(c *console, p places, name string, stdin *os.File) (err error) {
	way, err := p.connect(c, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, way.close()) }()
	terminal := isTerminal(stdin)
	if terminal {
		if stdin, err = relay(stdin); err != nil {
			return err
		}
	}
	r, err := p.attach(c, way, control.Attach{Name: name, Kind: control.Pipe, Streams: []*os.File{stdin}})
	if err != nil {
		return err
	}
	defer r.Detach()
	signals := catch(unix.SIGTERM, unix.SIGHUP, unix.SIGINT)
	defer signals.stop()
	if err := r.Start(os.Getpid()); err != nil {
		return exit.Refusedf("cannot begin capture: %w", err)
	}
	go signals.end(r, terminal)
	if err := r.Wait(); err != nil {
		return exit.Refusedf("capture of %q has ended before its input: %w", name, err)
	}
	return nil
}

// end ends the run at a signal. The first ^C in a pipeline is for the writer:
// what it says about its end is still wanted, and its end is ours.
func (s signals) end(r control.Run, first bool) {
	for sig := range s.received {
		if sig == unix.SIGINT && !first {
			first = true
			continue
		}
		_ = r.Exit(record.Exit{}) // Wait has the same error
	}
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// relay copies a terminal into a pipe: only the processes of its session can
// read it, and the daemon is not one of them.
func relay(terminal *os.File) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, exit.Refusedf("cannot make a pipe: %w", err)
	}
	go func() {
		defer w.Close()
		_, _ = io.Copy(w, terminal) // an error is an end like any other
	}()
	return r, nil
}
