package daemon

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"logfs/cmd/logfs/internal/config"
	"logfs/fs"
)

// errLimit is in the error for a service that one of the limits does not admit.
var errLimit = errors.New("limit reached")

// ringShare is the part of what is left that the ring of a service may have which
// the configuration does not name: so that more can come, with smaller and
// smaller rings.
const ringShare = 16

// A budget is what all services may take together, and what each has been given.
// Services of the configuration get all they ask for: it has been checked. The
// others share what is left.
type budget struct {
	mu      sync.Mutex // guards all below; nothing else is locked under it
	limits  config.Limits
	shares  map[string]share
	refused uint64 // services over max-services
	short   uint64 // services that ring-total gave a smaller ring, or none
}

// A share is the bytes of one ring.
type share struct {
	given, asked, least int64
	configured          bool
}

func newBudget(l config.Limits) *budget {
	return &budget{limits: l, shares: map[string]share{}}
}

// leastRing is the smallest ring of a service: see the key ring-bytes.
func leastRing(c config.Service) int64 { return 4 * int64(c.LineLimit) }

// reserve takes note of a service of the configuration.
func (b *budget) reserve(c config.Service) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shares[c.Name] = share{given: c.RingBytes, asked: c.RingBytes, configured: true}
}

// admit gives another service its share, or refuses it.
func (b *budget) admit(c config.Service) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := b.limits.Services; n > 0 && len(b.shares) >= n {
		b.refused++
		return fmt.Errorf("cannot take another service %q: %w: there are %d, max-services is %d", c.Name, errLimit, len(b.shares), n)
	}
	s := b.shareLocked(share{asked: c.RingBytes, least: leastRing(c)})
	if s.given < s.asked {
		b.short++
	}
	if s.given < s.least {
		return fmt.Errorf("cannot take another service %q: %w: rings have %d bytes together, ring-total is %d",
			c.Name, errLimit, b.givenLocked(), b.limits.RingTotal)
	}
	b.shares[c.Name] = s
	return nil
}

// shareLocked is s with what it can have.
func (b *budget) shareLocked(s share) share {
	s.given = s.asked
	if total := b.limits.RingTotal; total > 0 {
		left := total - b.givenLocked()
		s.given = min(s.asked, max(left/ringShare, min(left, s.least)))
	}
	return s
}

func (b *budget) givenLocked() (sum int64) {
	for _, s := range b.shares {
		sum += s.given
	}
	return sum
}

// release gives the share of a service back.
func (b *budget) release(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.shares, name)
}

// bytes is what the ring of a service may hold.
func (b *budget) bytes(c config.Service) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s, ok := b.shares[c.Name]; ok {
		return s.given
	}
	return c.RingBytes
}

// refit divides again by another configuration, and returns the services that
// have another share now. Those the configuration does not name keep theirs if
// all fits; they never get less than the least.
func (b *budget) refit(c config.Config) map[string]bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := maps.Clone(b.shares)
	same := b.limits == c.Limits
	b.limits = c.Limits
	for name, s := range b.shares {
		same = same && (s.configured || s.asked == c.Defaults.RingBytes)
		b.shares[name] = share{given: s.given, asked: c.Defaults.RingBytes, least: leastRing(c.Defaults)}
	}
	for _, s := range c.Services {
		b.shares[s.Name] = share{given: s.RingBytes, asked: s.RingBytes, configured: true}
	}
	if !same || c.Limits.RingTotal > 0 && b.givenLocked() > c.Limits.RingTotal {
		b.divideLocked()
	}
	other := map[string]bool{}
	for name, s := range b.shares {
		other[name] = s.given != before[name].given
	}
	return other
}

// divideLocked gives all services that are not configured new shares.
func (b *budget) divideLocked() {
	var others []string
	for _, name := range slices.Sorted(maps.Keys(b.shares)) {
		if s := b.shares[name]; !s.configured {
			others = append(others, name)
			s.given = 0
			b.shares[name] = s
		}
	}
	for _, name := range others {
		s := b.shareLocked(b.shares[name])
		s.given = max(s.given, min(s.least, s.asked))
		b.shares[name] = s
	}
}

// followLimits are those of the tree.
func followLimits(l config.Limits) fs.Limits {
	return fs.Limits{Followers: l.Followers, PerService: l.FollowersService, PerUser: l.FollowersUser}
}
