package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"logfs/cmd/logfs/internal/config"
	"logfs/cmd/logfs/internal/exit"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run does what args say and returns the exit status.
func run(args []string, stdout, stderr io.Writer) int {
	name, status, err := dispatch(args, &console{stdout, stderr})
	if err == nil {
		return status
	}
	if name != "" {
		name += ": "
	}
	for _, e := range each(err) {
		fmt.Fprintf(stderr, "logfs: %s%s\n", name, oneLine(e))
	}
	return exit.Status(err)
}

// each is the errors that get a line each: the mistakes of a configuration, or
// err itself.
func each(err error) []error {
	var mistakes config.Errors
	if errors.As(err, &mistakes) {
		return mistakes.Unwrap()
	}
	return []error{err}
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
