package daemon

import (
	"context"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"logfs/cmd/logfs/internal/control"
	"logfs/ring/record"
)

// killAfter is how long a service may take to end after TERM before it gets
// KILL.
const killAfter = 5 * time.Second

// supervise runs the command of a service, as its settings have it, until the
// daemon ends.
func (d *Daemon) supervise(s *service) {
	defer s.own(false)
	c := s.settings
	loop := supervisor{
		restart: c.Restart,
		backoff: backoff{first: c.Backoff, max: c.BackoffMax},
		run:     func(context.Context) bool { return d.runOnce(s) },
		waiting: func(wait time.Duration) {
			s.set(Backoff)
			s.events.Info("service will be started again", "in", wait)
		},
	}
	loop.loop(d.serving)
}

// runOnce runs the command of s to its exit mark and says whether it failed.
func (d *Daemon) runOnce(s *service) (failed bool) {
	if d.o.Holder != "" {
		return d.runHeld(s)
	}
	return d.runChild(s)
}

// runChild does so with the command as a child of this process.
func (d *Daemon) runChild(s *service) (failed bool) {
	cmd, streams, err := StartCommand(s.settings, 0)
	if err != nil {
		return d.cannotStart(s, Reason(err))
	}
	pid := cmd.Process.Pid
	r := d.newRun(s, control.Command, streams)
	r.begin(d.capturing, &d.live, pid)
	reaped := make(chan struct{})
	d.children.Go(func() { d.terminate(pid, reaped, r.drained) })
	// The status is in ProcessState; an error would only repeat it.
	_ = cmd.Wait()
	close(reaped)
	e := ExitOf(cmd.ProcessState)
	r.exited(e)
	<-r.ended
	s.events.Info("service ended", "pid", pid, how(e))
	return ended(e) == Failed
}

func (d *Daemon) cannotStart(s *service, err error) (failed bool) {
	s.set(Failed)
	s.events.Error("cannot start the service", "command", s.settings.Command[0], "err", err)
	return true
}

func how(e record.Exit) slog.Attr {
	switch {
	case !e.Known:
		return slog.String("status", "unknown")
	case e.Signal != "":
		return slog.String("signal", e.Signal)
	}
	return slog.Int("code", e.Code)
}

// terminate ends the process group of a command when the daemon ends, also one
// whose leader has ended and that still has the pipes.
func (d *Daemon) terminate(group int, reaped, drained <-chan struct{}) {
	if !d.outlived(reaped, drained) {
		return
	}
	// A group that is gone already is no error. A stopped one has to be
	// continued before it can take the signal.
	_ = unix.Kill(-group, unix.SIGTERM)
	_ = unix.Kill(-group, unix.SIGCONT)
	patience := time.NewTimer(killAfter)
	defer patience.Stop()
	for _, gone := range []<-chan struct{}{reaped, drained} {
		select {
		case <-gone:
		case <-patience.C:
			patience.Reset(0)
		case <-d.hurry:
		}
	}
	_ = unix.Kill(-group, unix.SIGKILL)
}

// outlived waits for the end of a group or of the daemon, whichever is first,
// and returns false if it was that of the group.
func (d *Daemon) outlived(reaped, drained <-chan struct{}) bool {
	for _, gone := range []<-chan struct{}{reaped, drained} {
		select {
		case <-gone:
		case <-d.serving.Done():
			return !d.leaving()
		}
	}
	return false
}
