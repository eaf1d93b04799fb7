package main

import (
	"bufio"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/pflag"

	"logfs/cmd/logfs/internal/exit"
	"logfs/rotate"
)

var verifyCommand = command{
	name: "verify", args: "DIR...",
	summary: "look for damage in the files on disk",
	about: `
Reads all files of the logdirs named, the directories of services in the store,
and prints a line for each thing that is not as it should be: numbers that are
missing or used twice, lines that are torn, archives that cannot be read. It
needs no daemon and changes nothing. While a daemon writes, the last line of
current may look torn, or an archive be gone.

Exit status: 0 if nothing was found, 1 if something was.`,
	examples: []string{"logfs verify /var/log/logfs/web", "logfs verify /var/log/logfs/* || mail -s logs root"},
	setup: func(*pflag.FlagSet) func(*console, *pflag.FlagSet) (int, error) {
		return func(c *console, f *pflag.FlagSet) (int, error) {
			if f.NArg() == 0 {
				return 0, exit.Misusef("want logfs verify DIR...; see logfs help verify")
			}
			return verify(c.out, f.Args())
		}
	},
}

// verify goes on after a directory that cannot be read, and returns the first
// such error.
func verify(w io.Writer, dirs []string) (status int, err error) {
	out := bufio.NewWriter(w)
	for _, dir := range dirs {
		verr := rotate.Verify(dir, func(f rotate.Finding) {
			status = exit.Found
			fmt.Fprintf(out, "%s: %s\n", where(dir, f), printable(f.What))
		})
		if err == nil {
			err = exit.With(exit.Refused, verr)
		}
	}
	if ferr := out.Flush(); err == nil && ferr != nil {
		err = exit.Refusedf("cannot print what was found: %w", ferr)
	}
	return status, err
}

// where is the place of a finding, in the way of compilers and grep -n.
func where(dir string, f rotate.Finding) string {
	path := printable(filepath.Join(dir, f.File))
	if f.Line == 0 {
		return path
	}
	return path + ":" + strconv.Itoa(f.Line)
}

// printable keeps what others have named or written from driving a terminal.
func printable(s string) string {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}
