package integration

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

// A daemon is killed while lines wait in memory for a full disk. What the holder
// of the run has kept, the next daemon stores. Beyond that it knows which lines
// they were: the files get a mark in their place, and status counts them.
func TestLinesThatWaitedForTheDisk(t *testing.T) {
	for _, tt := range []struct {
		lines int
		lost  bool
	}{{3000, false}, {30_000, true}} {
		t.Run(fmt.Sprint(tt.lines), func(t *testing.T) {
			d := newDaemon(t, "[service.web]\nmin = 0\nfull = \"drop\"\nring-lines = 100000\n")
			d.expectLog("takes no writes|lost with the daemon before|given up")
			disk := d.smallDisk("web", 8<<20)
			d.start()
			free := fill(t, disk)
			watch := d.watch("web", "follow")
			p := d.shell(t, setting{}, fmt.Sprintf(
				`exec "$B" run web -- sh -c 'LOGFS_TEST_HELPER=emit "$T" %d 0; exec sleep 1000'`, tt.lines), "B="+logfsBin)
			watch.await(numbered(tt.lines) + "\n")
			d.kill()
			free()
			d.start()
			d.awaitState("web", "running")
			must(t, p.cmd.Process.Signal(syscall.SIGTERM))
			if status := p.wait(); status != 143 {
				t.Errorf("ended with %d\n%s", status, p.said())
			}
			a := accountOfFiles(t, disk)
			if a.lines+a.lost != tt.lines || a.lost > 0 != tt.lost || a.runs != 1 {
				t.Errorf("%d lines and %d lost in %d runs, want %d in all in one run", a.lines, a.lost, a.runs, tt.lines)
			}
			if n := d.statusNumber("web", statusLost); n != a.lost {
				t.Errorf("status says %d lost, the files %d", n, a.lost)
			}
			t.Logf("%d lines stored, %d lost, said in %d marks", a.lines, a.lost, a.marks)
		})
	}
}

// The settings of a command change while there is no daemon: the next one starts
// it again.
func TestCommandChangedWithoutADaemon(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, "[service.web]\ncommand = \"echo old; exec sleep 1000\"\n")
	d.watch("web", "follow").await("old\n")
	d.kill()
	must(t, os.WriteFile(d.conf, []byte("[service.web]\ncommand = \"echo new; exec sleep 1000\"\n"), 0o644))
	d.start()
	d.watch("web", "follow").await("new\n")
	lines := strings.Split(d.read("web", "current"), "\n")
	for i, want := range []string{"web run 1 started", "old", "web run 1 killed by SIGTERM", "web run 2 started", "new"} {
		if !strings.Contains(lines[i], want) {
			t.Errorf("line %d is %q, want %q", i+1, lines[i], want)
		}
	}
}
