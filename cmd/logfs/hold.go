package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"logfs/cmd/logfs/internal/control"
	"logfs/cmd/logfs/internal/daemon"
	"logfs/cmd/logfs/internal/exit"
)

// holdCommand is not for people: the daemon starts it for each run of a service
// of its configuration, as the parent of the command, for each FIFO, and for its
// mount. It outlives the daemon.
var holdCommand = command{
	name: daemon.HoldWord,
	setup: func(*pflag.FlagSet) func(*console, *pflag.FlagSet) (int, error) {
		return func(*console, *pflag.FlagSet) (int, error) {
			return runHold()
		}
	},
}

// runHold starts the command that the daemon describes, says on standard output
// why if that cannot be done, and stays with it and its run to their ends. The
// descriptor of the lock stays open: it says that this process lives.
func runHold() (status int, err error) {
	// The command dies with the thread that has started it.
	runtime.LockOSThread()
	terminated, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	// Caught and left alone: the command would inherit that they are ignored.
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGPIPE)
	for _, fd := range []int{daemon.HoldSpec, daemon.HoldLock, daemon.HoldFifo} {
		syscall.CloseOnExec(fd)
	}
	var spec daemon.Holding
	from := os.NewFile(daemon.HoldSpec, "what to hold")
	if err := json.NewDecoder(from).Decode(&spec); err != nil {
		return 0, exit.Misusef("this command is for the daemon only: %w", err)
	}
	from.Close()
	switch {
	case spec.Mount:
		daemon.KeepMount()
		return 0, nil
	case spec.Service.Fifo != "":
		return 0, holdFifo(terminated, spec)
	}
	cmd, streams, err := daemon.StartCommand(spec.Service, unix.SIGTERM)
	if err != nil {
		fmt.Print(daemon.Reason(err))
		return exit.Refused, nil
	}
	os.Stdout.Close()
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	r, err := holdService(spec, streams)
	if err != nil {
		return 0, err
	}
	defer r.Detach()
	_ = r.Start(cmd.Process.Pid)
	captured := make(chan struct{})
	go func() { _ = r.Wait(); close(captured) }()
	<-ended
	_ = r.Exit(daemon.ExitOf(cmd.ProcessState))
	<-captured
	return 0, nil
}

func holdService(spec daemon.Holding, streams []*os.File) (control.Run, error) {
	a := control.Attach{Name: spec.Service.Name, Kind: control.Command, Streams: streams, Service: true, About: spec.About}
	if err := withHold(&a); err != nil {
		return nil, err
	}
	return control.HoldLater(a, control.Next{
		Dial:  func() (*control.Client, error) { return control.Dial(spec.Socket) },
		Say:   func(string) {},
		Waits: waits(a),
	}), nil
}
