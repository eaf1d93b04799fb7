package daemon

import (
	"testing"

	"logfs/ring/record"
)

// While a batch has its stamps and is not to be seen, nothing that is later may
// be taken for the next.
func TestDue(t *testing.T) {
	var s stamps
	if got := s.due(5); got != 5 {
		t.Errorf("with nothing under way: %d", got)
	}
	first := s.fly(func() record.Stamp {
		if got := s.due(7); got > 6 {
			t.Errorf("while the clock is read: %d", got)
		}
		return 6
	}, 3)
	if got := s.due(100); first != 6 || got != 6 {
		t.Errorf("with the stamps from %d on under way: %d", first, got)
	}
	if got := s.due(3); got != 3 {
		t.Errorf("before them: %d", got)
	}
	s.land()
	if got := s.due(100); got != 100 {
		t.Errorf("behind them: %d", got)
	}
}
