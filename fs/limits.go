package fs

import (
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Limits are how many handles of follow may be open, 0 for any number: in the
// whole tree, of one service, and of one user. The last is not for root and the
// user of the daemon. Of the other two, an eighth is for these alone, so that
// readers of other users cannot keep an administrator from reading.
type Limits struct {
	Followers, PerService, PerUser int
}

// reserve is the part of a limit that is kept for root and the daemon's user.
const reserve = 8

// LimitCounts is what the limits have done and how near they are.
type LimitCounts struct {
	Limits
	// Followers are open now; InService of the service that has most, OfUser of
	// the user, among those who are limited, who has most.
	Followers, InService, OfUser int
	// RefusedAll, RefusedService and RefusedUser count opens that were refused.
	RefusedAll, RefusedService, RefusedUser uint64
	// Pinned is how many bytes of dropped lines readers keep in memory, PinLimit
	// how many they may, and Unpinned how often one lost them over that.
	Pinned, PinLimit, Unpinned uint64
}

// sayAgain is how long a limit that was said is not said again.
const sayAgain = time.Hour

// limiter counts handles of follow.
type limiter struct {
	mu       sync.Mutex // guards all below; nothing else is locked under it
	limits   Limits
	all      int
	services map[*Entry]int
	users    map[uint32]int
	refused  [limitKinds]uint64
	said     [limitKinds]time.Time
}

type limitKind uint8

const (
	limitAll limitKind = iota
	limitService
	limitUser
	limitKinds
)

var limitNames = [limitKinds]string{"max-followers", "max-followers-per-service", "max-followers-per-user"}

// A seat is the place of one handle of follow. The zero seat is none.
type seat struct {
	e     *Entry
	uid   uint32
	guest bool
}

// SetLimits sets other limits. Who reads already is not disturbed.
func (s *Server) SetLimits(l Limits) {
	s.limiter.mu.Lock()
	defer s.limiter.mu.Unlock()
	s.limiter.limits = l
}

// seat gives a handle of follow of e a place, unless a limit is in the way.
func (s *Server) seat(e *Entry, uid uint32) (seat, fuse.Status) {
	at := s.seatOf(e, uid)
	l := &s.limiter
	l.mu.Lock()
	kind, ok := l.takeLocked(at)
	if ok {
		l.mu.Unlock()
		return at, fuse.OK
	}
	l.refused[kind]++
	e.refused.Add(1)
	say := time.Since(l.said[kind]) > sayAgain
	if say {
		l.said[kind] = time.Now()
	}
	l.mu.Unlock()
	if say {
		s.opts.Log.Warn("a reader of follow was refused; further ones are only counted",
			"limit", limitNames[kind], "service", e.Name, "uid", uid)
	}
	if kind == limitUser {
		return seat{}, tooManyHis
	}
	return seat{}, tooManyInAll
}

func (l *limiter) takeLocked(at seat) (limitKind, bool) {
	full := func(n, limit int) bool {
		if at.guest {
			limit -= limit / reserve
		}
		return limit > 0 && n >= limit
	}
	switch {
	case at.guest && l.limits.PerUser > 0 && l.users[at.uid] >= l.limits.PerUser:
		return limitUser, false
	case full(l.services[at.e], l.limits.PerService):
		return limitService, false
	case full(l.all, l.limits.Followers):
		return limitAll, false
	}
	l.sitLocked(at)
	return 0, true
}

func (l *limiter) sitLocked(at seat) {
	l.all++
	l.services[at.e]++
	if at.guest {
		l.users[at.uid]++
	}
}

func (s *Server) seatOf(e *Entry, uid uint32) seat {
	return seat{e: e, uid: uid, guest: uid != 0 && uid != s.owner.Uid}
}

// seatAgain gives a handle that another process has left its place, whatever the
// limits are now.
func (s *Server) seatAgain(e *Entry, uid uint32) seat {
	at := s.seatOf(e, uid)
	s.limiter.mu.Lock()
	defer s.limiter.mu.Unlock()
	s.limiter.sitLocked(at)
	return at
}

// noteSeat writes whose the handle is.
func (h *handle) noteSeat() {
	if h.cell != nil {
		h.cell.uid = h.seat.uid
	}
}

// unseat gives a place back.
func (s *Server) unseat(at seat) {
	if at.e == nil {
		return
	}
	l := &s.limiter
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.services[at.e]--; l.services[at.e] == 0 {
		delete(l.services, at.e)
	}
	if at.guest {
		if l.users[at.uid]--; l.users[at.uid] == 0 {
			delete(l.users, at.uid)
		}
	}
}

// LimitCounts says how near the limits are.
func (s *Server) LimitCounts() (c LimitCounts) {
	for _, e := range s.tree.names() {
		c.Pinned += e.Pinned()
		c.PinLimit += e.pinLimit()
		c.Unpinned += e.unpins.Load()
	}
	l := &s.limiter
	l.mu.Lock()
	defer l.mu.Unlock()
	c.Limits, c.Followers = l.limits, l.all
	c.RefusedAll, c.RefusedService, c.RefusedUser = l.refused[limitAll], l.refused[limitService], l.refused[limitUser]
	for _, n := range l.services {
		c.InService = max(c.InService, n)
	}
	for _, n := range l.users {
		c.OfUser = max(c.OfUser, n)
	}
	return c
}

// Refused returns how many opens of follow were refused over a limit.
func (e *Entry) Refused() uint64 { return e.refused.Load() }

// Pinned returns how many bytes readers keep that the ring has dropped.
func (e *Entry) Pinned() uint64 { return e.Ring.Stats().PinnedBytes }

func (e *Entry) pinLimit() uint64 { return pinLimit * uint64(e.ringBytes()) }
