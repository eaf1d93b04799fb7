package integration

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A hundred quiet services cost next to nothing.
func TestIdle(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: takes ten seconds, -short")
	}
	var conf strings.Builder
	for i := range 100 {
		fmt.Fprintf(&conf, "[service.s%03d]\ncommand = [\"sleep\", \"1000\"]\n", i)
	}
	d := startDaemon(t, conf.String())
	for i := range 100 {
		eventually(t, func() string { return fmt.Sprintf("the start of service %d", i) }, func() bool {
			return strings.Contains(d.read(fmt.Sprintf("s%03d", i), "current"), " started ")
		})
	}
	settle := time.NewTimer(2 * time.Second) // the first fsync comes a second after the marks
	<-settle.C
	before := d.ticks()
	span := time.NewTimer(10 * time.Second)
	<-span.C
	used := d.ticks() - before
	t.Logf("100 idle services: %d clock ticks in 10 s, %d KiB resident", used, d.memory())
	if used >= 2 {
		t.Errorf("100 idle services used %d clock ticks in 10 s, want fewer than 2", used)
	}
	if rss := d.memory(); !raceBuild && rss >= 40<<10 {
		t.Errorf("100 idle services take %d KiB, want less than 40 MiB", rss)
	}
}

// ticks is the processor time the daemon has used, in clock ticks.
func (d *daemon) ticks() int {
	d.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", d.pid()))
	must(d.t, err)
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	user, err := strconv.Atoi(f[11])
	must(d.t, err)
	system, err := strconv.Atoi(f[12])
	must(d.t, err)
	return user + system
}
