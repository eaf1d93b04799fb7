package daemon

import (
	"sync/atomic"
	"time"

	"logfs/ring/record"
)

// clockStep is by how much the clock may go back without the stamps following
// it: adjustments of the time service are less, somebody setting the clock is
// more.
const clockStep = record.Stamp(time.Second)

// stamps hands out the stamps of one service, strictly increasing as long as
// the clock does not step back.
type stamps struct {
	last record.Stamp // handed out last
	// flying is not 0 while there are stamps handed out that no reader can see:
	// the least of them, once it is known. It is set before the clock is read.
	flying atomic.Int64
}

// unknownStamp is the least there is.
const unknownStamp = 1

// fly is take with the time that clock shows, for what readers cannot see before
// land is called.
func (s *stamps) fly(clock func() record.Stamp, n int) record.Stamp {
	s.flying.Store(unknownStamp)
	first := s.take(clock(), n)
	s.flying.Store(int64(first))
	return first
}

func (s *stamps) land() { s.flying.Store(0) }

// due returns a stamp that nothing is before that readers cannot see yet, if the
// clock shows now or has shown it before.
func (s *stamps) due(now record.Stamp) record.Stamp {
	if at := s.flying.Load(); at != 0 {
		return min(now, record.Stamp(at))
	}
	return now
}

// take returns the first of n stamps, each 1 ns after the one before.
func (s *stamps) take(now record.Stamp, n int) record.Stamp {
	first := now
	if now <= s.last && s.last-now <= clockStep {
		first = s.last + 1
	}
	s.last = first + record.Stamp(n) - 1
	return first
}
