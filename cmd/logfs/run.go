package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"logfs/cmd/logfs/internal/control"
	"logfs/cmd/logfs/internal/daemon"
	"logfs/cmd/logfs/internal/exit"
)

// orders are the values of --order.
const orders = "pipes|exact"

var runCommand = command{
	name:    "run",
	args:    "NAME -- COMMAND...",
	summary: "start a command whose output a daemon captures",
	about: `
Starts COMMAND with its stdout and stderr going to the service NAME of the
daemon, passes signals on to it, and ends with its status: 128+N if signal N
ended it. Its stdin and other descriptors stay as they are. Nothing is started
if the daemon cannot be reached, or if NAME has a run already.

With --order exact COMMAND writes to stdout/current and stderr/current of the
mount, not to pipes, and the order between the two is exactly that of its
writes. When the daemon ends or is killed, its writes fail from then on.

With --mount no daemon is needed: this command serves the one service itself,
for as long as COMMAND runs.`,
	examples: []string{
		"logfs run web -- ./server --port 80",
		"logfs run --mount ~/logs job -- make all",
	},
	setup: func(f *pflag.FlagSet) func(*console, *pflag.FlagSet) (int, error) {
		var p places
		order := f.String("order", "pipes", "keep the order between stdout and stderr about right, or exact: `"+orders+"`")
		p.addAlone(f)
		return func(c *console, f *pflag.FlagSet) (int, error) {
			if f.ArgsLenAtDash() != 1 || f.NArg() < 2 {
				return 0, exit.Misusef("want logfs run NAME -- COMMAND...; see logfs help run")
			}
			switch name, argv := f.Arg(0), f.Args()[1:]; *order {
			case "pipes":
				return runRun(c, p, name, argv)
			case "exact":
				return runExact(c, p, name, argv)
			}
			return 0, exit.Misusef("cannot use --order %q: want pipes or exact", *order)
		}
	},
}

// runRun runs argv as the service name and returns its exit status.
func runRun(c *console, p places, name string, argv []string) (status int, err error) {
	way, err := p.connect(c, name)
	if err != nil {
		return 0, err
	}
	defer func() { warn(c, way.close()) }()
	streams, ends, err := pipes()
	if err != nil {
		return 0, err
	}
	defer closeFiles(ends)
	r, err := p.attach(c, way, control.Attach{Name: name, Kind: control.Command, Streams: streams})
	if err != nil {
		return 0, err
	}
	defer r.Detach()
	return attend(c, name, commandOf(argv, ends), r, ends)
}

func commandOf(argv []string, ends []*os.File) *exec.Cmd {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, ends[0], ends[1]
	return cmd
}

// attend starts the command and stays with it and its run to their ends.
func attend(c *console, name string, cmd *exec.Cmd, r control.Run, ends []*os.File) (status int, err error) {
	signals := catch(unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT,
		unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH, unix.SIGCONT, unix.SIGTSTP)
	defer signals.stop()
	if err := cmd.Start(); err != nil {
		return 0, exit.Refusedf("cannot start %q: %w", cmd.Args[0], daemon.Reason(err))
	}
	closeFiles(ends)
	go signals.forward(cmd.Process)
	captured := make(chan error, 1)
	if err := r.Start(cmd.Process.Pid); err != nil {
		captured <- err
	} else {
		go func() { captured <- r.Wait() }()
	}
	// The status is in ProcessState; an error would only repeat it.
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	select {
	case err := <-captured:
		warn(c, lost(name, err))
		<-ended
	case <-ended:
		_ = r.Exit(daemon.ExitOf(cmd.ProcessState)) // Wait has the same error
		warn(c, lost(name, <-captured))
	}
	return statusOf(cmd.ProcessState), nil
}

// lost says that capture ended before the command.
func lost(name string, err error) error {
	if err != nil {
		err = fmt.Errorf("capture of %q has ended: %w", name, err)
	}
	return err
}

// warn prints what went wrong beside the command, whose status is what counts.
func warn(c *console, err error) {
	if err != nil {
		fmt.Fprintf(c.err, "logfs: run: %s\n", oneLine(err))
	}
}

// pipes makes the pipes of stdout and stderr.
func pipes() (streams, ends []*os.File, err error) {
	for range 2 {
		r, w, err := daemon.Pipe()
		if err != nil {
			closeFiles(append(streams, ends...))
			return nil, nil, exit.Refusedf("%w", err)
		}
		streams, ends = append(streams, r), append(ends, w)
	}
	return streams, ends, nil
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

func statusOf(state *os.ProcessState) int {
	if w, ok := state.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return exit.Signal(w.Signal())
	}
	return state.ExitCode()
}
