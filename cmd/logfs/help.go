package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
)

const intro = `logfs captures the output of services and shows it as files:

  current  what has been said        follow  the same, then what will be said
  seq      the same lines as numbered records

Usage:
`

const outro = `
Examples:
  logfs up -f Procfile                   a daemon and the services of a Procfile
  logfs run web -- ./server --port 80    one more service for the running daemon
  tail -f /mnt/logs/web/follow           what it says from now on
  grep -c ERROR /mnt/logs/web/current    what it has said

logfs help COMMAND says more about one of them; logfs --version names the version.
Exit status: 0 done, 100 misuse, 111 the system refused; run passes on that of
its command, 128+N if signal N ended it; verify ends with 1 if it found something.
`

// overview says what there is.
func overview(w io.Writer) error {
	var b strings.Builder
	b.WriteString(intro)
	for _, c := range commands() {
		fmt.Fprintf(&b, "  %-30s %s\n", "logfs "+c.name+" "+c.args, c.summary)
	}
	b.WriteString(outro)
	_, err := io.WriteString(w, b.String())
	return err
}

func helpFor(name string, w io.Writer) error {
	cmd, err := findCommand(name)
	if err != nil {
		return err
	}
	return cmd.help(w)
}

func (cmd *command) help(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: logfs %s %s\n\n%s\n", cmd.name, cmd.usage(), strings.TrimSpace(cmd.about))
	if flags, _ := cmd.flags(); flags.HasFlags() {
		b.WriteString("\nFlags:\n" + flags.FlagUsages())
	}
	b.WriteString("\nExamples:\n")
	for _, e := range cmd.examples {
		b.WriteString("  " + e + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (cmd *command) usage() string {
	if flags, _ := cmd.flags(); flags.HasFlags() {
		return strings.TrimSpace("[FLAGS] " + cmd.args)
	}
	return cmd.args
}

// version is what the build knows about itself.
func version() string {
	v, revision := "(unknown)", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		v = info.Main.Version
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = " " + s.Value
			}
		}
	}
	return fmt.Sprintf("logfs %s%s %s %s/%s", v, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
