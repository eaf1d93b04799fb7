package daemon

import (
	"fmt"
	"io"
)

// limitsHeader names the fields of the table of limits. New ones may be added at
// the end, as may lines.
const limitsHeader = "LIMIT NOW MOST REFUSED\n"

// Limits writes one line for each limit of the whole daemon: the key that sets it,
// how much of it is used, how much there is, "-" for no limit, and how often it
// was in somebody's way. Every field is one word.
func (d *Daemon) Limits(w io.Writer) {
	buf := d.budget.append([]byte(limitsHeader))
	if tree := d.mounted(); tree != nil {
		c := tree.LimitCounts()
		buf = appendLimit(buf, "max-followers", c.Followers, c.Limits.Followers, c.RefusedAll)
		buf = appendLimit(buf, "max-followers-per-service", c.InService, c.PerService, c.RefusedService)
		buf = appendLimit(buf, "max-followers-per-user", c.OfUser, c.PerUser, c.RefusedUser)
		buf = appendLimit(buf, "pinned", c.Pinned, c.PinLimit, c.Unpinned)
	}
	_, _ = w.Write(buf) // who does not read the answer does not want it
}

func (b *budget) append(dst []byte) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	dst = appendLimit(dst, "max-services", len(b.shares), b.limits.Services, b.refused)
	return appendLimit(dst, "ring-total", b.givenLocked(), b.limits.RingTotal, b.short)
}

func appendLimit[T int | int64 | uint64](dst []byte, name string, now, most T, refused uint64) []byte {
	return fmt.Appendf(dst, "%s %d %s %d\n", name, now, orDash(most > 0, uint64(most)), refused)
}
