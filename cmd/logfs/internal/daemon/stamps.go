package daemon

import (
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
