package main

import (
	"errors"
	"log/slog"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"logfs/cmd/logfs/internal/config"
	"logfs/cmd/logfs/internal/control"
	"logfs/cmd/logfs/internal/daemon"
	"logfs/cmd/logfs/internal/exit"
)

var daemonCommand = command{
	name:    "daemon",
	summary: "capture and show the services of the configuration, and those of clients",
	about: `
Runs in the foreground, starts the services of the configuration, and takes
those that "logfs run" and "logfs pipe" bring. Logs that are in the store
already are shown too. The default mount point is made if it is missing; one
that is given must be an empty directory.

If FUSE is missing, capture and the files in the store work all the same.

With --replace, a running daemon leaves everything to this one: services run on,
and readers read on. The same happens when it is killed and started again.

Signals: TERM or INT end it: services get TERM, and KILL after 5 s, or at once
at a second signal; readers of follow get end of file. ALRM rotates all logs,
USR1 brings all to stable storage. HUP reads the configuration again: services
come and go, and settings change, while all others go on. Only another command,
dir, env, user or restart restarts a command. With a mistake in the
configuration the old settings stay; so it is with another mount, store or
socket, which needs a restart of the daemon.`,
	examples: []string{
		"logfs daemon",
		"logfs daemon --config ./logfs.toml --mount /tmp/logs --store /tmp/store --socket /tmp/control",
		"logfs daemon --replace    after an upgrade",
		"kill -ALRM $(pidof logfs)    rotate all logs",
	},
	setup: func(f *pflag.FlagSet) func(*console, *pflag.FlagSet) (int, error) {
		var p places
		var r readiness
		p.addConfig(f)
		p.addMount(f, "show the logs under `DIR`"+byDefault(config.Default().Mount))
		p.addStore(f)
		f.StringVar(&p.socket, "socket", "", "listen for clients on `FILE`"+byDefault(config.Default().Socket))
		r.add(f)
		replace := f.Bool("replace", false, "take over from the running daemon, if there is one: readers and services go on")
		return func(c *console, f *pflag.FlagSet) (int, error) { return 0, runDaemon(c, f, p, r, *replace) }
	},
}

func runDaemon(c *console, f *pflag.FlagSet, p places, r readiness, replace bool) error {
	if err := noArgs(f); err != nil {
		return err
	}
	if err := r.check(f); err != nil {
		return err
	}
	cfg, err := p.load()
	if err != nil {
		return err
	}
	if err := p.apply(&cfg); err != nil {
		return err
	}
	reload := func() (config.Config, error) {
		c, err := p.load()
		if err == nil {
			err = p.apply(&c)
		}
		return c, err
	}
	s := serving{ready: r, reload: reload, options: daemon.Options{
		Config: cfg, Adopt: true, Holder: "/proc/self/exe", Files: takeFileStore(),
		MakeMount: cfg.Mount == config.Default().Mount,
		Log:       newLog(c.err, slog.LevelInfo),
	}}
	if replace {
		if err := s.replace(); err != nil {
			return err
		}
	}
	return s.serve()
}

// leavePatience is how long a daemon may take to leave: its disks may be slow.
const leavePatience = 30 * time.Second

// replace has the running daemon leave.
func (s *serving) replace() error {
	d, err := control.Dial(s.options.Config.Socket)
	var none *control.UnreachableError
	if errors.As(err, &none) && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED)) {
		return nil
	}
	if err != nil {
		return exit.With(exit.Refused, err)
	}
	defer d.Close()
	// One that has nothing left to do can be gone before it has answered.
	if err := d.Leave(); err != nil && !errors.Is(err, control.ErrLost) {
		return exit.Refusedf("cannot take over from the running daemon: %w", err)
	}
	s.options.Await = leavePatience
	return nil
}
