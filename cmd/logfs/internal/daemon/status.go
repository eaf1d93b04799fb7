package daemon

import (
	"fmt"
	"io"
	"strconv"
	"time"
)

// statusHeader names the fields of the status table. New ones may be added at
// the end.
const statusHeader = "NAME STATE RUN PID FIRST LAST LINES BYTES DISK LOST READERS AGE PINNED REFUSED\n"

// Status writes one line for each service, by name. Every field is one word;
// "-" stands for what there is not. It waits for no disk and no service, so a
// lookup in the tree may call it.
func (d *Daemon) Status(w io.Writer) {
	now := d.o.Now()
	buf := []byte(statusHeader)
	for _, s := range d.list() {
		buf = s.appendStatus(buf, now)
	}
	// Who does not read the answer to the end does not want it.
	_, _ = w.Write(buf)
}

func (s *service) appendStatus(dst []byte, now time.Time) []byte {
	state, pid, readers := s.snapshot()
	r := s.log.Ring()
	first, next := r.Bounds()
	stats := r.Stats()
	held := first < next
	return fmt.Appendf(dst, "%s %s %s %s %s %s %d %d %d %d %d %s %d %d\n",
		s.name, state, orDash(r.Run() > 0, r.Run()), orDash(pid > 0, uint64(pid)),
		orDash(held, first), orDash(held, next-1), stats.HeldLines, stats.HeldBytes,
		s.log.DiskBytes(), s.log.Lost(), readers, s.age(now),
		stats.PinnedBytes, s.refused())
}

func orDash(known bool, n uint64) string {
	if !known {
		return "-"
	}
	return strconv.FormatUint(n, 10)
}

// age is the time since the last line: in seconds, so that it can be compared.
func (s *service) age(now time.Time) string {
	last := s.log.Ring().Last()
	if last == 0 {
		return "-"
	}
	seconds := max(0, now.Sub(time.Unix(0, int64(last)))) / time.Second
	return strconv.FormatInt(int64(seconds), 10) + "s"
}
