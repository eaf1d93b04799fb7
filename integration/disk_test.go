package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// emitter is the configuration of a service that writes the numbered lines up
// to last, ten at a time with a pause of so many microseconds between.
func emitter(name string, last, pause int, more ...string) string {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("[service.%s]\ncommand = [%q, \"%d\", \"%d\"]\nenv = { LOGFS_TEST_HELPER = \"emit\" }\nrestart = \"never\"\n%s\n",
		name, self, last, pause, strings.Join(more, "\n"))
}

// smallDisk gives a service a file system of its own, of so many bytes.
func (d *daemon) smallDisk(name string, size int) (dir string) {
	d.t.Helper()
	if os.Geteuid() != 0 {
		d.t.Skip("SKIPPED: only root can mount a small disk")
	}
	dir = d.logdir(name)
	must(d.t, os.MkdirAll(dir, 0o750))
	must(d.t, unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0750", size)))
	d.disks = append(d.disks, dir)
	return dir
}

// fill takes all room of a disk and returns what gives it back.
func fill(t testing.TB, dir string) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	for _, size := range []int{1 << 20, 4 << 10, 1} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatalf("cannot fill the disk: %v", err)
		}
	}
	return func() { must(t, os.Remove(path)) }
}

func (d *daemon) awaitLog(text string) {
	d.t.Helper()
	eventually(d.t, func() string { return fmt.Sprintf("%q in the log of the daemon:\n%s", text, d.log) },
		func() bool { return strings.Contains(d.log.String(), text) })
}

func (d *daemon) statusNumber(name string, field int) int {
	d.t.Helper()
	n, err := strconv.Atoi(d.statusOf(name)[field])
	must(d.t, err)
	return n
}

func (d *daemon) awaitState(name, state string) {
	d.t.Helper()
	eventually(d.t, func() string { return name + " to be " + state },
		func() bool { return d.statusOf(name)[statusState] == state })
}

// A storedAccount is what the files of a logdir hold.
type storedAccount struct {
	lines, lost, marks, runs int
	last                     int // number of the newest record
}

// verified checks that logfs verify finds nothing in a logdir.
func (d *daemon) verified(dir string) {
	d.t.Helper()
	if res := d.logfs("verify", dir); res.status != 0 || res.stdout+res.stderr != "" {
		d.t.Errorf("logfs verify ended with %d: %s%s", res.status, res.stdout, res.stderr)
	}
}

// accountOfFiles reads a logdir whose service writes numbered lines in each of
// its runs. It checks that every file and line is whole, the numbers are dense
// over all files, and the lines of each run are there once, in order, from the
// first on, except those that a lost mark stands for.
func accountOfFiles(t testing.TB, dir string) (a storedAccount) {
	t.Helper()
	due := 0 // line of the run
	stamp := ""
	for _, path := range logdirFiles(t, dir) {
		b, err := os.ReadFile(path)
		must(t, err)
		for i, line := range strings.SplitAfter(string(b), "\n") {
			text, whole := strings.CutSuffix(line, "\n")
			switch m := storedLine.FindStringSubmatch(text); {
			case line == "" && i > 0:
				continue
			case !whole:
				t.Fatalf("%s: torn line %q", path, line)
			case i == 0:
				if first := headerFirst(t, path, text); first != a.last+1 {
					t.Fatalf("%s begins with number %d, want %d", path, first, a.last+1)
				}
				continue
			case m == nil || m[1] <= stamp:
				t.Fatalf("%s: %q after stamp %s", path, text, stamp)
			case m[2] != "=":
				if n := numberOf(m[3]); n != due {
					t.Fatalf("%s: line %d came as %q", path, due, text)
				}
				stamp = m[1]
				due++
				a.lines++
			case strings.HasPrefix(m[3], "lost lines="):
				n, err := strconv.Atoi(strings.TrimPrefix(m[3], "lost lines="))
				must(t, err)
				a.marks++
				a.lost += n
				due += n
				a.last += n - 1
				stamp = m[1]
			default:
				if strings.HasPrefix(m[3], "start ") {
					due = 1
					a.runs++
				}
				stamp = m[1]
			}
			a.last++
		}
	}
	return a
}

const keepAll = `size = "64KiB"
keep = 100000
min = 100000`

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
	must(t, unix.Kill(d.statusNumber("web", statusPID), unix.SIGKILL))
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

// frozenDisk gives a service a file system whose writes can be held up.
func (d *daemon) frozenDisk(name string) (freeze, thaw func()) {
	t := d.t
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can freeze a disk")
	}
	needTools(t, "mkfs.ext4", "mount")
	image, dir := filepath.Join(d.dir, "image"), d.logdir(name)
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, 64<<20))
	must(t, os.MkdirAll(dir, 0o750))
	for _, args := range [][]string{{"mkfs.ext4", "-q", "-E", "root_owner=0:0", image}, {"mount", "-o", "loop", image, dir}} {
		if res := runCommand(t, nil, d.dir, lookTool(args[0]), args[1:]...); res.status != 0 {
			t.Skipf("SKIPPED: %s: %s", args[0], res.stderr)
		}
	}
	d.disks = append(d.disks, dir)
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

// Whatever is done to the logdir, capture and readers go on, other services
// notice nothing, and the log of the daemon is not flooded.
func TestDiskTrouble(t *testing.T) {
	const last = 20_000
	troubles := []struct {
		name    string
		trouble func(t *testing.T, d *daemon) (end func())
		said    string // in the log, once
		whole   bool   // nothing is lost in the end
	}{
		{"file size limit", func(t *testing.T, d *daemon) func() {
			return d.limit(unix.RLIMIT_FSIZE, 16<<10)
		}, "takes no writes", true},
		{"no descriptors", func(t *testing.T, d *daemon) func() {
			return d.limit(unix.RLIMIT_NOFILE, 3)
		}, "takes no writes", true},
		{"logdir deleted", func(t *testing.T, d *daemon) func() {
			must(t, os.RemoveAll(d.logdir("web")))
			return nil
		}, "takes no writes", false},
		{"logdir replaced by a link", func(t *testing.T, d *daemon) func() {
			elsewhere := filepath.Join(d.dir, "elsewhere")
			must(t, os.Mkdir(elsewhere, 0o755))
			must(t, os.WriteFile(filepath.Join(elsewhere, "current"), []byte("not ours\n"), 0o600))
			must(t, os.Rename(d.logdir("web"), filepath.Join(d.dir, "moved")))
			must(t, os.Symlink(elsewhere, d.logdir("web")))
			return func() {
				b, err := os.ReadFile(filepath.Join(elsewhere, "current"))
				entries, _ := os.ReadDir(elsewhere)
				if err != nil || string(b) != "not ours\n" || len(entries) != 1 {
					t.Errorf("the target of the link was touched: %q, %v, %q", b, err, entries)
				}
				must(t, os.Remove(d.logdir("web")))
				must(t, os.Rename(filepath.Join(d.dir, "moved"), d.logdir("web")))
			}
		}, "", true},
	}
	for _, tt := range troubles {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := startDaemon(t, emitter("web", last, 500, keepAll, "ring-lines = 100000", `ring-bytes = "64MiB"`)+"[service.db]\n")
			d.t = t
			d.expectLog("service=web")
			w := d.watch("web", "stdout", "follow")
			db := d.feed("db")
			w.await(numbered(1000) + "\n")
			end := tt.trouble(t, d)
			if tt.said != "" {
				d.awaitLog(tt.said)
			}
			if strings.HasPrefix(tt.name, "logdir") {
				db.upTo(100)
			}
			w.await(numbered(last-5000) + "\n")
			if end != nil {
				end()
			}
			w.await(numbered(last) + "\n")
			d.awaitState("web", "exited")
			if tt.said != "" && tt.whole {
				d.awaitLog("takes writes again")
			}
			db.upTo(200)
			db.close()
			if tt.whole {
				d.stop()
				d.verified(d.logdir("web"))
				if a := accountOfFiles(t, d.logdir("web")); a.lines != last || a.marks != 0 {
					t.Errorf("the files have %+v, want all %d lines", a, last)
				}
			} else {
				must(t, d.cmd.Process.Signal(unix.SIGTERM))
				d.awaitExit()
			}
			if n := strings.Count(d.log.String(), "level=WARN"); n > 3 {
				t.Errorf("%d warnings:\n%s", n, d.log)
			}
			checkStored(t, readLogdir(t, d.logdir("db")), 200)
		})
	}
}

// limit sets a soft limit of the running daemon and returns what takes it back.
func (d *daemon) limit(resource int, soft uint64) (restore func()) {
	d.t.Helper()
	var old unix.Rlimit
	must(d.t, unix.Prlimit(d.pid(), resource, nil, &old))
	must(d.t, unix.Prlimit(d.pid(), resource, &unix.Rlimit{Cur: soft, Max: old.Max}, nil))
	return func() { must(d.t, unix.Prlimit(d.pid(), resource, &old, nil)) }
}

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

// A signal rotates all services, the command those named; archives are
// compressed, and readers notice nothing.
func TestRotationWithCompression(t *testing.T) {
	t.Parallel()
	for form, tool := range map[string]string{"gzip": "zcat", "zstd": "zstdcat"} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			needTools(t, tool)
			d := startDaemon(t, fmt.Sprintf("[defaults]\nrotate = \"daily\"\ncompress = %q\ntotal = \"10MiB\"\nage = \"7d\"\n[service.web]\n[service.db]\n", form))
			web, db := d.feed("web"), d.feed("db")
			archives := func(name string, want int) (found []string) {
				eventually(t, func() string { return fmt.Sprintf("%d archives of %s, now %q", want, name, found) }, func() bool {
					found, _ = filepath.Glob(filepath.Join(d.logdir(name), "@*.s.*"))
					return len(found) == want
				})
				return found
			}
			web.upTo(10)
			db.upTo(10)
			must(t, d.cmd.Process.Signal(unix.SIGALRM))
			archives("db", 1)
			packed := archives("web", 1)[0]
			web.upTo(20)
			if res := d.logfs("rotate", "web"); res.status != 0 {
				t.Errorf("rotate: %+v", res)
			}
			archives("web", 2)
			web.upTo(30)
			archives("db", 1)
			if res := runCommand(t, nil, d.dir, lookTool(tool), packed); strings.Count(res.stdout, " o n=00000") != 10 {
				t.Errorf("%s: %+v", tool, res)
			}
			if first, last := checkSnapshot(t, "current", d.read("web", "current")); first != 1 || last != 30 {
				t.Errorf("current holds %d to %d, want 1 to 30", first, last)
			}
			web.close()
			db.close()
			d.stop()
			d.verified(d.logdir("web"))
			d.verified(d.logdir("db"))
		})
	}
}
