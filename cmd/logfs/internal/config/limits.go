package config

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/BurntSushi/toml"
)

// Limits is what all services may take together; 0 is no limit.
type Limits struct {
	Services                                   int
	RingTotal                                  int64
	Followers, FollowersService, FollowersUser int
}

// totals refuses services that are too many, or whose rings are too large, for
// all together. It is asked when each for itself is right, and blames the first,
// in the order of files and lines, that is too much.
func (l *loader) totals() {
	services := slices.Clone(l.cfg.Services)
	at := func(s Service) (file, line int) {
		d := l.seen[s.Name]
		return slices.Index(l.cfg.Files, d.in.path), d.in.line(d.at)
	}
	slices.SortFunc(services, func(a, b Service) int {
		fa, la := at(a)
		fb, lb := at(b)
		return cmp.Or(cmp.Compare(fa, fb), cmp.Compare(la, lb))
	})
	var sum int64
	over := -1
	for i, s := range services {
		sum += s.RingBytes
		if over < 0 && l.cfg.Limits.RingTotal > 0 && sum > l.cfg.Limits.RingTotal {
			over = i
		}
	}
	if n := l.cfg.Limits.Services; n > 0 && len(services) > n {
		l.tooMuch(services[n], fmt.Sprintf("%d services are more than max-services %d: want fewer, or max-services of at least %[1]d",
			len(services), n))
	}
	if over >= 0 {
		l.tooMuch(services[over], fmt.Sprintf("ring-bytes of all services are %s, more than ring-total %s: want less ring-bytes, or ring-total of at least %[1]s",
			sizeText(sum), sizeText(l.cfg.Limits.RingTotal)))
	}
}

func (l *loader) tooMuch(s Service, msg string) {
	d := l.seen[s.Name]
	d.in.fail(toml.Key{"service", s.Name}, d.at, msg)
	l.errs = append(l.errs, d.in.mistakes[len(d.in.mistakes)-1])
}
