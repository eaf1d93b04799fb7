package daemon

import (
	"context"
	"log/slog"
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
	name   string
	log    *Log
	events *slog.Logger

	capturing context.Context // cancelled before the log is closed: capture takes what is in the pipes
	cut       context.CancelFunc
	live      sync.WaitGroup // captures and ends of runs

	brought chan broughtRun // runs of the daemon's own that a holder brings

	job    *job    // runs the command; nil without. Guarded by Daemon.reloading
	intake *intake // captures the input; likewise

	writers   writers
	accessing sync.Mutex // held while owner and mode change

	mu       sync.Mutex // guards the following; never held over I/O
	settings config.Service
	state    State
	pid      int
	taken    bool            // there is a run, or one is about to begin
	client   bool            // it is somebody else's
	owned    bool            // the daemon itself starts its runs
	leaving  bool            // it is being removed
	stopped  <-chan struct{} // of the job, closed when it is stopped
	freed    chan struct{}   // closed when the run has ended; nil if nobody waits for that
	entry    Entry           // nil without a tree
}

// config is the settings in force.
func (s *service) config() config.Service {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.settings
}

// take reserves the service for one run: of somebody else's, or the daemon's own
// that a holder brings.
func (s *service) take(own bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch name := s.name; {
	case s.leaving && !own:
		return exit.Refusedf("service %q is being removed: try again", name)
	case s.owned && !own:
		return exit.Misusef("service %q is started by the daemon itself: want another name", name)
	case s.taken && s.pid > 0:
		return exit.Misusef("service %q already has a run: pid %d", name, s.pid)
	case s.taken:
		return exit.Misusef("service %q already has a run", name)
	}
	s.taken, s.client = true, !own
	return nil
}

// retire has the service taken by nobody any more. It returns false if a client
// has it.
func (s *service) retire() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving = s.leaving || !s.client
	return s.leaving
}

func (s *service) isLeaving() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leaving
}

// hurry is closed when runs of the daemon's own are to end: by its job, if there
// is one, else with the daemon.
func (s *service) hurry(daemon <-chan struct{}) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped != nil {
		return s.stopped
	}
	return daemon
}

// awaitFree waits for the end of a run that a client has begun before the
// daemon came to own the service. It returns false if ctx was cancelled.
func (s *service) awaitFree(ctx context.Context) bool {
	s.mu.Lock()
	if !s.client {
		s.mu.Unlock()
		return true
	}
	freed := make(chan struct{})
	s.freed = freed
	s.mu.Unlock()
	s.events.Info("the command waits for the end of a client's run")
	select {
	case <-freed:
		return true
	case <-ctx.Done():
		return false
	}
}

// freeLocked ends a reservation.
func (s *service) freeLocked() {
	s.taken, s.client = false, false
	if s.freed != nil {
		close(s.freed)
		s.freed = nil
	}
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
	s.freeLocked()
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
	} else {
		held = s.log.Resume(hold, pid)
	}
	s.running(pid)
	return held
}

func (s *service) running(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state, s.pid, s.taken = Running, pid, true
}

// leave leaves a run to the next daemon.
func (s *service) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state, s.pid = Idle, 0
	s.freeLocked()
}

// end ends the run in log and state.
func (s *service) end(hold *capture.Hold, e record.Exit) {
	s.log.EndRun(hold, e)
	s.ended(e)
}

// ended ends the run in state only.
func (s *service) ended(e record.Exit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state, s.pid = ended(e), 0
	s.freeLocked()
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

// refused is how many readers a limit has kept out.
func (s *service) refused() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entry == nil {
		return 0
	}
	return s.entry.Refused()
}
