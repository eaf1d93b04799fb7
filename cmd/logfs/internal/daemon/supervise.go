package daemon

import (
	"context"
	"time"

	"logfs/cmd/logfs/internal/config"
)

// A backoff says how long to wait before the next start: first at first, then
// twice as long each time up to max. A run that lasted longer than max was a
// good one and begins the row anew.
type backoff struct {
	first, max time.Duration
	wait       time.Duration // given out last, 0 if none
}

func (b *backoff) after(ran time.Duration) time.Duration {
	switch {
	case b.wait == 0 || ran > b.max:
		b.wait = min(b.first, b.max)
	default:
		b.wait = min(2*b.wait, b.max)
	}
	return b.wait
}

// A supervisor starts one command again and again, as its policy has it.
type supervisor struct {
	restart config.Restart
	backoff backoff
	// run runs the command once, to its end, and says whether it failed.
	run func(context.Context) (failed bool)
	// waiting is told how long it will be until the next run.
	waiting func(time.Duration)
}

// loop returns when the command is not to be started again.
func (s *supervisor) loop(ctx context.Context) {
	for {
		began := time.Now()
		failed := s.run(ctx)
		if ctx.Err() != nil || !again(s.restart, failed) {
			return
		}
		wait := s.backoff.after(time.Since(began))
		s.waiting(wait)
		if !pause(ctx, wait) {
			return
		}
	}
}

func again(policy config.Restart, failed bool) bool {
	return policy == config.Always || policy == config.OnFailure && failed
}

// pause returns false if ctx was cancelled before d had passed.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
