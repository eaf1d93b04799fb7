package main

import (
	"fmt"
	"io"
	"os"
	"strings"

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
	fmt.Fprintf(stderr, "logfs: %s%s\n", name, oneLine(err))
	return exit.Status(err)
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
