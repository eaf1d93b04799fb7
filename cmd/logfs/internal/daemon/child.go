package daemon

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"logfs/cmd/logfs/internal/control"
	"logfs/ring/record"
)

// killAfter is how long a service may take to end after TERM before it gets
// KILL.
const killAfter = 5 * time.Second

// A job runs the command of a service, until it is stopped.
type job struct {
	serving  context.Context // cancelled to end it
	stop     context.CancelFunc
	children sync.WaitGroup // what ends the process groups
	ended    chan struct{}  // closed when all have ended, the supervisor too
}

// stopped is a job that ends what it attends to at once.
func (j *job) stopped() *job {
	over, stop := context.WithCancel(j.serving)
	stop()
	return &job{serving: over, stop: stop}
}

// startCommand begins to run the command of s. The caller holds reloading.
func (d *Daemon) startCommand(s *service) {
	j := &job{ended: make(chan struct{})}
	j.serving, j.stop = context.WithCancel(d.serving)
	s.mu.Lock()
	s.job, s.owned, s.stopped = j, true, j.serving.Done()
	s.mu.Unlock()
	supervised := make(chan struct{})
	d.commands.Go(func() {
		defer close(supervised)
		d.supervise(s, j)
	})
	d.children.Go(func() {
		defer close(j.ended)
		<-supervised
		j.children.Wait()
	})
}

// stopCommand ends the command of s, if there is one, and waits for that. The
// service stays reserved for the daemon. The caller holds reloading.
func (d *Daemon) stopCommand(s *service) {
	if s.job == nil {
		return
	}
	s.job.stop()
	<-s.job.ended
	s.job = nil
}

// supervise runs the command of a service, as its settings have it, until the
// job is stopped.
func (d *Daemon) supervise(s *service, j *job) {
	if !s.awaitFree(j.serving) || j.serving.Err() != nil {
		return
	}
	last := Failed
	var loop supervisor
	loop = supervisor{
		restart: s.config().Restart,
		run: func(context.Context) bool {
			failed := d.runOnce(s, j)
			if last = Exited; failed {
				last = Failed
			}
			c := s.config()
			loop.backoff.first, loop.backoff.max = c.Backoff, c.BackoffMax
			return failed
		},
		waiting: func(wait time.Duration) {
			s.set(Backoff)
			s.events.Info("service will be started again", "in", wait)
		},
	}
	loop.loop(j.serving)
	s.set(last)
	if j.serving.Err() == nil {
		s.own(false)
	}
}

// runOnce runs the command of s to its exit mark and says whether it failed.
func (d *Daemon) runOnce(s *service, j *job) (failed bool) {
	if d.o.Holder != "" {
		return d.runHeld(s, j)
	}
	return d.runChild(s, j)
}

// runChild does so with the command as a child of this process.
func (d *Daemon) runChild(s *service, j *job) (failed bool) {
	settings := s.config()
	if len(settings.Command) == 0 { // a reload has taken it away
		return false
	}
	cmd, streams, err := StartCommand(settings, 0)
	if err != nil {
		return d.cannotStart(s, Reason(err))
	}
	pid := cmd.Process.Pid
	r := d.newRun(s, control.Command, streams)
	r.hurry = j.serving.Done()
	r.begin(s.capturing, &s.live, pid)
	reaped := make(chan struct{})
	j.children.Go(func() { d.terminate(j, pid, reaped, r.drained) })
	// The status is in ProcessState; an error would only repeat it.
	_ = cmd.Wait()
	close(reaped)
	e := ExitOf(cmd.ProcessState)
	r.exited(e)
	<-r.ended
	s.events.Info("service ended", "pid", pid, how(e))
	return ended(e) == Failed
}

// cannotStart says so, unless a reload has taken the command away meanwhile.
func (d *Daemon) cannotStart(s *service, err error) (failed bool) {
	command := s.config().Command
	if len(command) == 0 {
		return false
	}
	s.set(Failed)
	s.events.Error("cannot start the service", "command", command[0], "err", err)
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

// terminate ends the process group of a command when its job is stopped, also one
// whose leader has ended and that still has the pipes.
func (d *Daemon) terminate(j *job, group int, reaped, drained <-chan struct{}) {
	if !d.outlived(j, reaped, drained) {
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

// outlived waits for the end of a group or of the job, whichever is first, and
// returns false if it was that of the group.
func (d *Daemon) outlived(j *job, reaped, drained <-chan struct{}) bool {
	for _, gone := range []<-chan struct{}{reaped, drained} {
		select {
		case <-gone:
		case <-j.serving.Done():
			return !d.leaving()
		}
	}
	return false
}
