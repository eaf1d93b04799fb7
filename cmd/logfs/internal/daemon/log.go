package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
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
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Log gets the warnings; its attributes should name the service.
	Log *slog.Logger
}

// A Log is the lines of one service: the newest in a ring, all of them in a
// logdir, and the numbers they have. It is a capture.Sink.
type Log struct {
	ring *ring.Ring
	now  func() time.Time
	log  *slog.Logger
	lost atomic.Uint64 // lines that are not in the files, since the start
	disk atomic.Int64  // bytes in the files, after the last write
	wake atomic.Pointer[func()]

	mu     sync.Mutex // guards the following, and is held over writes to disk
	dir    *rotate.Logdir
	stamps stamps
	gap    gap
	mark   []byte // of the mark being made
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
	dir, err := rotate.Open(o.Rotate)
	if err != nil {
		return nil, err
	}
	l := &Log{ring: ring.New(o.Ring), now: o.Now, log: o.Log, dir: dir}
	l.disk.Store(dir.DiskBytes())
	if err := l.refill(o.Ring); err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return l, nil
}

// refill puts the newest lines of the files into the ring, so that readers see
// them as before the restart.
func (l *Log) refill(limits ring.Limits) error {
	state := l.dir.State()
	l.stamps.last = state.Last
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
		b := l.ring.Begin()
		b.Skip(s.First, s.Run)
		for line := range bytes.Lines(s.Lines) {
			b.AddStored(line)
		}
		b.Commit()
	}
	if _, next := l.ring.Bounds(); next != state.Next {
		b := l.ring.Begin()
		b.Skip(state.Next, state.Run)
		b.Commit()
	}
	return nil
}

// Ring is where readers find the lines.
func (l *Log) Ring() *ring.Ring { return l.ring }

// Lost returns how many lines the disk refused since the log was opened.
func (l *Log) Lost() uint64 { return l.lost.Load() }

// DiskBytes returns the size of the log's files. It never waits for the disk.
func (l *Log) DiskBytes() int64 { return l.disk.Load() }

// OnCommit has wake called after each batch from now on.
func (l *Log) OnCommit(wake func()) { l.wake.Store(&wake) }

// Take stores one batch of lines: first on disk, then for readers to see.
func (l *Log) Take(batch []capture.Piece) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	first := l.stamps.take(record.Stamp(now.UnixNano()), len(batch))
	b := l.ring.Begin()
	for i := range batch {
		p := &batch[i]
		b.Add(first+record.Stamp(i), kindOf(p.Stream), p.More, p.Text)
	}
	l.storeLocked(now, b, span{first: b.First(), next: b.Next(), run: b.Run(), stamp: first, until: l.stamps.last})
	l.publish(b)
}

func kindOf(s capture.Stream) record.Kind {
	if s == capture.Stderr {
		return record.Err
	}
	return record.Out
}

// BeginRun writes the start mark of a new run and returns its number. What a
// killed daemon left without exit mark stays as it is.
func (l *Log) BeginRun(pid int) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	run := l.ring.Run() + 1
	l.markLocked(record.AppendStart(l.mark[:0], run, pid), run)
	return run
}

// EndRun writes the exit mark and brings the run to stable storage.
func (l *Log) EndRun(e record.Exit) {
	l.mu.Lock()
	l.markLocked(record.AppendExit(l.mark[:0], e), 0)
	l.mu.Unlock()
	if err := l.Sync(); err != nil {
		l.log.Warn("the end of a run may not be on disk yet", "err", err)
	}
}

// markLocked stores one mark; begins is the run it begins, 0 for other marks.
func (l *Log) markLocked(text []byte, begins uint64) {
	l.mark = text
	now := l.now()
	t := l.stamps.take(record.Stamp(now.UnixNano()), 1)
	b := l.ring.Begin()
	b.Add(t, record.Mark, false, text)
	s := span{first: b.First(), next: b.Next(), run: b.Run(), stamp: t, until: t}
	if begins > 0 {
		s.start, s.startRun = b.Chunks()[0], begins
	}
	l.storeLocked(now, b, s)
	l.publish(b)
}

func (l *Log) publish(b *ring.Batch) {
	b.Commit()
	if wake := l.wake.Load(); wake != nil {
		(*wake)()
	}
}

// storeLocked writes the batch, all of which s describes, to the logdir. What
// the disk refuses becomes part of the gap.
func (l *Log) storeLocked(now time.Time, b *ring.Batch, s span) {
	if l.gap.open() {
		if now.Before(l.gap.retry) || l.closeGapLocked(now) != nil {
			l.missLocked(s)
			return
		}
	}
	written, err := l.writeLocked(b.Chunks(), s)
	l.disk.Store(l.dir.DiskBytes())
	switch {
	case written < s.next:
		s.first = written
		l.missLocked(s)
		l.gap.delay(now)
		l.log.Warn("the logdir takes no writes; lines are missing on disk until it does", "err", err)
	case err != nil:
		l.log.Warn("the logdir is in trouble; no line is lost so far", "err", err)
	}
}

// writeLocked writes chunks, the stored form of s, and returns the first number
// that is not in the files.
func (l *Log) writeLocked(chunks [][]byte, s span) (written uint64, err error) {
	written = s.first
	for i, c := range chunks {
		next := s.next
		if i < len(chunks)-1 {
			next = written + uint64(bytes.Count(c, newline))
		}
		if written, err = l.dir.Append(c, written, next, s.run); written < next {
			break
		}
	}
	return written, err
}

var newline = []byte{'\n'}

// missLocked counts s as missing in the files.
func (l *Log) missLocked(s span) {
	before := l.gap.lost()
	l.gap.add(s)
	l.lost.Add(l.gap.lost() - before)
}

// closeGapLocked tells the files what they miss, if the disk lets it.
func (l *Log) closeGapLocked(now time.Time) error {
	lost := l.gap.lost()
	written, err := l.dir.Append(l.gap.marks(nil), l.gap.from, l.gap.next, l.gap.run)
	if l.gap.filled(written); l.gap.open() {
		l.gap.delay(now)
		return fmt.Errorf("cannot write the mark of %d lost lines: %w", lost, err)
	}
	l.gap = gap{}
	l.log.Warn("the logdir takes writes again", "lost", lost)
	return nil
}

// tryGap closes the gap, if there is one, without regard to the retry time:
// somebody asked for the files to be complete.
func (l *Log) tryGap() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.gap.open() {
		return nil
	}
	return l.closeGapLocked(l.now())
}

// Sync brings what was taken to stable storage.
func (l *Log) Sync() error {
	if err := l.tryGap(); err != nil {
		return err
	}
	return l.dir.Sync()
}

// Rotate begins a new file on disk.
func (l *Log) Rotate() error {
	if err := l.tryGap(); err != nil {
		return err
	}
	err := l.dir.Rotate()
	l.disk.Store(l.dir.DiskBytes())
	return err
}

// Close closes the logdir. The log takes nothing any more. A gap that cannot be
// told to the files now never will: its numbers will be given out again.
func (l *Log) Close() error {
	return errors.Join(l.tryGap(), l.dir.Close())
}
