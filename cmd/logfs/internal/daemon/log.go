package daemon

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"logfs/capture"
	"logfs/ring"
	"logfs/ring/record"
	"logfs/rotate"
)

// LogOptions describe one log.
type LogOptions struct {
	// Ring bounds the memory; Rotate describes the logdir. Log opens both.
	Ring   ring.Limits
	Rotate rotate.Options
	// Block has the service wait for a disk that takes no writes. Without, the
	// oldest lines that wait in the ring are lost when that is full.
	Block bool
	// LineLimit is the length above which a line is stored in pieces; 0 is the
	// default of capture.
	LineLimit int
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Log gets the warnings; its attributes should name the service.
	Log *slog.Logger

	watchdog *watchdog // nil is one for this log alone
}

// A Log is the lines of one service: the newest in a ring, all of them in a
// logdir, and the numbers they have. It is a capture.Sink.
type Log struct {
	ring  *ring.Ring
	dir   *rotate.Logdir
	now   func() time.Time
	log   *slog.Logger
	lost  atomic.Uint64 // lines that the files will never have, since the start
	disk  atomic.Int64  // bytes in the files, after the last write
	wake  atomic.Pointer[func()]
	limit atomic.Int64 // of the length of lines

	tuning sync.Mutex                     // held while the logdir is configured
	wanted atomic.Pointer[rotate.Options] // that the logdir is to be configured with

	watchdog *watchdog

	found uint64 // the number after the last record that the files had when they were opened

	tried atomic.Bool // somebody waits for an fsync at the end of a run

	mu      sync.Mutex // guards the following; held over no I/O
	changed sync.Cond  // told of what await waits for
	stamps  stamps
	mark    []byte // of the mark being made
	writer  writer
	block   bool
	shrink  *ring.Limits // the ring's, when the files have what it holds; nil if it has its own
}

// OpenLog opens the logdir, recovers its numbering and fills the ring with its
// newest lines.
func OpenLog(o LogOptions) (*Log, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rotate.Now == nil {
		o.Rotate.Now = func() record.Stamp { return record.Stamp(o.Now().UnixNano()) }
	}
	if o.watchdog == nil {
		o.watchdog = newWatchdog()
	}
	l := &Log{ring: ring.New(o.Ring), now: o.Now, log: o.Log, block: o.Block, watchdog: o.watchdog}
	l.changed.L = &l.mu
	l.limit.Store(int64(o.LineLimit))
	l.writer.init(l)
	o.Rotate.Again = l.linesAgain
	var err error
	if l.dir, err = rotate.Open(o.Rotate); err != nil {
		return nil, err
	}
	l.disk.Store(l.dir.DiskBytes())
	if err := l.refill(o.Ring); err != nil {
		return nil, errors.Join(err, l.dir.Close())
	}
	l.tellOfCut()
	return l, nil
}

// refill puts the newest lines of the files into the ring, so that readers see
// them as before the restart.
func (l *Log) refill(limits ring.Limits) error {
	state := l.dir.State()
	l.stamps.last, l.found = state.Last, state.Next
	segments, err := l.dir.Tail(limits.Lines, limits.Bytes)
	if err != nil {
		return fmt.Errorf("cannot read the newest lines back: %w", err)
	}
	if len(segments) > 0 {
		l.ring.Start(segments[0].First, segments[0].Run)
	} else {
		l.ring.Start(state.Next, state.Run)
	}
	for _, s := range segments {
		l.refillFrom(s)
	}
	if _, next := l.ring.Bounds(); next != state.Next {
		b := l.ring.Begin()
		b.Skip(l.stamps.take(l.newest(), 1), state.Next, state.Run)
		b.Commit()
	}
	return nil
}

// refillFrom puts the records of s into the ring. Lines that are none have
// numbers all the same: like all that is missing, they become a lost mark, as for
// a reader who is fed from the files.
func (l *Log) refillFrom(s rotate.Segment) {
	b := l.ring.Begin()
	seq, run := s.First, s.Run
	for line := range bytes.Lines(s.Lines) {
		r, err := record.Parse(line)
		if err != nil {
			seq++
			continue
		}
		b.Skip(r.Stamp-1, seq, run)
		b.Add(r.Stamp, r.Kind, r.More, r.Text)
		seq = b.Next()
		if n, ok := record.StartRun(r); ok {
			run = n
		}
	}
	b.Commit()
}

// clock is the time now.
func (l *Log) clock() record.Stamp { return record.Stamp(l.now().UnixNano()) }

// newest is the stamp handed out last, or, if there is none, the time now. Marks
// about what is missing behind the last line go by it: they do not make a service
// look as if it had spoken.
func (l *Log) newest() record.Stamp { return cmp.Or(l.stamps.last, l.clock()) }

// Ring is where readers find the lines.
func (l *Log) Ring() *ring.Ring { return l.ring }

// Lost returns how many lines the files will never have, because the disk did
// not take them in time, since the log was opened.
func (l *Log) Lost() uint64 { return l.lost.Load() }

// DiskBytes returns the size of the log's files. It never waits for the disk.
func (l *Log) DiskBytes() int64 { return l.disk.Load() }

// OnCommit has wake called after each batch from now on.
func (l *Log) OnCommit(wake func()) { l.wake.Store(&wake) }

// Take stores one batch of lines: first on disk, then for readers to see. While
// the disk is behind, readers see it at once, and the files get it later.
func (l *Log) Take(batch []capture.Piece, goOn func()) { l.take(nil, batch, goOn) }

// A heldSink is the log as the sink of a run with a Hold.
type heldSink struct {
	*Log
	hold *capture.Hold
}

func (s heldSink) Take(batch []capture.Piece, goOn func()) { s.take(s.hold, batch, goOn) }

func (l *Log) take(hold *capture.Hold, batch []capture.Piece, goOn func()) {
	l.mu.Lock()
	l.takeBatchLocked(context.Background(), hold, batch, goOn)
}

// takeBatchLocked takes a batch and gives the lock back. When ctx is done it waits for
// no room any more.
func (l *Log) takeBatchLocked(ctx context.Context, hold *capture.Hold, batch []capture.Piece, goOn func()) {
	for len(batch) > 0 {
		for l.writer.flying || l.waitsLocked() && ctx.Err() == nil {
			l.changed.Wait()
		}
		n := l.partLocked(batch)
		b := l.encodeLocked(batch[:n])
		l.noteLocked(hold, capture.Doing(batch[0].Stream), b, batch[n:])
		batch = batch[n:]
		if !l.writer.late {
			l.launchLocked(b, goOn)
			l.mu.Unlock()
			l.fly()
			return
		}
		l.queueLocked(b)
	}
	l.mu.Unlock()
}

// partLocked is how many pieces are taken at once. While the writer is late that
// is a quarter of what the ring has room for: it must not give up lines of the
// same batch before anybody has waited for the disk.
func (l *Log) partLocked(batch []capture.Piece) (n int) {
	if !l.writer.late {
		return len(batch)
	}
	limits := l.ring.Limits()
	lines, room := max(limits.Lines/4, 1), limits.Bytes/4
	for n < min(len(batch), lines) && (n == 0 || room > 0) {
		room -= int64(record.Overhead + len(batch[n].Text))
		n++
	}
	return n
}

func (l *Log) encodeLocked(batch []capture.Piece) *ring.Batch {
	first := l.stamps.fly(l.clock, len(batch))
	b := l.ring.Begin()
	for i := range batch {
		p := &batch[i]
		b.Add(first+record.Stamp(i), kindOf(p.Stream), p.More, p.Text)
	}
	return b
}

// noteLocked has the hold know which numbers b has, and be told when they are in
// the files. rest is what of the lines has none yet.
func (l *Log) noteLocked(hold *capture.Hold, what capture.Doing, b *ring.Batch, rest []capture.Piece) {
	if hold == nil {
		return
	}
	hold.Begin(what, b.First(), b.Next(), rest)
	if w := &l.writer; !slices.Contains(w.holds, hold) {
		w.holds = append(w.holds, hold)
	}
}

// storedLocked says that the files have all before the number next.
func (l *Log) storedLocked(next uint64) {
	for _, h := range l.writer.holds {
		h.Stored(next)
	}
}

// forget has the log know that a run is over, whose hold is about to be closed.
func (l *Log) forget(hold *capture.Hold) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := &l.writer
	w.holds = slices.DeleteFunc(w.holds, func(h *capture.Hold) bool { return h == hold })
}

func kindOf(s capture.Stream) record.Kind {
	if s == capture.Stderr {
		return record.Err
	}
	return record.Out
}

// storeMark stores one mark. It never waits for a disk that is behind.
func (l *Log) storeMark(hold *capture.Hold, what capture.Doing, text func(dst []byte) []byte) {
	l.storeMarkAt(l.clock, hold, what, text)
}

// storeMarkAt stores a mark with a stamp not before at.
func (l *Log) storeMarkAt(at func() record.Stamp, hold *capture.Hold, what capture.Doing, text func(dst []byte) []byte) {
	l.mu.Lock()
	for l.writer.flying {
		l.changed.Wait()
	}
	l.mark = text(l.mark[:0])
	t := l.stamps.fly(at, 1)
	b := l.ring.Begin()
	b.Add(t, record.Mark, false, l.mark)
	l.noteLocked(hold, what, b, nil)
	if l.writer.late {
		l.noteStartLocked(b, t)
		l.queueLocked(b)
		l.mu.Unlock()
		return
	}
	done, late := make(chan struct{}), make(chan struct{})
	l.launchLocked(b, func() { close(late) })
	l.mu.Unlock()
	go func() {
		defer close(done)
		l.fly()
	}()
	select {
	case <-done:
	case <-late:
	}
}

func (l *Log) publish(b *ring.Batch) {
	b.Commit()
	l.stamps.land()
	l.wakeReaders()
}

// Due returns a stamp that nothing is before that the ring does not have, if now
// is the time.
func (l *Log) Due(now record.Stamp) record.Stamp { return l.stamps.due(now) }

func (l *Log) wakeReaders() {
	if wake := l.wake.Load(); wake != nil {
		(*wake)()
	}
}

// How long an answer of the disk is waited for. Whoever gives up leaves the
// call to itself.
const (
	runPatience   = time.Second      // at the end of a run, which is then begun anew
	askPatience   = time.Minute      // by somebody who asked for it
	closePatience = 10 * time.Second // at the end of the daemon
)

// patiently runs do, which may wait for the disk, and waits for it for as long as
// patience.
func patiently(patience time.Duration, do func() error) error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case err := <-done:
		return err
	case <-late.C:
		return fmt.Errorf("the disk has not answered for %v", patience)
	}
}

// Sync brings what was taken to stable storage.
func (l *Log) Sync() error {
	return patiently(askPatience, func() error {
		if err := l.settle(); err != nil {
			return err
		}
		return l.dir.Sync()
	})
}

// Rotate begins a new file on disk.
func (l *Log) Rotate() error {
	return patiently(askPatience, func() error {
		if err := l.settle(); err != nil {
			return err
		}
		err := l.dir.Rotate()
		l.disk.Store(l.dir.DiskBytes())
		return err
	})
}

// Blocks says whether a service waits for the disk now.
func (l *Log) Blocks() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.block && l.waitsLocked()
}

// Release ends all waiting for the disk in Take, now and later: the daemon
// ends.
func (l *Log) Release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writer.released = true
	l.changed.Broadcast()
}

// Close closes the logdir. The log takes nothing any more. What cannot be
// written now never will be: its numbers will be given out again.
func (l *Log) Close() error { return l.end(l.dir.Close) }

// Retire is Close for a log that others still read: the logdir can have another
// owner, and readers have its lines to the end.
func (l *Log) Retire() error { return l.end(l.dir.Retire) }

func (l *Log) end(closeDir func() error) error {
	err := patiently(closePatience, func() error {
		err := l.settle()
		l.mu.Lock()
		l.writer.closeLocked()
		l.mu.Unlock()
		return errors.Join(err, closeDir())
	})
	if n := l.waiting(); n > 0 {
		err = errors.Join(err, fmt.Errorf("%d lines are not on disk", n))
	}
	return err
}
