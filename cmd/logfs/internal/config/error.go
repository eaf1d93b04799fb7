package config

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"unicode"
)

// Errors is all mistakes that were found, at least one.
type Errors []*Error

// Error is a line for each.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives them all.
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i, err := range e {
		all[i] = err
	}
	return all
}

// Error is one mistake in a configuration, or one file that could not be read.
// Line and Key are left out where there is none to name.
type Error struct {
	File string
	Line int    // from 1; 0: the file as a whole
	Key  string // as TOML writes it, with its table: service.web.size
	Msg  string

	err error // of the system, when the file could not be read
}

// Error is `FILE:LINE: KEY: MSG`: one line, without control characters.
func (e *Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File)
		if e.Line > 0 {
			fmt.Fprintf(&b, ":%d", e.Line)
		}
		b.WriteString(": ")
	}
	if e.Key != "" {
		b.WriteString(e.Key + ": ")
	}
	b.WriteString(e.Msg)
	return printable(b.String())
}

// printable escapes control characters. Names of files and messages of the
// TOML parser can hold what stood in a damaged file.
func printable(s string) string {
	if !strings.ContainsFunc(s, unicode.IsControl) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unicode.IsControl(r) {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// Unwrap gives the error of the system, nil for a mistake in the file.
func (e *Error) Unwrap() error { return e.err }

// unreadable names the file once: that of a PathError is dropped.
func unreadable(path string, err error) *Error {
	cause := err
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		cause = p.Err
	}
	return &Error{File: path, Msg: "cannot read: " + cause.Error(), err: err}
}
