package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
)

// waysIn is the keys that say where the lines of a service come from. Only one
// of them can be set.
var waysIn = []string{"command", "fifo", "syslog"}

func tooManyWays(s *Service) string {
	set := 0
	for _, is := range []bool{s.Command != nil, s.Fifo != "", s.Syslog != ""} {
		if is {
			set++
		}
	}
	if set < 2 {
		return ""
	}
	return "command, fifo and syslog exclude each other: want one of them, and another service for another"
}

// Input is the path that others write to, and its key; empty without one.
func (s *Service) Input() (key, path string) {
	switch {
	case s.Fifo != "":
		return "fifo", s.Fifo
	case s.Syslog != "":
		return "syslog", s.Syslog
	}
	return "", ""
}

// inputPlace says what of the daemon's own the path of an input excludes.
func (c Config) inputPlace(path string) (msg string) {
	for _, own := range []struct{ what, path string }{{"mount", c.Mount}, {"store", c.Store}, {"socket", c.Socket}} {
		if inside(path, own.path) || inside(own.path, path) {
			return fmt.Sprintf("%q and %s %q overlap: want a path outside", path, own.what, own.path)
		}
	}
	return ""
}

// CheckInputs is CheckPaths for the inputs of the services alone.
func (c Config) CheckInputs() error {
	for i := range c.Services {
		s := &c.Services[i]
		if key, path := s.Input(); key != "" {
			if msg := c.inputPlace(path); msg != "" {
				return &Error{Key: fmt.Sprintf("service.%s.%s", s.Name, key), Msg: msg}
			}
		}
	}
	return nil
}

// input checks the place of a service's input, also against those before it.
func (l *loader) input(s *Service) (keys []string, msg string) {
	key, path := s.Input()
	if key == "" {
		return nil, ""
	}
	if msg = l.cfg.inputPlace(path); msg != "" {
		return []string{key}, msg
	}
	for i := range l.cfg.Services {
		other := &l.cfg.Services[i]
		if _, taken := other.Input(); taken == path && other.Name != s.Name {
			return []string{key}, fmt.Sprintf("%q is that of service %q already: want a path for each", path, other.Name)
		}
	}
	return nil, ""
}

func input(name, meaning string, r rule) Key {
	k := key(name, Table, "", meaning, r)
	k.Input = true
	return k
}

// fileMode is permissions of something that is written to.
func fileMode(field func(target) *uint32) rule {
	return parsed("mode", `a file mode as a string of octal digits, such as "0622", that lets somebody write, without x and special bits`,
		func(v string) (uint32, bool) {
			n, err := strconv.ParseUint(v, 8, 32)
			return uint32(n), err == nil && len(v) >= 3 && len(v) <= 4 && n&^0o666 == 0 && n&0o222 != 0
		}, field)
}

// ResolveInputs is c with the directories of the inputs as resolve has them.
func (c Config) ResolveInputs(resolve func(string) string) Config {
	at := func(path string) string {
		if path == "" {
			return ""
		}
		return filepath.Join(resolve(filepath.Dir(path)), filepath.Base(path))
	}
	c.Services = slices.Clone(c.Services)
	for i := range c.Services {
		s := &c.Services[i]
		s.Fifo, s.Syslog = at(s.Fifo), at(s.Syslog)
	}
	return c
}
