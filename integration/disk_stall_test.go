package integration

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// ext4Disk gives a service an ext4 of its own, of 64 MiB.
func (d *daemon) ext4Disk(name string) (dir string) {
	d.t.Helper()
	dir = d.logdir(name)
	must(d.t, os.MkdirAll(dir, 0o750))
	d.loopDisk(dir, filepath.Join(d.dir, "image"))
	must(d.t, os.Remove(filepath.Join(dir, "lost+found")))
	return dir
}

// frozenDisk gives a service a file system whose writes can be held up.
func (d *daemon) frozenDisk(name string) (freeze, thaw func()) {
	t := d.t
	t.Helper()
	dir := d.ext4Disk(name)
	f, err := os.Open(dir)
	must(t, err)
	frozen := false
	set := func(want bool) {
		const fifreeze, fithaw = 0xc0045877, 0xc0045878
		call := map[bool]uintptr{true: fifreeze, false: fithaw}[want]
		if frozen == want {
			return
		}
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), call, 0); errno != 0 {
			t.Fatalf("cannot freeze or thaw the disk: %v", errno)
		}
		frozen = want
	}
	t.Cleanup(func() {
		set(false)
		f.Close()
	})
	return func() { set(true) }, func() { set(false) }
}

// A disk that does not answer holds up neither its own service's readers nor
// other services, and has everything in order when it answers.
func TestDiskStalls(t *testing.T) {
	t.Parallel()
	for _, full := range []string{"drop", "block"} {
		t.Run(full, func(t *testing.T) {
			t.Parallel()
			const last = 40_000
			d := newDaemon(t, emitter("web", last, 200, keepAll, "ring-lines = 4000", "full = \""+full+"\"")+"[service.db]\n")
			freeze, thaw := d.frozenDisk("web")
			d.expectLog("service=web")
			d.start()
			w := d.watch("web", "stdout", "follow")
			db := d.feed("db")
			w.await(numbered(1000) + "\n")
			freeze()
			w.await(numbered(1000+2000) + "\n")
			db.upTo(200)
			if res := d.logfs("flush", "db"); res.status != 0 {
				t.Errorf("flush of another service: %+v", res)
			}
			d.awaitLog("does not answer")
			eventually(t, func() string { return "lines to wait" }, func() bool {
				return d.statusNumber("web", statusLost) > 1000 ||
					full == "block" && d.statusNumber("web", statusLast) > 4900
			})
			if n := d.statusNumber("web", statusLines); n > 4000 {
				t.Errorf("%d lines in memory while the disk stalls, want 4000 at most", n)
			}
			thaw()
			d.awaitLog("takes writes again")
			w.await(numbered(last) + "\n")
			d.awaitState("web", "exited")
			lost := d.statusNumber("web", statusLost)
			db.close()
			d.stop()
			a := accountOfFiles(t, d.logdir("web"))
			if a.lost != lost || a.lines+a.lost != last || (full == "block") != (a.marks == 0) {
				t.Errorf("the files have %+v of %d lines; status says %d lost", a, last, lost)
			}
			checkStored(t, readLogdir(t, d.logdir("db")), 200)
		})
	}
}

// A reader who was stopped, and is overtaken while the disk does not answer, does
// not wait for it, and is told that lines are lost only if the files never get
// them.
func TestOvertakenWhileTheDiskStalls(t *testing.T) {
	t.Parallel()
	for full, last := range map[string]int{"drop": 5000, "block": 1000} {
		t.Run(full, func(t *testing.T) {
			t.Parallel()
			d := newDaemon(t, "[service.web]\nring-lines = 1000\nkeep = 1000\nfull = \""+full+"\"\n")
			freeze, thaw := d.frozenDisk("web")
			d.expectLog("service=web")
			d.start()
			f := d.feed("web")
			f.upTo(100)
			p := d.shell(t, setting{}, `exec cat "$M/web/follow"`)
			p.awaitText(numbered(100) + "\n")
			must(t, p.cmd.Process.Signal(syscall.SIGSTOP))
			f.upTo(101) // it stops when its read has returned
			eventually(t, func() string { return "cat to stop" }, func() bool { return stateOf(p.pid()) == "T" })
			freeze()
			for n := 102; n <= last; n += 200 { // several batches: the first is the one that hangs
				f.write(numberedRun(n, min(n+199, last)))
				f.n = min(n+199, last)
				if full == "block" {
					f.watch.await(numbered(f.n) + "\n")
				}
			}
			if full == "drop" {
				eventually(t, func() string { return "lines to be lost" }, func() bool {
					return d.statusNumber("web", statusLost) > 1000 && d.statusNumber("web", statusLast) > last
				})
			}
			must(t, p.cmd.Process.Signal(syscall.SIGCONT))
			p.awaitText(numbered(last) + "\n")
			thaw()
			must(t, f.w.Close())
			d.awaitState("web", "exited")
			d.stop()
			p.end(syscall.SIGTERM)
			checkToldAgainstFiles(t, p.output(), d.logdir("web"), full == "drop")
		})
	}
}

// checkToldAgainstFiles checks that what a reader was told is lost is not in the
// files.
func checkToldAgainstFiles(t *testing.T, told, dir string, loses bool) {
	t.Helper()
	stored := map[int]bool{}
	for _, line := range readLogdir(t, dir) {
		if n := numberOf(storedText(line)); n > 0 {
			stored[n] = true
		}
	}
	a := &account{}
	for line := range strings.Lines(told) {
		before := *a
		must(t, a.add(strings.TrimSuffix(line, "\n")))
		for n := before.next; a.lost > before.lost && n < a.pending; n++ {
			if stored[n] {
				t.Fatalf("%q, but the files have line %d", line, n)
			}
		}
	}
	if loses != (a.lost > 0) {
		t.Errorf("the reader was told of %d lost lines", a.lost)
	}
}
