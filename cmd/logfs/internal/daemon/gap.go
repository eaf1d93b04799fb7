package daemon

import (
	"bytes"
	"time"

	"logfs/ring/record"
)

// How long the disk is left alone after it refused a write: doubling, because
// every attempt costs the service the time the disk takes to fail.
const (
	minRetry = 100 * time.Millisecond
	maxRetry = 30 * time.Second
)

// A gap is the numbers that were given out and are not in the files. It ends
// with lost marks for exactly these numbers, and, if a run began among them,
// with its start mark in between: without it the files would count the lines
// after the gap to the wrong run.
type gap struct {
	from, next uint64       // the numbers missing; equal when there is no gap
	run        uint64       // in force at from
	since      record.Stamp // of the first missing line
	until      record.Stamp // of the last

	start    []byte // stored form of the last start mark among them, nil if none
	startSeq uint64
	startRun uint64

	retry time.Time // not before
	wait  time.Duration
}

// span is consecutive records of one batch.
type span struct {
	first, next  uint64
	run          uint64 // in force at first
	stamp, until record.Stamp
	start        []byte // the batch as stored if it is a start mark
	startRun     uint64
}

func (g *gap) open() bool { return g.next > g.from }

// lost is how many of the numbers are lines that the files will never have.
func (g *gap) lost() uint64 {
	if g.start != nil {
		return g.next - g.from - 1
	}
	return g.next - g.from
}

// add counts s as missing.
func (g *gap) add(s span) {
	if !g.open() {
		g.from, g.run, g.since = s.first, s.run, s.stamp
	}
	g.next, g.until = s.next, s.until
	if s.start != nil {
		g.start, g.startSeq, g.startRun = bytes.Clone(s.start), s.first, s.startRun
	}
}

// marks appends what the files get in place of the missing lines.
func (g *gap) marks(dst []byte) []byte {
	if g.start == nil {
		return appendLost(dst, g.until, g.next-g.from)
	}
	dst = appendLost(dst, g.since, g.startSeq-g.from)
	dst = append(dst, g.start...)
	return appendLost(dst, g.until, g.next-g.startSeq-1)
}

func appendLost(dst []byte, t record.Stamp, n uint64) []byte {
	if n == 0 {
		return dst
	}
	return record.Append(dst, t, record.Mark, false, record.AppendLost(nil, n))
}

// filled takes the numbers up to written off the gap: the files have their
// marks now.
func (g *gap) filled(written uint64) {
	g.from = min(max(g.from, written), g.next)
	if g.start != nil && g.from > g.startSeq {
		g.run, g.start = g.startRun, nil
	}
}

// delay puts the next attempt off, longer each time.
func (g *gap) delay(now time.Time) {
	g.wait = min(max(2*g.wait, minRetry), maxRetry)
	g.retry = now.Add(g.wait)
}
