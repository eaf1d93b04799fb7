package main

import (
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"logfs/cmd/logfs/internal/control"
	"logfs/cmd/logfs/internal/exit"
)

var leaveCommand = command{
	name:    "leave",
	summary: "have the daemon end and leave everything to the next",
	about: `
Services run on, and readers wait for the next daemon and read on. Their mount
waits a minute for it. It is for whoever starts the daemon again: a supervisor,
or an upgrade. Returns when the daemon has ended.`,
	examples: []string{"logfs leave", "logfs leave && logfs daemon    with a new version, for instance"},
	setup: func(f *pflag.FlagSet) func(*console, *pflag.FlagSet) (int, error) {
		var p places
		p.addClientSocket(f)
		return func(_ *console, f *pflag.FlagSet) (int, error) {
			if err := noArgs(f); err != nil {
				return 0, err
			}
			d, err := p.dial()
			if err != nil {
				return 0, err
			}
			defer d.Close()
			return 0, leave(d)
		}
	},
}

func leave(d *control.Client) error {
	process, err := d.OpenDaemon()
	if err != nil {
		return exit.With(exit.Refused, err)
	}
	defer unix.Close(process)
	if err := d.Leave(); err != nil {
		return err
	}
	ended := []unix.PollFd{{Fd: int32(process), Events: unix.POLLIN}}
	for until := time.Now().Add(leavePatience); ; {
		switch n, err := unix.Poll(ended, int(max(0, time.Until(until)).Milliseconds())); {
		case err == unix.EINTR:
		case n == 1:
			return nil
		default:
			return exit.Refusedf("the daemon leaves, and has not ended within %v", leavePatience)
		}
	}
}
