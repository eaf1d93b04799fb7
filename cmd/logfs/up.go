package main

import (
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/spf13/pflag"

	"logfs/cmd/logfs/internal/config"
	"logfs/cmd/logfs/internal/daemon"
)

// upSocket is in the store, where no service can have its name: those begin
// with a letter or digit.
const upSocket = ".control"

var upCommand = command{
	name:    "up",
	args:    "[-f Procfile]",
	summary: "the same for the services of a Procfile, in one terminal",
	about: `
Starts the services of a Procfile, lines of NAME: COMMAND, and shows what they
say. A service that has ended is not started again; when all have ended, their
logs stay readable until ^C. The default mount point is made if it is missing;
one that is given must be an empty directory.

Signals: as for logfs daemon, except that HUP, the end of the terminal, ends it.`,
	examples: []string{
		"logfs up",
		"logfs up -f dev.Procfile --mount ~/logs",
		"LOGFS_SOCKET=STORE/" + upSocket + " logfs status    ask it, in another terminal",
	},
	setup: func(f *pflag.FlagSet) func(*console, *pflag.FlagSet) (int, error) {
		var p places
		var r readiness
		procfile := f.StringP("procfile", "f", "Procfile", "start the services of `FILE`")
		p.addMount(f, "show the logs under `DIR`"+byDefault(config.Default().Mount))
		p.addStore(f)
		f.StringVar(&p.socket, "socket", "", "listen for clients on `FILE` (default "+upSocket+" in the store)")
		r.add(f)
		return func(c *console, f *pflag.FlagSet) (int, error) { return 0, runUp(c, f, *procfile, p, r) }
	},
}

func runUp(c *console, f *pflag.FlagSet, procfile string, p places, r readiness) error {
	if err := noArgs(f); err != nil {
		return err
	}
	if err := r.check(f); err != nil {
		return err
	}
	cfg, err := checked(config.LoadProcfile(procfile))
	if err != nil {
		return err
	}
	if p.socket == "" {
		cfg.Socket = filepath.Join(firstOf(p.store, cfg.Store), upSocket)
	}
	if err := p.apply(&cfg); err != nil {
		return err
	}
	s := serving{ready: r, options: daemon.Options{
		Config:    cfg,
		MakeMount: cfg.Mount == config.Default().Mount,
		Log:       newLog(c.err, slog.LevelInfo),
	}}
	s.begun = func(d *daemon.Daemon) { greet(c, cfg, d.Mounted()) }
	return s.serve()
}

func firstOf(given, fallback string) string {
	if given != "" {
		return given
	}
	return fallback
}

// greet says where to look.
func greet(c *console, cfg config.Config, mounted bool) {
	name := cfg.Services[0].Name
	where, try := cfg.Store, filepath.Join(cfg.Store, name, "current")
	if mounted {
		where, try = cfg.Mount, filepath.Join(cfg.Mount, name, "follow")
	}
	fmt.Fprintf(c.err, "logfs: %s on %s; try: tail -f %s\n", plural(len(cfg.Services), "service"), where, try)
}
