package daemon

import (
	"logfs/ring"
	"logfs/ring/record"
)

// A gap is the numbers that the ring gave up before the files had their lines.
// The files get lost marks for exactly these numbers, and, if a run began among
// them, its start mark in between: without it they would count the lines after
// the gap to the wrong run.
type gap struct {
	from, next uint64    // the numbers missing; equal when there is no gap
	run        uint64    // in force at from
	start      startMark // the last start mark among them
}

// startMark is a start mark that is not in the files yet.
type startMark struct {
	seq   uint64 // 0: there is none
	stamp record.Stamp
	line  []byte // stored form
}

func (g *gap) open() bool { return g.next > g.from }

// lost is how many of the numbers are lines that the files will never have.
func (g *gap) lost() uint64 {
	if g.start.seq > 0 {
		return g.next - g.from - 1
	}
	return g.next - g.from
}

// add counts the numbers from at up to next as missing, with the last start
// mark among them.
func (g *gap) add(at ring.Cursor, next uint64, s startMark) {
	if !g.open() {
		*g = gap{from: at.Seq, run: at.Run}
	}
	g.next = next
	if s.seq > 0 {
		g.start = s
	}
}

// stretch is the gap as the files get it.
func (g *gap) stretch(until record.Stamp) stretch {
	return stretch{chunks: [][]byte{g.marks(until)}, first: g.from, next: g.next, run: g.run}
}

// marks is what the files get in place of the missing lines; until is the
// stamp of the last of them.
func (g *gap) marks(until record.Stamp) (lines []byte) {
	if g.start.seq == 0 {
		return appendLost(nil, until, g.next-g.from)
	}
	lines = appendLost(nil, g.start.stamp-1, g.start.seq-g.from)
	lines = append(lines, g.start.line...)
	return appendLost(lines, until, g.next-g.start.seq-1)
}

func appendLost(dst []byte, t record.Stamp, n uint64) []byte {
	if n == 0 {
		return dst
	}
	return record.Append(dst, t, record.Mark, false, record.AppendLost(nil, n))
}
