package daemon

import (
	"log/slog"
	"os"
	"sync"

	"logfs/capture"
	"logfs/cmd/logfs/internal/config"
	"logfs/cmd/logfs/internal/exit"
	"logfs/ring/record"
)

// A State is what a service is doing.
type State string

const (
	Idle    State = "idle"    // no run since the daemon began
	Running State = "running" // a run is under way
	Backoff State = "backoff" // its command will be started again
	Exited  State = "exited"  // the last run ended with status 0 or unknown
	Failed  State = "failed"  // the last run ended otherwise, or never began
)

// A service is one log and who writes to it.
type service struct {
	settings config.Service
	log      *Log
	events   *slog.Logger
	socket   *syslogSocket // nil without
	fifo     *os.File      // open for reading until a holder has it

	mu    sync.Mutex // guards the following; never held over I/O
	state State
	pid   int
	taken bool  // there is a run, or one is about to begin
	owned bool  // the daemon itself starts its runs
	entry Entry // nil without a tree

	brought chan broughtRun // runs of the daemon's own that a holder brings
}

// take reserves the service for one run: of somebody else's, or the daemon's own
// that a holder brings.
func (s *service) take(own bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch name := s.settings.Name; {
	case s.owned && !own:
		return exit.Misusef("service %q is started by the daemon itself: want another name", name)
	case s.taken && s.pid > 0:
		return exit.Misusef("service %q already has a run: pid %d", name, s.pid)
	case s.taken:
		return exit.Misusef("service %q already has a run", name)
	}
	s.taken = true
	return nil
}

// bring hands a run to the supervisor of the service, if there is one.
func (s *service) bring(h broughtRun) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owned {
		select {
		case <-s.brought: // nobody has waited for the one before
		default:
		}
		s.brought <- h
	}
}

// own reserves the service for the daemon, and gives it back.
func (s *service) own(owned bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owned = owned
}

// release takes back a reservation that came to nothing.
func (s *service) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken = false
}

func (s *service) set(state State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = state
}

// begin begins a run in log and state. With a Hold it may go on with one that
// has begun.
func (s *service) begin(hold *capture.Hold, pid int) (held capture.Held) {
	if hold == nil {
		s.log.BeginRun(nil, pid)
	} else if held = s.log.Resume(hold, pid); held.Ended {
		s.release()
		return held
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state, s.pid, s.taken = Running, pid, true
	return held
}

// leave leaves a run to the next daemon.
func (s *service) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state, s.pid, s.taken = Idle, 0, false
}

// end ends the run in log and state.
func (s *service) end(hold *capture.Hold, e record.Exit) {
	s.log.EndRun(hold, e)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state, s.pid, s.taken = ended(e), 0, false
}

func ended(e record.Exit) State {
	if e.Known && (e.Code != 0 || e.Signal != "") {
		return Failed
	}
	return Exited
}

// shown has the followers of e told of all that comes.
func (s *service) shown(e Entry) {
	s.mu.Lock()
	s.entry = e
	s.mu.Unlock()
	s.log.OnCommit(e.Wake)
}

func (s *service) snapshot() (state State, pid, readers int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entry != nil {
		readers = s.entry.Readers()
	}
	return s.state, s.pid, readers
}
