package integration

import (
	"syscall"
	"testing"
)

// A daemon is killed while lines wait in memory for a full disk. The next one
// knows which they were: the files get a mark in their place, and status counts
// them.
func TestLinesThatWaitedForTheDiskAreCounted(t *testing.T) {
	const lines = 3000
	d := newDaemon(t, "[service.web]\nmin = 0\nfull = \"drop\"\n")
	d.expectLog("takes no writes|lost with the daemon before|stale mount|not closed cleanly|given up")
	disk := d.smallDisk("web", 256<<10)
	d.start()
	free := fill(t, disk)
	watch := d.watch("web", "follow")
	p := d.shell(t, setting{}, `exec "$B" run web -- sh -c 'LOGFS_TEST_HELPER=emit "$T" 3000 0; exec sleep 1000'`, "B="+logfsBin)
	watch.await(numbered(lines) + "\n")
	d.kill()
	free()
	d.start()
	d.awaitState("web", "running")
	must(t, p.cmd.Process.Signal(syscall.SIGTERM))
	if status := p.wait(); status != 143 {
		t.Errorf("ended with %d\n%s", status, p.said())
	}
	a := accountOfFiles(t, disk)
	if a.lines+a.lost != lines || a.lost == 0 || a.runs != 1 {
		t.Errorf("%d lines and %d lost in %d runs, want %d in all in one run", a.lines, a.lost, a.runs, lines)
	}
	if n := d.statusNumber("web", statusLost); n != a.lost {
		t.Errorf("status says %d lost, the files %d", n, a.lost)
	}
	t.Logf("%d lines stored, %d lost, said in %d marks", a.lines, a.lost, a.marks)
}
