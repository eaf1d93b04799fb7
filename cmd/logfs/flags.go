package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"logfs/cmd/logfs/internal/config"
	"logfs/cmd/logfs/internal/control"
	"logfs/cmd/logfs/internal/exit"
)

// socketVariable names the daemon for clients that are given no --socket.
const socketVariable = "LOGFS_SOCKET"

// places are the paths that flags can set. An empty one was not given.
type places struct{ config, mount, store, socket string }

func (p *places) addConfig(f *pflag.FlagSet) {
	f.StringVar(&p.config, "config", "", "read the configuration from `FILE` and from conf.d beside it"+byDefault(config.Path()))
}

func (p *places) addMount(f *pflag.FlagSet, what string) {
	f.StringVar(&p.mount, "mount", "", what)
}

func (p *places) addStore(f *pflag.FlagSet) {
	f.StringVar(&p.store, "store", "", "keep the files of the logs under `DIR`"+byDefault(config.Default().Store))
}

// addClientSocket is for commands that look for a daemon.
func (p *places) addClientSocket(f *pflag.FlagSet) {
	f.StringVar(&p.socket, "socket", "", "reach the daemon at `FILE`"+byDefault("$"+socketVariable+", then "+config.Default().Socket))
}

func byDefault(path string) string {
	if path == "" {
		return ""
	}
	return " (default " + path + ")"
}

// load reads the configuration; a file that was not asked for may be missing.
func (p *places) load() (config.Config, error) {
	if p.config != "" {
		return checked(config.Load(p.config, false))
	}
	return checked(config.Load(config.Path(), true))
}

// checked says whether a mistake in the configuration is misuse: that it could
// not be read is not, unless it is not there.
func checked(c config.Config, err error) (config.Config, error) {
	var system *fs.PathError
	if errors.As(err, &system) && !errors.Is(err, fs.ErrNotExist) {
		return c, exit.With(exit.Refused, err)
	}
	return c, exit.With(exit.Misuse, err)
}

// apply puts the paths given by flags into c.
func (p *places) apply(c *config.Config) error {
	if err := place(&c.Mount, p.mount, "mount"); err != nil {
		return err
	}
	if err := place(&c.Store, p.store, "store"); err != nil {
		return err
	}
	return place(&c.Socket, p.socket, "socket")
}

// place makes path the one that a flag has given, if it has, and absolute.
func place(path *string, given, flag string) error {
	if given != "" {
		*path = given
	}
	if *path == "" {
		return exit.Misusef("no default for --%s: XDG_RUNTIME_DIR or HOME is not set; give --%s", flag, flag)
	}
	abs, err := filepath.Abs(*path)
	if err != nil {
		return exit.Refusedf("cannot find the directory of %q: %w", *path, err)
	}
	*path = abs
	return nil
}

// dial connects to the daemon that flag, environment and configuration name.
func (p *places) dial() (*control.Client, error) {
	path := p.clientSocket()
	if path == "" {
		return nil, exit.Misusef("no default for --socket: XDG_RUNTIME_DIR is not set; give --socket or %s", socketVariable)
	}
	c, err := control.Dial(path)
	var none *control.UnreachableError
	if errors.As(err, &none) {
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) {
			return nil, exit.Refusedf("no daemon listens on %q: start one with logfs daemon, or name its --socket", path)
		}
		return nil, exit.With(exit.Refused, err)
	}
	return c, err
}

func (p *places) clientSocket() string {
	if p.socket != "" {
		return p.socket
	}
	if path := os.Getenv(socketVariable); path != "" {
		return path
	}
	// A configuration with a mistake is the daemon's business.
	if c, err := config.Load(config.Path(), true); err == nil {
		return c.Socket
	}
	return config.Default().Socket
}

// noArgs refuses arguments of a command that takes none.
func noArgs(f *pflag.FlagSet) error {
	if f.NArg() > 0 {
		return exit.Misusef("unexpected argument %q: %s takes none", f.Arg(0), f.Name())
	}
	return nil
}
