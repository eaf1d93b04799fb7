package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"

	"logfs/cmd/logfs/internal/exit"
)

// console is where a command prints.
type console struct{ out, err io.Writer }

// A command is one word behind logfs.
type command struct {
	name, args string
	summary    string
	about      string // more about it, for its help
	examples   []string
	// setup registers the flags and returns what runs when they are parsed.
	// The status is the exit status if there is no error.
	setup func(*pflag.FlagSet) func(*console, *pflag.FlagSet) (status int, err error)
}

// commands returns all commands, in the order of the help.
func commands() []*command {
	return []*command{
		&daemonCommand, &upCommand, &runCommand, &pipeCommand,
		&leaveCommand, &rotateCommand, &flushCommand, &statusCommand, &checkCommand, &verifyCommand, &unmountCommand,
		&completionCommand,
	}
}

func findCommand(name string) (*command, error) {
	var names []string
	if name == holdCommand.name {
		return &holdCommand, nil
	}
	for _, c := range commands() {
		if c.name == name {
			return c, nil
		}
		names = append(names, c.name)
	}
	return nil, exit.Misusef("unknown command %q: want one of %s; see logfs --help", name, strings.Join(names, ", "))
}

// dispatch runs the command that args begin with. The name it returns is that
// of the command, for the error.
func dispatch(args []string, c *console) (name string, status int, err error) {
	if len(args) == 0 {
		return "", exit.OK, overview(c.out)
	}
	switch first := args[0]; {
	case first == "--help" || first == "-h" || first == "help" && len(args) == 1:
		return "", exit.OK, overview(c.out)
	case first == "--version":
		_, err := fmt.Fprintln(c.out, version())
		return "", exit.OK, err
	case first == "help":
		return "help", exit.OK, helpFor(args[1], c.out)
	case strings.HasPrefix(first, "-"):
		return "", 0, exit.Misusef("unknown flag: %s; see logfs --help", first)
	}
	cmd, err := findCommand(args[0])
	if err != nil {
		return "", 0, err
	}
	status, err = cmd.run(args[1:], c)
	return cmd.name, status, err
}

func (cmd *command) run(args []string, c *console) (status int, err error) {
	flags, action := cmd.flags()
	switch err := flags.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		return exit.OK, cmd.help(c.out)
	case err != nil:
		return 0, exit.Misusef("%w; see logfs help %s", err, cmd.name)
	}
	return action(c, flags)
}

func (cmd *command) flags() (*pflag.FlagSet, func(*console, *pflag.FlagSet) (int, error)) {
	flags := pflag.NewFlagSet(cmd.name, pflag.ContinueOnError)
	flags.SortFlags = false
	flags.Usage = func() {} // help is printed by run
	action := cmd.setup(flags)
	return flags, action
}
