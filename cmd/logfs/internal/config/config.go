package config

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// Restart says when a command that has ended is started again.
type Restart string

const (
	Always    Restart = "always"
	OnFailure Restart = "on-failure"
	Never     Restart = "never"
)

// Period says when time makes current an archive: None, Hourly or Daily.
type Period string

const (
	Hourly Period = "hourly"
	Daily  Period = "daily"
)

// Compression says how archives are compressed: None, Gzip or Zstd.
type Compression string

const (
	Gzip Compression = "gzip"
	Zstd Compression = "zstd"
)

// None is no Period, and no Compression.
const None = "none"

// Full says what happens to lines that a full disk does not take in time.
type Full string

const (
	Drop  Full = "drop"
	Block Full = "block"
)

// Service is the settings of one service, defaults filled in. The meaning and
// the limits of each field are in Keys.
type Service struct {
	Name       string
	RingLines  int
	RingBytes  int64
	Size       int64
	Rotate     Period
	Keep       int
	Total      int64         // 0: no limit
	Age        time.Duration // 0: no limit
	Min        int
	Compress   Compression
	Full       Full
	LineLimit  int
	Sync       time.Duration
	Marks      bool
	Owner      string // name or number; empty: not configured
	Group      string // name or number; empty: not configured
	Mode       uint32 // permission bits of the service's directory
	ModeSet    bool   // Mode is configured
	Command    []string
	Fifo       string // path; empty: none
	Syslog     string // path; empty: none
	InputOwner string // as Owner, of the FIFO or socket
	InputGroup string
	InputMode  uint32 // permission bits; 0: not configured
	Dir        string
	Env        []string // "NAME=VALUE", sorted, no name twice
	User       string
	Restart    Restart
	Backoff    time.Duration
	BackoffMax time.Duration
}

// Config is the settings of a daemon.
type Config struct {
	Mount, Store, Socket string // absolute and clean; empty: no default for this user
	ListFollow           bool
	Limits               Limits
	Defaults             Service   // Name and Command are empty
	Services             []Service // sorted by name
	Files                []string  // the files read, in order

	lines map[string]int // of the top-level keys in the main file, which is the first; nil without one
}

// CheckFixed reports what c has otherwise than running, and a running daemon
// cannot change: its places. The error is Errors.
func (c Config) CheckFixed(running Config) error {
	var errs Errors
	for _, p := range []struct{ key, was, is string }{
		{"mount", running.Mount, c.Mount}, {"store", running.Store, c.Store}, {"socket", running.Socket, c.Socket},
	} {
		if p.was == p.is {
			continue
		}
		e := &Error{Key: p.key, Msg: fmt.Sprintf("cannot change from %q to %q while the daemon runs: want %[1]q, or restart the daemon", p.was, p.is)}
		if c.lines != nil {
			e.File, e.Line = c.Files[0], c.lines[p.key]
		}
		errs = append(errs, e)
	}
	if errs == nil {
		return nil
	}
	return errs
}

// CheckPaths reports whether mount, store and socket are all set and can be
// used together, and with the inputs of the services. Load checks what a file sets; call this once paths given in
// other ways have been put in. The check is of names: symbolic links are not
// followed.
func (c Config) CheckPaths() error {
	for _, p := range []struct{ key, path string }{
		{"mount", c.Mount}, {"store", c.Store}, {"socket", c.Socket},
	} {
		if !filepath.IsAbs(p.path) {
			return &Error{Key: p.key, Msg: fmt.Sprintf("cannot use %q: want an absolute path", p.path)}
		}
	}
	if keys, msg := c.overlap(); msg != "" {
		return &Error{Key: keys[0], Msg: msg}
	}
	return c.CheckInputs()
}

// overlap finds two paths that exclude each other. The daemon never reads or
// writes its own mount, so nothing of its own may lie inside, and a mount on
// top of the store would hide it.
func (c Config) overlap() (keys []string, msg string) {
	switch {
	case inside(c.Mount, c.Store) || inside(c.Store, c.Mount):
		return []string{"mount", "store"}, fmt.Sprintf(
			"mount %q and store %q overlap: want two directories, neither inside the other", c.Mount, c.Store)
	case inside(c.Socket, c.Mount) || inside(c.Mount, c.Socket):
		return []string{"socket", "mount"}, fmt.Sprintf(
			"socket %q and mount %q overlap: want a socket outside the mount", c.Socket, c.Mount)
	case inside(c.Store, c.Socket):
		return []string{"socket", "store"}, fmt.Sprintf(
			"socket %q is in the place of store %q: want a file", c.Socket, c.Store)
	}
	return nil, ""
}

// inside reports whether path is dir or below it. An empty path is nowhere.
func inside(path, dir string) bool {
	if path == "" || dir == "" {
		return false
	}
	path, dir = filepath.Clean(path), filepath.Clean(dir)
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}
