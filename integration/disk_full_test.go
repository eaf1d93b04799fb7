package integration

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestDiskFullDrop(t *testing.T) {
	t.Parallel()
	const last = 60_000
	d := newDaemon(t, emitter("web", last, 100, keepAll, "ring-lines = 2000", `full = "drop"`)+"[service.db]\n")
	disk := d.smallDisk("web", 32<<20)
	d.expectLog("service=web")
	d.start()
	w := d.watch("web", "stdout", "follow")
	db := d.feed("db")
	w.await(numbered(500) + "\n")
	free := fill(t, disk)
	d.awaitLog("takes no writes")
	db.upTo(200)
	eventually(t, func() string { return "lines to be lost" }, func() bool { return d.statusNumber("web", statusLost) > 1000 })
	free()
	d.awaitLog("takes writes again")
	d.awaitState("web", "exited")
	w.await(numbered(last) + "\n") // readers have had everything
	lost := d.statusNumber("web", statusLost)
	db.close()
	d.stop()
	d.verified(disk)
	a := accountOfFiles(t, disk)
	if a.lost != lost || a.lines+a.lost != last || a.marks == 0 {
		t.Errorf("the files have %+v of %d lines; status says %d lost", a, last, lost)
	}
	checkStored(t, readLogdir(t, d.logdir("db")), 200)
	if n := strings.Count(d.log.String(), "takes no writes"); n != 1 {
		t.Errorf("said %d times that the disk is full, want once:\n%s", n, d.log)
	}
}

func TestDiskFullBlock(t *testing.T) {
	t.Parallel()
	const last = 60_000
	d := newDaemon(t, emitter("web", last, 0, keepAll, "ring-lines = 2000", `full = "block"`)+"[service.db]\n")
	disk := d.smallDisk("web", 32<<20)
	d.expectLog("service=web")
	// No room but for the first few lines.
	must(t, os.WriteFile(filepath.Join(disk, "room"), make([]byte, 256<<10), 0o644))
	free := fill(t, disk)
	must(t, os.Remove(filepath.Join(disk, "room")))
	d.start()
	db := d.feed("db")
	d.awaitLog("the service waits")
	db.upTo(200)
	shown := d.statusNumber("web", statusLast)
	db.upTo(400)
	if now := d.statusNumber("web", statusLast); now != shown || now >= last {
		t.Errorf("the service has gone on from %d to %d of %d lines", shown, now, last)
	}
	if seq := parseSeq(t, d.read("web", "seq")); seq[len(seq)-1].last != shown {
		t.Errorf("the last record shown is %+v, want number %d", seq[len(seq)-1], shown)
	}
	free()
	d.awaitState("web", "exited")
	if lost := d.statusNumber("web", statusLost); lost != 0 {
		t.Errorf("status says %d lost, want none", lost)
	}
	db.close()
	d.stop()
	d.verified(disk)
	if a := accountOfFiles(t, disk); a.lines != last || a.marks != 0 {
		t.Errorf("the files have %+v, want all %d lines", a, last)
	}
	checkStored(t, readLogdir(t, d.logdir("db")), 400)
}

// What a service has written before it ended belongs to its run, also if the
// disk takes it long after.
func TestDiskFullBlockKeepsRunsTogether(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, emitter("web", 1_000_000, 0, keepAll, `full = "block"`)+"[service.db]\n")
	disk := d.smallDisk("web", 32<<20)
	d.expectLog("service=web")
	must(t, os.WriteFile(filepath.Join(disk, "room"), make([]byte, 256<<10), 0o644))
	free := fill(t, disk)
	must(t, os.Remove(filepath.Join(disk, "room")))
	d.start()
	d.awaitLog("the service waits")
	pid := d.statusNumber("web", statusPID)
	eventually(t, func() string { return "lines to wait in the pipe" }, func() bool { return waitsInPipe(t, pid) > 4096 })
	must(t, unix.Kill(pid, unix.SIGKILL))
	shown := d.statusNumber("web", statusLast)
	late := time.NewTimer(2 * time.Second) // the exit mark waits a second else
	<-late.C
	if s := d.statusOf("web"); s[statusState] != "running" || s[statusLast] != strconv.Itoa(shown) {
		t.Errorf("the run has ended before its lines: %q", s)
	}
	free()
	d.awaitState("web", "failed")
	d.stop()
	lines := readLogdir(t, disk)
	if end := storedText(lines[len(lines)-1]); !strings.HasPrefix(end, "exit signal=KILL") || len(lines) <= shown {
		t.Errorf("%d records, the last is %q, want more than %d and the exit mark", len(lines), end, shown)
	}
}

// waitsInPipe is how many bytes are in the pipe that is a process's stdout.
func waitsInPipe(t *testing.T, pid int) int {
	t.Helper()
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/fd/1", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
	must(t, err)
	return n
}

// The end of the daemon is not held up by a service that waits for its disk.
func TestDiskFullBlockAtTheEnd(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, emitter("web", 1_000_000, 0, keepAll, `full = "block"`))
	disk := d.smallDisk("web", 1<<20)
	d.expectLog("service=web")
	d.start()
	d.awaitLog("the service waits")
	must(t, d.cmd.Process.Signal(unix.SIGTERM))
	d.awaitExit()
	if code := d.cmd.ProcessState.ExitCode(); code != 111 || !strings.Contains(d.log.String(), "lines are not on disk") {
		t.Errorf("ended with %d, want 111 and the lines that are not on disk:\n%s", code, d.log)
	}
	a := accountOfFiles(t, disk)
	if a.lines == 0 || a.marks != 0 {
		t.Errorf("the files have %+v", a)
	}
}

// A disk that is full for seconds while a service writes 10,000 lines a second.
func TestDiskFullForSeconds(t *testing.T) {
	t.Parallel()
	for _, full := range []string{"drop", "block"} {
		for _, kind := range []string{"tmpfs", "ext4"} {
			t.Run(full+"/"+kind, func(t *testing.T) {
				t.Parallel()
				fullForSeconds(t, full, kind)
			})
		}
	}
}

func fullForSeconds(t *testing.T, full, kind string) {
	seconds := 3
	if os.Getenv("LOGFS_LONG") == "1" {
		seconds = 10
	}
	last := 20_000
	if full == "drop" {
		last = (seconds + 1) * 10_000
	}
	d := newDaemon(t, emitter("web", last, 900, keepAll, "ring-lines = 15000", "full = \""+full+"\"")+"[service.db]\n")
	disk := d.logdir("web")
	if kind == "ext4" {
		d.ext4Disk("web")
	} else {
		d.smallDisk("web", 64<<20)
	}
	d.expectLog("service=web")
	d.start()
	w := d.watch("web", "stdout", "follow")
	db := d.feed("db")
	w.await(numbered(5000) + "\n")
	over := time.NewTimer(time.Duration(seconds) * time.Second)
	free := fill(t, disk)
	d.awaitLog("takes no writes")
	shown := d.statusNumber("web", statusLast)
	db.upTo(200)
	if full == "drop" { // its readers go on
		w.await(numbered(shown+5000) + "\n")
	}
	<-over.C
	if full == "drop" { // a slow machine takes longer to fill the ring
		eventually(t, func() string { return "lines to be lost" }, func() bool { return d.statusNumber("web", statusLost) > 0 })
	}
	if now := d.statusNumber("web", statusLast); full == "block" && now != shown {
		t.Errorf("the service has gone on from %d to %d", shown, now)
	}
	free()
	freed := time.Now()
	d.awaitLog("takes writes again")
	t.Logf("full for %d s, written again %v after there was room", seconds, time.Since(freed).Round(time.Millisecond))
	d.awaitState("web", "exited")
	w.await(numbered(last) + "\n")
	lost := d.statusNumber("web", statusLost)
	db.upTo(400)
	db.close()
	d.stop()
	d.verified(disk)
	a := accountOfFiles(t, disk)
	if a.lost != lost || a.lines+a.lost != last || (full == "block") != (a.marks == 0) {
		t.Errorf("the files have %+v of %d lines; status says %d lost", a, last, lost)
	}
	checkStored(t, readLogdir(t, d.logdir("db")), 400)
}
