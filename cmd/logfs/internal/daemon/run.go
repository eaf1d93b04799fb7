package daemon

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"logfs/capture"
	"logfs/cmd/logfs/internal/control"
	"logfs/ring/record"
)

// linger is how long the exit mark waits for the end of the pipes when the
// command itself has ended. A grandchild that keeps them open is captured for
// as long as it writes, but behind the mark.
const linger = time.Second

// forever is a linger without end.
const forever time.Duration = -1

// errStopped tells a client that its run goes on without the daemon.
var errStopped = errors.New("the daemon has stopped")

// A run captures the streams of one run between its marks. It is what both the
// daemon's own commands and those of clients go through.
type run struct {
	svc     *service
	streams []*os.File
	hold    *capture.Hold // nil unless the client keeps the pipes open
	holders atomic.Int32  // capture and finish: who is last closes the hold
	kind    control.Kind
	began   time.Time
	hurry   <-chan struct{}         // closed when the daemon ends
	cancel  context.CancelCauseFunc // ends capture with what the pipes hold
	arrived func()                  // lets those write whom the run is for; of kind Written

	words   chan word     // how the run ended; the first counts
	drained chan struct{} // closed when capture has ended
	left    bool          // capture has left something to the next daemon; set before drained
	ended   chan struct{} // closed when the exit mark is in
	how     record.Exit   // how it ended; set before ended
	err     error         // why capture ended before the run; set before ended
}

// word is what somebody said about the end of a run.
type word struct {
	exit   record.Exit
	linger time.Duration // how long to wait for the end of the pipes
	err    error
}

func (d *Daemon) newRun(s *service, kind control.Kind, streams []*os.File) *run {
	return &run{
		svc: s, kind: kind, streams: streams, hurry: d.serving.Done(),
		words:   make(chan word, 1),
		drained: make(chan struct{}),
		ended:   make(chan struct{}),
	}
}

// say notes how the run ended, unless that is known already.
func (r *run) say(w word) {
	select {
	case r.words <- w:
	default:
	}
}

// exited notes how the command of the run has ended, just now.
func (r *run) exited(e record.Exit) {
	r.hold.Last()
	e.After = time.Since(r.began)
	r.say(word{exit: e, linger: linger})
}

// begin writes the start mark and captures the streams until ctx is cancelled.
// live counts the goroutines it starts.
//
// A run with a Hold may have begun under another daemon: then it goes on. If it
// has ended there, its exit mark is in, and only a grandchild can go on.
func (r *run) begin(ctx context.Context, live *sync.WaitGroup, pid int) {
	r.began = time.Now()
	held := r.svc.begin(r.hold, pid)
	if held.Began > 0 {
		r.began = time.Unix(0, held.Began)
	}
	finish := r.finish
	switch {
	case held.Ended && r.kind == control.Pipe:
		r.over()
		return
	case r.kind == control.Written:
		r.arrived()
		r.holders.Store(1)
		live.Go(func() { r.finish(ctx) })
		return
	case held.Ended:
		finish = r.conclude
		r.hold.Last()
	case r.kind == control.Pipe:
		r.say(word{linger: forever})
	}
	capturing, cancel := context.WithCancelCause(ctx)
	r.cancel = cancel
	live.Add(1)
	r.holders.Store(2)
	r.capture(capturing, live)
	live.Go(func() { finish(ctx) })
}

// over is for a stream that somebody else may read by now.
func (r *run) over() {
	closeAll(r.streams)
	close(r.drained)
	r.holders.Store(1)
	r.letGo()
	r.svc.ended(record.Exit{})
	close(r.ended)
}

func (r *run) capture(ctx context.Context, live *sync.WaitGroup) {
	inputs := []capture.Input{{File: r.streams[0], Stream: capture.Stdout, Hold: r.hold}}
	if len(r.streams) > 1 {
		inputs = append(inputs, capture.Input{File: r.streams[1], Stream: capture.Stderr, Hold: r.hold})
	}
	capture.Start(ctx, r.svc.log.LineLimit(), heldSink{r.svc.log, r.hold}, func(err error) {
		defer live.Done()
		if err != nil && !errors.Is(err, context.Canceled) {
			r.svc.events.Error("capture ended before the run", "err", err)
		}
		r.cancel(nil)
		r.left = errors.Is(err, capture.ErrLeft)
		r.letGo()
		close(r.drained)
	}, inputs...)
}

func (r *run) letGo() {
	if r.holders.Add(-1) == 0 {
		r.svc.log.forget(r.hold)
		r.hold.Close()
	}
}

// finish writes the exit mark: behind the last line, as far as linger allows.
func (r *run) finish(ctx context.Context) {
	w := r.hear(ctx)
	if r.kind == control.Written {
		r.svc.writers.await(r)
	}
	r.awaitPipes(w.linger)
	if ctx.Err() != nil && r.hold != nil && r.goesOn(w) {
		r.leave()
		return
	}
	if ctx.Err() != nil && !w.exit.Known {
		w.err = errStopped
	}
	if w.exit.After == 0 { // nobody saw the end but we
		w.exit.After = time.Since(r.began)
	}
	r.svc.end(r.hold, w.exit)
	r.letGo()
	r.err, r.how = w.err, w.exit
	close(r.ended)
}

// conclude is finish for a run that has its exit mark. Who brought it says once
// more how it has ended.
func (r *run) conclude(ctx context.Context) {
	w := r.hear(ctx)
	r.svc.ended(w.exit)
	r.letGo()
	r.how = w.exit
	close(r.ended)
}

// hear waits for a word about the end of the run, or the end of the daemon.
func (r *run) hear(ctx context.Context) word {
	select {
	case w := <-r.words:
		return w
	case <-ctx.Done():
		return word{linger: linger, err: errStopped}
	}
}

// goesOn says whether there is something to do for the next daemon: capture is
// cancelled, because this one ends.
func (r *run) goesOn(w word) bool {
	<-r.drained
	ended := w.exit.Known || r.kind == control.Pipe
	return !ended || r.left || r.svc.log.late()
}

// leave leaves the run as it is: the next daemon goes on with it. Its Hold is let
// go before anybody knows that.
func (r *run) leave() {
	r.letGo()
	r.svc.leave()
	r.err = control.ErrLeft
	close(r.ended)
}

// awaitPipes waits for the end of the pipes, but not for longer than patience.
// While the service waits for its disk, that does not count: what the pipes hold
// belongs before the exit mark.
func (r *run) awaitPipes(patience time.Duration) {
	if patience == forever {
		<-r.drained
		return
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		select {
		case <-r.drained:
			return
		case <-late.C:
		}
		select {
		case <-r.hurry:
			return
		default:
		}
		if !r.svc.log.Blocks() {
			return
		}
		late.Reset(patience)
	}
}
