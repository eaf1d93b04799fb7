package integration

import (
	"slices"
	"strings"
	"testing"
)

// onBadDisk has a service write numbered lines while its disk has faults, which
// must be said, and others write too. Then the disk works again, reads last, and
// that must be said as well. In the end every line is in the files once.
func onBadDisk(t *testing.T, full, said, end string, faults ...string) {
	t.Helper()
	const last = 20_000
	d := newDaemon(t, emitter("web", last, 500, keepAll, "ring-lines = 100000", `ring-bytes = "64MiB"`,
		`sync = "100ms"`, "full = \""+full+"\"")+"[service.db]\n")
	disk := d.badDisk("web")
	d.expectLog("service=web")
	d.start()
	w := d.watch("web", "stdout", "follow")
	db := d.feed("db")
	w.await(numbered(1000) + "\n")
	disk.fail(faults...)
	d.awaitLog(said)
	shown := d.statusNumber("web", statusLast)
	db.upTo(200)
	if res := d.logfs("flush", "db"); res.status != 0 {
		t.Errorf("flush of another service: %+v", res)
	}
	if full == "drop" {
		w.await(numbered(shown+2000) + "\n") // its readers go on
	}
	disk.fail(slices.DeleteFunc(slices.Clone(faults), func(f string) bool { return f != failReads && f != wholeFile })...)
	d.awaitLog(end)
	disk.fail()
	w.await(numbered(last) + "\n")
	d.awaitState("web", "exited")
	lost := d.statusNumber("web", statusLost)
	db.close()
	d.logfs("flush") // tells of what has failed and is repaired
	if res := d.logfs("flush"); res.status != 0 {
		t.Errorf("flush of a disk that works again: %+v", res)
	}
	d.stop()
	d.verified(d.logdir("web"))
	if a := accountOfFiles(t, d.logdir("web")); a.lines != last || a.marks != 0 || lost != 0 {
		t.Errorf("the files have %+v, want all %d lines; status says %d lost", a, last, lost)
	}
	if n := strings.Count(d.log.String(), said); n != 1 {
		t.Errorf("said %q %d times, want once:\n%s", said, n, d.log)
	}
	checkStored(t, readLogdir(t, d.logdir("db")), 200)
}

func TestDiskWritesFail(t *testing.T) {
	t.Parallel()
	for fault, full := range map[string]string{failWrites: "drop", readOnly: "block"} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			onBadDisk(t, full, "the logdir takes no writes", "takes writes again", fault)
		})
	}
}

// A failed fsync may leave the lines in the page cache, or take them away: then
// they come from memory.
func TestDiskSyncFails(t *testing.T) {
	t.Parallel()
	for _, faults := range [][]string{
		{failSyncs}, {loseUnsynced}, {junkUnsynced}, {failSyncs, failReads, wholeFile},
	} {
		t.Run(strings.Join(faults, " "), func(t *testing.T) {
			t.Parallel()
			onBadDisk(t, "drop", "lines may be lost at power failure", "written again", faults...)
		})
	}
}
