package daemon

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"logfs/ring"
	"logfs/rotate"
)

// The clock goes back by a day while files are rotated, of which five are kept.
// Whenever one looks, the five newest and current are there, whatever their
// stamps say, also after a restart under the wrong clock.
func TestClockBackByADayKeepsTheNewestLines(t *testing.T) {
	const keep, perFile, before, after = 5, 20, 400, 400
	dir, c := t.TempDir(), newClock()
	open := func() *Log {
		l, err := OpenLog(LogOptions{
			Ring:   ring.Limits{Lines: 10 * perFile},
			Rotate: rotate.Options{Dir: dir, Service: "web", Size: 4 << 10, Keep: keep, Age: time.Hour},
			Now:    c.now, Log: new(events).logger(),
		})
		must(t, err)
		return l
	}
	text := func(n int) string { return fmt.Sprintf("number %09d %0150d", n, 0) }
	l := open()
	for n := 1; n <= before+after; n++ {
		c.add(time.Millisecond)
		switch n {
		case before + 1, before + 150:
			c.add(-24 * time.Hour)
		case before + 250:
			must(t, l.Close())
			l = open()
		}
		l.Take(pieces(text(n)), noStall)
		if n <= before {
			continue
		}
		lines := stored(t, dir)
		archives, err := filepath.Glob(filepath.Join(dir, "@*.s"))
		must(t, err)
		if len(archives) != keep || len(lines) <= keep*perFile || len(lines) > n {
			t.Fatalf("after line %d: %d archives with %d lines, want %d archives of at least %d", n, len(archives), len(lines), keep, perFile)
		}
		for i, line := range slices.Backward(lines) {
			if want := "o " + text(n-len(lines)+1+i); line != want {
				t.Fatalf("after line %d: the files end with %.20q at %d, want %.20q", n, line, i, want)
			}
		}
	}
	newest := texts(l)
	must(t, l.Close())
	l = open()
	if got := texts(l); !slices.Equal(got, newest[len(newest)-len(got):]) || len(got) < keep*perFile {
		t.Errorf("after a restart readers see %d lines, the last of them %.20q", len(got), got[len(got)-1])
	}
	must(t, l.Close())
}
