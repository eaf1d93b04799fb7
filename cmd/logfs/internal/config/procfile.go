package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// LoadProcfile reads the services of a Procfile; all else is Default. Each
// line is NAME: COMMAND, the command being run by /bin/sh and never started
// again. The name ends at the first colon. Blank lines and lines that begin
// with # are passed over; a line may end in CR LF. No .env file is read. The
// error is an *Error, as with Load.
func LoadProcfile(path string) (Config, error) {
	text, err := readFile(path)
	if err != nil {
		return Config{}, err
	}
	c := Default()
	c.Files = []string{path}
	defined := map[string]int{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		s, bad := procfileLine(line, c.Defaults)
		if bad == nil && defined[s.Name] > 0 {
			bad = &Error{Key: s.Name, Msg: fmt.Sprintf("already defined at line %d: want each service once", defined[s.Name])}
		}
		if bad != nil {
			bad.File, bad.Line = path, n
			return Config{}, bad
		}
		defined[s.Name] = n
		c.Services = append(c.Services, s)
	}
	if len(c.Services) == 0 {
		return Config{}, &Error{File: path, Msg: "no services: want lines NAME: COMMAND"}
	}
	slices.SortFunc(c.Services, func(a, b Service) int { return cmp.Compare(a.Name, b.Name) })
	return c, nil
}

func procfileLine(line string, s Service) (Service, *Error) {
	name, cmd, colon := strings.Cut(line, ":")
	if !colon {
		return s, &Error{Msg: "cannot use " + quoted(line) + ": want NAME: COMMAND"}
	}
	s.Name = strings.TrimSpace(name)
	if err := CheckName(s.Name); err != nil {
		return s, &Error{Msg: err.Error()}
	}
	cmd = strings.TrimSpace(cmd)
	argv, ok := commandOf(cmd)
	if !ok {
		return s, &Error{Key: s.Name, Msg: "cannot use " + quoted(cmd) + ": want a command line for /bin/sh"}
	}
	s.Command, s.Restart = argv, Never
	return s, nil
}
