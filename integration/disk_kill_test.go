package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Killed a hundred times at any moment under load, the daemon repeats no line,
// tears none, and loses what was in the pipes.
func TestDiskAfterKills(t *testing.T) {
	kills := 100
	if testing.Short() || raceBuild {
		kills = 10
	}
	const services = 3
	dir := t.TempDir()
	note := func(i int) string { return filepath.Join(dir, fmt.Sprint(i)) }
	var conf strings.Builder
	for i := range services {
		self, err := os.Executable()
		must(t, err)
		fmt.Fprintf(&conf, "[service.s%d]\ncommand = [%q, \"10000000\", \"200\", %q]\nenv = { LOGFS_TEST_HELPER = \"emit\" }\nrestart = \"always\"\nbackoff = \"10ms\"\n%s\n",
			i, self, note(i), keepAll)
	}
	d := newDaemon(t, conf.String())
	d.expectLog(".") // it is killed
	written, random := 0, uint64(time.Now().UnixNano())
	t.Logf("random moments from %d", random)
	for range kills {
		d.start()
		random = random*6364136223846793005 + 1442695040888963407
		time.Sleep(time.Duration(random>>40%60) * time.Millisecond)
		d.kill()
		eventually(t, func() string { return "the services to end" }, func() bool { return len(processesWith(d.env)) == 0 })
		for i := range services {
			b, _ := os.ReadFile(note(i))
			n, _ := strconv.Atoi(string(b))
			written += n
			_ = os.Remove(note(i))
		}
	}
	stored, runs := 0, 0
	for i := range services {
		d.verified(d.logdir(fmt.Sprintf("s%d", i)))
		a := accountOfFiles(t, d.logdir(fmt.Sprintf("s%d", i)))
		if a.marks != 0 {
			t.Errorf("s%d has %d lost marks", i, a.marks)
		}
		stored += a.lines
		runs += a.runs
	}
	if stored == 0 {
		t.Fatal("no line was stored")
	}
	t.Logf("%d kills of %d runs: %d lines written, %d stored: %.1f lost a run, none repeated, none torn",
		kills, runs, written, stored, float64(written-stored)/float64(runs))
}
