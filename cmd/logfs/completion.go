package main

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"logfs/cmd/logfs/internal/exit"
)

// scripts are what makes a shell ask. All that they can offer comes from
// complete, so none of them knows a command or a flag.
//
//go:embed completion
var scripts embed.FS

const shells = "bash|zsh|fish"

var completionCommand = command{
	name: "completion", args: shells,
	summary: "print what makes a shell complete command lines",
	about: `
Prints a script for the shell named. The shell then completes commands, flags,
files, and the names of the services that the running daemon has.

The scripts ask with "logfs completion -- WORD...": that prints what can stand
in the place of the last WORD, one a line, with a tab and a remark behind it. A
line ":files", ":dirs" or ":command N" says that a file, a directory, or the
command line that begins with word N is wanted.`,
	examples: []string{
		"source <(logfs completion bash)    in ~/.bashrc",
		"source <(logfs completion zsh)     in ~/.zshrc, after compinit",
		"logfs completion fish | source     in ~/.config/fish/config.fish",
	},
}

// Set here because it completes itself: commands refers to it.
func init() {
	completionCommand.setup = func(*pflag.FlagSet) func(*console, *pflag.FlagSet) (int, error) {
		return func(c *console, f *pflag.FlagSet) (int, error) {
			if f.ArgsLenAtDash() == 0 {
				return 0, printLines(c.out, complete(f.Args()))
			}
			if f.NArg() != 1 {
				return 0, exit.Misusef("want logfs completion %s; see logfs help completion", shells)
			}
			return 0, printScript(c.out, f.Arg(0))
		}
	}
}

func printScript(w io.Writer, shell string) error {
	script, err := scripts.ReadFile(path.Join("completion", "logfs."+shell))
	if err != nil {
		return exit.Misusef("unknown shell %q: want one of %s", shell, strings.ReplaceAll(shells, "|", ", "))
	}
	_, err = w.Write(script)
	return err
}

func printLines(w io.Writer, lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	_, err := io.WriteString(w, strings.Join(lines, "\n")+"\n")
	return err
}

// complete returns what can stand in the place of the last of the words behind
// logfs, or begin with it: the shell picks those that do.
func complete(words []string) []string {
	if len(words) == 0 {
		return nil
	}
	before, last := words[:len(words)-1], words[len(words)-1]
	switch {
	case len(before) == 0 && strings.HasPrefix(last, "-"):
		return []string{"--help\twhat there is", "--version\tprint the version"}
	case len(before) == 0:
		return append(commandNames(), "help\tmore about a command")
	case before[0] == "help" && len(before) == 1:
		return commandNames()
	}
	cmd, err := findCommand(before[0])
	if err != nil {
		return nil
	}
	return cmd.complete(before[1:], last)
}

func commandNames() []string {
	var names []string
	for _, c := range commands() {
		names = append(names, c.name+"\t"+c.summary)
	}
	return names
}

// complete is the same for the words behind the name of cmd.
func (cmd *command) complete(before []string, last string) []string {
	flags, _ := cmd.flags()
	var unfinished *pflag.ValueRequiredError
	err := flags.Parse(before)
	switch {
	case errors.As(err, &unfinished):
		return valuesOf(unfinished.GetFlag())
	case err != nil:
		return nil
	case flags.ArgsLenAtDash() >= 0:
		if !strings.HasSuffix(cmd.args, "-- COMMAND...") {
			return nil
		}
		// Behind logfs and the name of cmd.
		return []string{":command " + strconv.Itoa(2+len(before)-flags.NArg()+flags.ArgsLenAtDash())}
	case strings.HasPrefix(last, "-"):
		return flagNames(flags)
	}
	return operands(cmd.operand(flags.NArg()), flags)
}

// flagNames are all flags, as one can write them.
func flagNames(flags *pflag.FlagSet) []string {
	var names []string
	flags.VisitAll(func(f *pflag.Flag) {
		_, remark := pflag.UnquoteUsage(f)
		names = append(names, "--"+f.Name+"\t"+remark)
		if f.Shorthand != "" {
			names = append(names, "-"+f.Shorthand+"\t"+remark)
		}
	})
	return append(names, "--help\tmore about the command")
}

func valuesOf(f *pflag.Flag) []string {
	switch kind, _ := pflag.UnquoteUsage(f); kind {
	case "FILE":
		return []string{":files"}
	case "DIR":
		return []string{":dirs"}
	case orders:
		return strings.Split(orders, "|")
	}
	return nil
}

// operand is what the usage of cmd calls its operand number n, from 0; empty
// if there is none.
func (cmd *command) operand(n int) string {
	usage := strings.Fields(strings.Trim(cmd.args, "[]"))
	if len(usage) == 0 {
		return ""
	}
	if last := usage[len(usage)-1]; n >= len(usage) && strings.HasSuffix(last, "...") {
		n = len(usage) - 1
	}
	if n >= len(usage) {
		return ""
	}
	return strings.TrimSuffix(usage[n], "...")
}

func operands(kind string, flags *pflag.FlagSet) []string {
	switch kind {
	case "NAME":
		return serviceNames(flags)
	case "DIR":
		return []string{":dirs"}
	case "--":
		return []string{"--\tthe command begins"}
	case shells:
		return strings.Split(shells, "|")
	}
	return nil
}

// askPatience is how long a person who has pressed a key waits for a daemon.
const askPatience = time.Second

// serviceNames asks the daemon. That there is none is not worth a word here.
func serviceNames(flags *pflag.FlagSet) []string {
	var p places
	if f := flags.Lookup("socket"); f != nil {
		p.socket = f.Value.String()
	}
	found := make(chan []string, 1)
	go func() { found <- p.serviceNames() }()
	select {
	case names := <-found:
		return names
	case <-time.After(askPatience):
		return nil
	}
}

func (p *places) serviceNames() []string {
	d, err := p.dial()
	if err != nil {
		return nil
	}
	defer d.Close()
	var table strings.Builder
	if d.Status(&table) != nil {
		return nil
	}
	var names []string
	for _, line := range strings.Split(table.String(), "\n")[1:] {
		if f := strings.Fields(line); len(f) > 1 {
			names = append(names, fmt.Sprintf("%s\t%s", f[0], f[1]))
		}
	}
	return names
}
