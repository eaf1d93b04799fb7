package daemon

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"logfs/capture"
	"logfs/ring"
	"logfs/ring/record"
)

// How long the disk is left alone after it refused a write. The time doubles, up
// to a second if the disk refuses at once, as a full one does: it may have room
// at any moment, and to ask costs nothing. One that takes long to refuse gets
// ten times as long.
const (
	minRetry  = 100 * time.Millisecond
	fastRetry = time.Second
	maxRetry  = 30 * time.Second
)

// retryAfter is how long to wait after an attempt that took so long, when the
// wait before it was last.
func retryAfter(last, took time.Duration) time.Duration {
	return min(max(2*last, minRetry), max(fastRetry, 10*took), maxRetry)
}

// A writer brings the lines of a log to its files. It is a role, taken by one
// goroutine at a time, and it has two modes.
//
// On time, the goroutine that captured a batch writes it, and the ring shows it
// when that is done: the batch is flying. Other batches wait meanwhile.
//
// Late, there are lines in the ring that the files do not have. A flying batch
// whose write takes longer than stall, or is refused, makes the
// writer late: the ring shows it, its memory is pinned, capture goes on into
// the ring in another goroutine, and the one that is stuck in the write follows
// with the rest, in order, when the disk lets it. If the disk refuses, a timer
// tries again. When the files have all that the ring has, the writer is on time
// again. The files never get lines in another order, or twice: there is one
// position, and only who has the role moves it.
//
// What is not in the files is, in this order: hand, lost, and the ring from at
// on. Memory is bounded by the ring and what is in hand: a batch or a block.
type writer struct {
	busy     bool // somebody has the role
	flying   bool // a batch is being written that the ring does not show yet
	late     bool
	released bool // nobody waits for the disk any more
	closed   bool

	batch *ring.Batch // flying
	goOn  func()      // for when it takes too long
	hand  stretch     // being written; the role's, not guarded while busy
	whole stretch     // as hand was taken, for readers; empty unless late

	from   uint64      // the first number not known to be in the files
	lost   gap         // between hand and at
	at     ring.Cursor // the next record the writer will take from the ring
	bytes  uint64      // appended to the ring before at
	starts []startMark // marks from at on, in order

	refused bool // by the last write
	moving  bool // the writer is busy, and the disk is not given up: see diskPatience
	warned  bool
	since   time.Time     // late
	missed  uint64        // lines lost since then
	wait    time.Duration // until the next attempt
	retry   *time.Timer

	holds []*capture.Hold // told what is in the files: mostly one

	writes  uint64 // begun, so that the watchdog can tell them apart
	seen    uint64 // by the watchdog
	ticks   int    // for which it has seen that one
	watched bool   // the watchdog looks
}

func (w *writer) init(l *Log) {
	w.retry = time.AfterFunc(time.Hour, l.again)
	w.retry.Stop()
}

func (w *writer) closeLocked() {
	w.closed = true
	w.retry.Stop()
}

// waitsLocked says whether a batch has to wait before it gets its numbers.
func (l *Log) waitsLocked() bool {
	w := &l.writer
	switch {
	case w.flying:
		return true
	case !w.late || w.released:
		return false
	case l.block:
		return w.refused || l.crowdedLocked(1)
	}
	// A disk that is busy, or stalls for a moment, is no reason to lose lines:
	// a flooding service waits for that long, as it does for a full pipe.
	return w.moving && l.crowdedLocked(2)
}

// crowdedLocked says whether lines that the files do not have fill a part of
// the ring.
func (l *Log) crowdedLocked(part int) bool {
	limits, stats := l.ring.Limits(), l.ring.Stats()
	_, next := l.ring.Bounds()
	return next-l.writer.at.Seq >= uint64(max(limits.Lines/part, 1)) ||
		stats.AppendedBytes-l.writer.bytes >= uint64(limits.Bytes)/uint64(part)
}

// launchLocked makes b the batch that flies. The caller calls fly next.
func (l *Log) launchLocked(b *ring.Batch, goOn func()) {
	w := &l.writer
	w.busy, w.flying, w.batch, w.goOn = true, true, b, goOn
	w.hand.chunks, w.hand.first, w.hand.next, w.hand.run = b.Chunks(), b.First(), b.Next(), b.Run()
	w.from = b.First()
	l.beginWriteLocked()
}

func (l *Log) beginWriteLocked() {
	w := &l.writer
	w.writes++
	if !w.watched {
		w.watched = true
		l.watchdog.watch(l)
	}
}

// fly writes the flying batch. If that takes too long, it returns only when the
// writer is on time again, or the disk refuses more.
func (l *Log) fly() {
	err := l.put()
	l.mu.Lock()
	w := &l.writer
	if !w.flying {
		l.mu.Unlock()
		l.follow(err)
		return
	}
	if err != nil {
		l.fallBehindLocked()
		l.refusedLocked(err, 0)
	} else {
		l.storedLocked(w.batch.Next())
		w.busy, w.flying, w.goOn = false, false, nil
		l.publish(w.batch)
		l.changed.Broadcast()
	}
	l.mu.Unlock()
}

func (l *Log) put() error {
	err := l.writer.hand.put(l.dir)
	l.disk.Store(l.dir.DiskBytes())
	return err
}

// look is what the watchdog does at every tick. It returns false when there is
// nothing to watch.
func (l *Log) look() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := &l.writer
	if w.watched = w.busy && !w.closed; !w.watched {
		return false
	}
	if w.seen != w.writes {
		w.seen, w.ticks = w.writes, 0
	}
	switch w.ticks++; {
	case w.ticks > int(diskPatience/tick):
		l.warnLocked("the disk does not answer; lines wait in memory", nil)
		w.moving = false
		l.changed.Broadcast()
	case w.ticks > int(stall/tick) && w.flying:
		goOn := w.goOn
		l.fallBehindLocked()
		goOn()
	}
	return true
}

// fallBehindLocked makes the writer late: the ring shows the batch before it is
// in the files.
func (l *Log) fallBehindLocked() {
	w := &l.writer
	w.late, w.flying, w.goOn = true, false, nil
	w.since, w.missed, w.warned, w.moving = time.Now(), 0, false, true
	w.hand.pins = w.batch.CommitHeld()
	w.whole = stretch{first: w.batch.First(), next: w.batch.Next(), run: w.batch.Run()}
	for _, c := range w.hand.pins {
		w.whole.chunks = append(w.whole.chunks, c.Data)
	}
	_, w.at = l.ring.Held()
	w.bytes = l.ring.Stats().AppendedBytes
	if l.block {
		l.ring.Keep(w.at.Seq)
	}
	l.stamps.land()
	l.wakeReaders()
	l.changed.Broadcast()
}

// queueLocked shows a batch while the writer is late.
func (l *Log) queueLocked(b *ring.Batch) {
	l.publish(b)
	l.missLocked()
}

// missLocked counts what the ring has given up and the files were to get.
func (l *Log) missLocked() {
	w := &l.writer
	oldest, _ := l.ring.Held()
	if oldest.Seq <= w.at.Seq {
		return
	}
	// The ring is full, and what it gave up was next.
	before := w.lost.lost()
	w.lost.add(w.at, oldest.Seq, w.dropStarts(oldest.Seq))
	n := w.lost.lost() - before
	w.missed += n
	l.lost.Add(n)
	w.at, w.bytes = oldest, l.ring.Stats().EvictedBytes
}

// noteStartLocked remembers the mark in b if it begins a run.
func (l *Log) noteStartLocked(b *ring.Batch, t record.Stamp) {
	line := b.Chunks()[0]
	if parsed, err := record.Parse(line); err == nil {
		if _, ok := record.StartRun(parsed); ok {
			l.writer.starts = append(l.writer.starts, startMark{b.First(), t, bytes.Clone(line)})
		}
	}
}

// dropStarts forgets the start marks before the number next and returns the
// last of them.
func (w *writer) dropStarts(next uint64) (last startMark) {
	for len(w.starts) > 0 && w.starts[0].seq < next {
		last, w.starts = w.starts[0], w.starts[1:]
	}
	return last
}

// follow writes what the ring has and the files have not; err is of the write
// before. The caller has the role, and has it no longer when follow returns.
func (l *Log) follow(err error) error {
	var took time.Duration
	for wrote := false; ; wrote = true {
		l.mu.Lock()
		w := &l.writer
		if err != nil {
			l.refusedLocked(err, took)
			l.mu.Unlock()
			return err
		}
		if wrote {
			w.refused, w.wait = false, 0
			l.storedLocked(w.hand.next)
		}
		if w.closed || !l.takeNextLocked() {
			l.onTimeLocked()
			l.mu.Unlock()
			return nil
		}
		w.moving, w.from = true, w.hand.first
		l.beginWriteLocked()
		l.changed.Broadcast()
		l.mu.Unlock()
		began := time.Now()
		err = l.put()
		took = time.Since(began)
	}
}

// takeNextLocked takes in hand what the files need next. It returns false if
// there is nothing.
func (l *Log) takeNextLocked() bool {
	w := &l.writer
	if !w.hand.empty() {
		return true
	}
	w.hand.release()
	w.whole = stretch{}
	if w.lost.open() {
		w.handLocked(w.lost.stretch(l.stampLocked() - 1))
		w.lost = gap{}
		return true
	}
	for {
		// A block of which nothing is left to take may have been dropped.
		if oldest, _ := l.ring.Held(); oldest.Block > w.at.Block {
			w.at = oldest
		}
		c, ok := l.ring.Chunk(w.at.Block)
		if !ok {
			return false
		}
		if w.at.Off < len(c.Data) {
			l.takeLocked(c)
			return true
		}
		c.Release()
		_, end := l.ring.Held()
		if w.at.Block >= end.Block {
			return false
		}
		w.at.Block, w.at.Off = w.at.Block+1, 0
	}
}

// takeLocked takes the rest of a block in hand.
func (l *Log) takeLocked(c ring.Chunk) {
	w := &l.writer
	s := record.Scanner{Buf: c.Data[w.at.Off:], Seq: w.at.Seq, Run: w.at.Run}
	hand := stretch{chunks: [][]byte{s.Buf}, first: s.Seq, run: s.Run, pins: []ring.Chunk{c}}
	w.bytes += uint64(len(s.Buf))
	for {
		if _, ok := s.Next(); !ok {
			break
		}
	}
	hand.next = s.Seq
	w.handLocked(hand)
	w.at.Seq, w.at.Run, w.at.Off = s.Seq, s.Run, len(c.Data)
	w.dropStarts(s.Seq)
	if l.block {
		l.ring.Keep(s.Seq)
	}
}

// handLocked takes s in hand.
func (w *writer) handLocked(s stretch) {
	w.hand, w.whole = s, s
	w.whole.chunks = slices.Clone(s.chunks) // put changes those in hand
}

// stampLocked is the stamp of the record at the writer's place in the ring.
func (l *Log) stampLocked() record.Stamp {
	c, ok := l.ring.Chunk(l.writer.at.Block)
	if ok {
		defer c.Release()
		if t, ok := record.ParseStamp(c.Data[l.writer.at.Off:]); ok {
			return t
		}
	}
	return l.stamps.last
}

// refusedLocked gives the role up until the next attempt, after one that took
// so long.
func (l *Log) refusedLocked(err error, took time.Duration) {
	w := &l.writer
	w.busy, w.moving, w.refused, w.from = false, false, true, w.hand.first
	w.wait = retryAfter(w.wait, took)
	if !w.closed {
		w.retry.Reset(w.wait)
	}
	what := "the logdir takes no writes; lines wait in memory, the oldest are lost when that is full"
	if l.block {
		what = "the logdir takes no writes; the service waits"
	}
	l.warnLocked(what, err)
	l.changed.Broadcast()
}

// onTimeLocked gives the role up: the files have all that the ring has.
func (l *Log) onTimeLocked() {
	w := &l.writer
	if w.warned || w.missed > 0 {
		l.log.Warn("the logdir takes writes again", "lost", w.missed, "after", time.Since(w.since).Round(time.Millisecond))
	}
	w.busy, w.moving, w.late, w.refused, w.wait = false, false, false, false, 0
	w.starts = nil
	_, next := l.ring.Bounds()
	l.storedLocked(next)
	l.ring.Keep(ring.KeepNone)
	if l.shrink != nil {
		l.ring.Resize(*l.shrink)
		l.shrink = nil
	}
	l.changed.Broadcast()
}

// warnLocked warns once for each time that the writer is late.
func (l *Log) warnLocked(what string, err error) {
	w := &l.writer
	if w.warned {
		return
	}
	w.warned = true
	if err == nil {
		err = fmt.Errorf("no answer for %v", diskPatience)
	}
	l.log.Warn(what, "err", err)
}

// again is called when it is time to try the disk again.
func (l *Log) again() {
	l.mu.Lock()
	w := &l.writer
	if w.busy || !w.late || w.closed {
		l.mu.Unlock()
		return
	}
	w.busy = true
	l.mu.Unlock()
	l.follow(nil)
}

// settle brings all that was taken to the files, without regard to the retry
// time: somebody asked for it.
func (l *Log) settle() error {
	l.mu.Lock()
	w := &l.writer
	for w.busy && !w.closed {
		l.changed.Wait()
	}
	if !w.late || w.closed {
		l.mu.Unlock()
		return nil
	}
	w.busy = true
	w.retry.Stop()
	l.mu.Unlock()
	return l.follow(nil)
}

// late says whether there are lines that the files do not have.
func (l *Log) late() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.writer.late
}

// waiting is how many lines the files do not have, those that are lost but not
// yet told to be included.
func (l *Log) waiting() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.writer.late {
		return 0
	}
	_, next := l.ring.Bounds()
	return next - l.writer.from
}
