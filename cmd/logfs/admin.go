package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"logfs/cmd/logfs/internal/config"
	"logfs/cmd/logfs/internal/control"
	"logfs/cmd/logfs/internal/exit"
	"logfs/fs"
)

var rotateCommand = command{
	name: "rotate", args: "[NAME...]",
	summary: "begin new files on disk",
	about: `
Makes the current file of the services named an archive and begins a new one;
without NAME, of all services. Readers of the mount notice nothing.`,
	examples: []string{"logfs rotate", "logfs rotate web db"},
	setup:    asking(func(d *control.Client, names []string) error { return d.Rotate(names) }),
}

var flushCommand = command{
	name: "flush", args: "[NAME...]",
	summary: "bring everything to stable storage",
	about: `
Returns when the lines taken so far are on disk and would survive a loss of
power; without NAME, those of all services.`,
	examples: []string{"logfs flush", "logfs flush web && reboot"},
	setup:    asking(func(d *control.Client, names []string) error { return d.Flush(names) }),
}

// asking is the setup of a command that asks the daemon one thing about the
// services named.
func asking(ask func(*control.Client, []string) error) func(*pflag.FlagSet) func(*console, *pflag.FlagSet) (int, error) {
	return func(f *pflag.FlagSet) func(*console, *pflag.FlagSet) (int, error) {
		var p places
		p.addClientSocket(f)
		return func(_ *console, f *pflag.FlagSet) (int, error) {
			for _, name := range f.Args() {
				if err := config.CheckName(name); err != nil {
					return 0, exit.With(exit.Misuse, err)
				}
			}
			d, err := p.dial()
			if err != nil {
				return 0, err
			}
			defer d.Close()
			return 0, ask(d, f.Args())
		}
	}
}

var statusCommand = command{
	name:    "status",
	summary: "one line for each service",
	about: `
Prints the same table as the file status of the mount: name, state, run, pid,
first and last number in memory, lines and bytes in memory, bytes on disk, lines
the disk lost, readers now, the age of the last line, bytes that readers keep in
memory beyond the service's own, and readers refused over a limit. Every field is
one word; "-" is nothing.

With --limits it is a table of the limits of the whole daemon: the key that sets
each, how much is used, how much there is, and how often it was in the way.`,
	examples: []string{"logfs status", "logfs status | column -t", "logfs status | awk '$2 == \"failed\" { print $1 }'",
		"logfs status --limits | awk '$4 > 0'"},
	setup: func(f *pflag.FlagSet) func(*console, *pflag.FlagSet) (int, error) {
		var p places
		p.addClientSocket(f)
		limits := f.Bool("limits", false, "print the limits of the daemon instead")
		return func(c *console, f *pflag.FlagSet) (int, error) {
			if err := noArgs(f); err != nil {
				return 0, err
			}
			d, err := p.dial()
			if err != nil {
				return 0, err
			}
			defer d.Close()
			if *limits {
				return 0, d.Limits(c.out)
			}
			return 0, d.Status(c.out)
		}
	},
}

var checkCommand = command{
	name:    "check",
	summary: "look for mistakes in the configuration",
	about: `
Reads the configuration and says all that is wrong with it, a line for each
mistake, with file, line and what is accepted, or how many services it has.
Nothing is started or changed.`,
	examples: []string{"logfs check", "logfs check --config ./logfs.toml"},
	setup: func(f *pflag.FlagSet) func(*console, *pflag.FlagSet) (int, error) {
		var p places
		p.addConfig(f)
		return func(c *console, f *pflag.FlagSet) (int, error) {
			if err := noArgs(f); err != nil {
				return 0, err
			}
			cfg, err := p.load()
			if err != nil {
				return 0, err
			}
			files := strings.Join(cfg.Files, ", ")
			if files == "" {
				files = "no configuration"
			}
			_, err = fmt.Fprintf(c.out, "%s: %s, no mistakes\n", files, plural(len(cfg.Services), "service"))
			return 0, err
		}
	},
}

var unmountCommand = command{
	name: "unmount", args: "DIR",
	summary: "take a mount away, also a dead one",
	about: `
Unmounts the logs shown on DIR: what a killed daemon has left, or the mount of a
running one, whose capture goes on without it. It refuses while files are open.`,
	examples: []string{"logfs unmount /mnt/logs"},
	setup: func(*pflag.FlagSet) func(*console, *pflag.FlagSet) (int, error) {
		return func(_ *console, f *pflag.FlagSet) (int, error) {
			if f.NArg() != 1 {
				return 0, exit.Misusef("want logfs unmount DIR; see logfs help unmount")
			}
			return 0, unmount(f.Arg(0))
		}
	},
}

func unmount(dir string) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return exit.Refusedf("cannot find %q: %w", dir, err)
	}
	if ours, err := isMount(abs); err != nil {
		return exit.With(exit.Refused, err)
	} else if !ours {
		return exit.Misusef("nothing to unmount on %q: want the mount point of a logfs", dir)
	}
	// First without a look at it: it may wait for its next daemon.
	err = fs.Unmount(abs)
	if err == nil {
		return nil
	}
	if cleared, stale := fs.ClearStale(abs); cleared || stale != nil {
		return exit.With(exit.Refused, stale)
	}
	if errors.Is(err, unix.EBUSY) {
		return exit.Refusedf("cannot unmount %q: files of it are open; end their readers, or the daemon", dir)
	}
	return exit.With(exit.Refused, err)
}

// isMount says whether the mount table has a logfs on dir. Asking the mount
// itself would wait for a daemon that is stopped.
func isMount(dir string) (bool, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false, fmt.Errorf("cannot read the mount table: %w", err)
	}
	for line := range strings.Lines(string(table)) {
		place, kind, _ := strings.Cut(line, " - ")
		if f := strings.Fields(place); len(f) > 4 && unescape.Replace(f[4]) == dir && strings.HasPrefix(kind, "fuse.logfs ") {
			return true, nil
		}
	}
	return false, nil
}

// unescape undoes what the kernel does to blanks in the mount table.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
