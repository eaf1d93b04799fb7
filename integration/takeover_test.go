package integration

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// long says that tests are to take their time.
var long = os.Getenv("LOGFS_LONG") != ""

// takeovers are the ways in which one daemon follows another while the mount is
// in use.
var takeovers = []struct {
	name string
	run  func(d *daemon)
}{
	{"kill", func(d *daemon) { d.kill(); d.start() }},
	{"replace", (*daemon).replace},
}

// replace starts a daemon that takes over from the running one, whose end it
// checks.
func (d *daemon) replace() {
	d.t.Helper()
	cmd, exited, log := d.cmd, d.exited, d.log
	d.startWith(append(d.daemonArgs(), "--replace")...)
	select {
	case <-exited:
	case <-time.After(patience):
		d.t.Fatalf("the daemon that was replaced did not end, its log:\n%s", log)
	}
	if code := cmd.ProcessState.ExitCode(); code != 0 {
		d.t.Errorf("the daemon that was replaced ended with %v; its log:\n%s", cmd.ProcessState, log)
	}
	for line := range strings.Lines(log.String()) {
		if d.unexpected(line) {
			d.t.Errorf("the daemon that was replaced logged: %s", line)
		}
	}
}

// outliving are followers that are in the middle of it when the daemon goes.
var outliving = []follower{
	{name: "cat", sh: `exec cat "$F"`},
	{name: "cat into grep", sh: `cat "$F" | grep --line-buffered n=`},
	{name: "dd", sh: `exec dd if="$F" bs=64k status=none`},
	{name: "dd bs=100", sh: `exec dd if="$F" bs=100 status=none`},
	{name: "grep", sh: `exec grep --line-buffered n= "$F"`},
	{name: "gawk", tools: []string{"gawk"}, sh: `exec gawk '{ print; fflush() }' "$F"`},
	{name: "mawk", tools: []string{"mawk"}, sh: `exec mawk -W interactive '{ print }' <"$F"`},
	{name: "sed -u", sh: `exec sed -u -n p "$F"`},
	{name: "tail -f", sh: `exec tail -n 999999 -s 0.05 -f "$F"`},
	{name: "tail -F", sh: `exec tail -n 999999 -s 0.05 -F "$F"`},
	{name: "tail -f stdin", sh: `exec tail -n 999999 -s 0.05 -f <"$F"`},
	{name: "tail -n +1 -f", sh: `exec tail -n +1 -s 0.05 -f "$F"`, tty: true},
	{name: "cat run/now", sh: `exec cat "$F"`, file: "run/now/follow"},
	{name: "cat since", sh: `exec cat "$F"`, file: "since/start/follow"},
	{name: "tail -f since 10m", sh: `exec tail -n 999999 -s 0.05 -f "$F"`, file: "since/10m/current"},
	{name: "tail -f run", sh: `exec tail -n 999999 -s 0.05 -f "$F"`, file: "run/now/since/1/follow"},
	{name: "tail -f current", sh: `exec tail -n 999999 -s 0.05 -f "$F"`, file: "current"},
	{name: "while read bash", tools: []string{"bash"}, sh: `exec bash "$C/lines.sh" <"$F"`},
	{name: "cat into dash", tools: []string{"dash"}, sh: `cat "$F" | dash "$C/lines.sh"`},
	{name: "perl", tools: []string{"perl"}, sh: `exec perl -ne 'BEGIN { $| = 1 } print' "$F"`},
	{name: "go", sh: `LOGFS_TEST_HELPER=read exec "$T" "$F"`},
	{name: "go deadlines", sh: `LOGFS_TEST_HELPER=deadlines exec "$T" "$F"`},
	{name: "python readline", tools: []string{"python3"}, sh: `exec python3 "$C/readline.py" "$F"`},
	{name: "python asyncio", tools: []string{"python3"}, sh: `exec python3 "$C/loop.py" "$F"`},
	{name: "python poll", tools: []string{"python3"}, sh: `exec python3 "$C/ready.py" poll "$F"`},
	{name: "python epoll", tools: []string{"python3"}, sh: `exec python3 "$C/ready.py" epoll "$F"`},
}

// The daemon is killed, or replaced, again and again while every kind of
// follower reads what a service says without pause. Nobody notices: each has
// every line once, in order, and no error. The ring is small: who does not keep
// up is fed from disk meanwhile.
func TestReadersOutliveTheDaemon(t *testing.T) {
	times := 10
	if long {
		times = 50
	}
	self, err := os.Executable()
	must(t, err)
	for _, by := range takeovers {
		t.Run(by.name, func(t *testing.T) {
			last := 100 * times
			d := newDaemon(t, fmt.Sprintf("[service.web]\n[service.busy]\n%s\nring-bytes = \"256KiB\"\ncommand = [%q, \"%d\", \"20000\", %q, \"stay\"]\nenv = { LOGFS_TEST_HELPER = \"emit\" }\n",
				keepAll, self, last, os.DevNull))
			d.start()
			eventually(t, func() string { return "the run of busy" }, func() bool {
				_, err := os.Readlink(d.path("busy", "run", "now"))
				return err == nil
			})
			clients := d.outliving(t)
			lagging := d.lagging(t)
			less := d.less(t)
			quiet := d.feed("web")
			quiet.upTo(5)
			crowd := d.crowd(t, 200, "grep", "--line-buffered", "-o", "sentinel-[0-9]*", d.path("web", "follow"))
			heard := bufio.NewScanner(crowd.out)
			var gaps []time.Duration
			for n := range times {
				lagging.readOn(d.statusNumber("busy", statusLast) / 3)
				gaps = append(gaps, d.gap(t, by.run))
				crowd.hears(heard, quiet, fmt.Sprintf("sentinel-%d", n), len(crowd.cmds))
			}
			t.Logf("%d times: somebody who asks waits p50 %v, p99 %v",
				times, percentile(gaps, 50).Round(time.Millisecond), percentile(gaps, 99).Round(time.Millisecond))
			for _, p := range clients {
				p.awaitText(numbered(last) + "\n")
			}
			if less != nil {
				less.shows(numbered(last))
			}
			lagging.readOn(last)
			d.checkOutlived(clients, last)
			crowd.kill()
			d.stop()
		})
	}
}

// outliving starts the followers whose tools are there.
func (d *daemon) outliving(t *testing.T) map[string]*process {
	clients := map[string]*process{}
	for _, c := range outliving {
		missing := false
		for _, tool := range c.tools {
			missing = missing || lookTool(tool) == ""
		}
		if missing && os.Getenv("LOGFS_REQUIRE_TOOLS") == "1" {
			t.Fatalf("%s needs %q", c.name, c.tools)
		} else if missing {
			cases.add(fmt.Sprintf("%q is not installed", c.tools))
			continue
		}
		cases.add("")
		file := "follow"
		if c.file != "" {
			file = c.file
		}
		clients[c.name] = d.shell(t, setting{tty: c.tty}, c.sh, "F="+d.path("busy", "stdout", file))
	}
	return clients
}

// checkOutlived ends the clients, and wants all lines in their outputs, once, and
// nothing else.
func (d *daemon) checkOutlived(clients map[string]*process, last int) {
	d.t.Helper()
	for name, p := range clients {
		if p.ended() {
			d.t.Errorf("%s: ended with %v\n%s", name, p.cmd.ProcessState, p.said())
			continue
		}
		_ = unix.Kill(-p.pid(), unix.SIGTERM)
		p.wait()
		if first, n := checkSnapshot(d.t, name, p.output()); first != 1 || n != last || p.stderr.String() != "" {
			d.t.Errorf("%s: lines %d to %d, want 1 to %d\n%s", name, first, n, last, p.said())
		}
	}
}

// less shows the end of the service, if there are less and tmux.
func (d *daemon) less(t *testing.T) *terminal {
	if lookTool("less") == "" || lookTool("tmux") == "" {
		return nil
	}
	return d.terminal(t, "exec less +F "+d.path("busy", "stdout", "follow"))
}

// gap has the daemon followed by another, and returns how long somebody had to
// wait who asked the mount for something meanwhile. Others list it and look at
// all of it, without an error.
func (d *daemon) gap(t *testing.T, takeover func(*daemon)) (longest time.Duration) {
	t.Helper()
	stop, asked := make(chan struct{}), make(chan error, 1)
	go func() {
		var err error
		for err == nil && !isClosed(stop) {
			began := time.Now()
			var st unix.Stat_t
			err = unix.Stat(d.path("web"), &st)
			longest = max(longest, time.Since(began))
			time.Sleep(time.Millisecond)
		}
		asked <- err
	}()
	tac := d.shell(t, setting{}, `for i in 1 2 3 4; do tac "$M/busy/stdout/current" | tac || exit; echo; done`)
	lookers := []*process{
		startClient(t, setting{}, "/bin/sh", "-c", `for i in 1 2 3 4 5; do ls -lR "$0" || exit; done`, d.mount),
		startClient(t, setting{}, "/bin/sh", "-c", `for i in 1 2 3 4 5; do find "$0" -size +0 || exit; done`, d.mount),
	}
	takeover(d)
	for _, p := range append(lookers, tac) {
		if p.wait() != 0 || p.stderr.String() != "" {
			t.Errorf("%s ended with %v\n%s", p.name(), p.cmd.ProcessState, p.said())
		}
	}
	for text := range strings.SplitSeq(strings.TrimSuffix(tac.output(), "\n\n"), "\n\n") {
		checkSnapshot(t, "tac", text+"\n")
	}
	close(stop)
	if err := <-asked; err != nil {
		t.Errorf("stat during the change: %v", err)
	}
	return longest
}

// A slow reader reads lines when it is told to.
type slowReader struct {
	t    *testing.T
	fd   int
	read strings.Builder
	last int
}

// lagging opens follow and reads nothing yet.
func (d *daemon) lagging(t *testing.T) *slowReader {
	return &slowReader{t: t, fd: open(t, d.path("busy", "stdout", "follow"), 0)}
}

// readOn reads up to a line. What was read before was right.
func (r *slowReader) readOn(upTo int) {
	r.t.Helper()
	for r.last < upTo {
		text := readSome(r.t, r.fd, 16<<10)
		first, last := checkSnapshot(r.t, "the reader who lags", text)
		if first != r.last+1 {
			r.t.Fatalf("the reader who lags: line %d after line %d", first, r.last)
		}
		r.last = last
	}
}

// A reader of current has one state of it, whatever happens to the daemon, and
// what was read before is still there to be read again.
func TestOpenFilesOutliveTheDaemon(t *testing.T) {
	for _, by := range takeovers {
		t.Run(by.name, func(t *testing.T) {
			d := startDaemon(t, "[service.web]\n"+keepAll+"\nring-bytes = \"256KiB\"\n")
			f := d.feed("web")
			f.upTo(2000)
			files := map[string]int{}
			for _, name := range []string{
				"current", "follow", "seq", "stdout/current", "since/start/current", "since/500/seq", "run/now/current", "stdout/since/1h/current",
			} {
				files[name] = open(t, d.path("web", name), 0)
			}
			fresh := open(t, d.path("web", "current"), 0) // of which nothing was read yet
			status := open(t, d.path("status"), 0)
			dir, err := os.Open(d.mount)
			must(t, err)
			defer dir.Close()
			wants, halves := map[string]string{}, map[string]string{}
			for name, fd := range files {
				wants[name] = d.read("web", strings.Replace(name, "follow", "current", 1))
				for len(halves[name]) < len(wants[name])/2 {
					halves[name] += readSome(t, fd, 10_000)
				}
			}
			other, err := os.Open(d.mount) // the last that this daemon opens
			must(t, err)
			by.run(d)
			f.upTo(4500) // what was open is not in memory any more
			late := open(t, d.path("web", "current"), 0)
			must(t, other.Close())
			for name, fd := range files {
				got := halves[name]
				for len(got) < len(wants[name]) {
					part := readSome(t, fd, 10_000)
					if part == "" {
						break
					}
					got += part
				}
				if name == "follow" {
					got = got[:min(len(got), len(wants[name]))]
				}
				equal(t, name+" read on", got, wants[name])
				for _, at := range []int{0, 5000, len(halves[name]) - 3000, len(halves[name]) - 100} {
					buf := make([]byte, 90_000)
					n, err := unix.Pread(fd, buf, int64(at))
					must(t, err)
					if name != "follow" && n < len(buf) {
						t.Errorf("%s read again at %d: %d bytes, want %d", name, at, n, len(buf))
					}
					equal(t, fmt.Sprintf("%s read again at %d", name, at), string(buf[:n]), wants[name][at:at+n])
				}
			}
			var st unix.Stat_t
			must(t, unix.Fstat(files["follow"], &st))
			if now := len(d.read("web", "current")); int(st.Size) < now {
				t.Errorf("fstat of follow says %d bytes, %d are there", st.Size, now)
			}
			if _, last := checkSnapshot(t, "current, opened before", readAllOf(t, fresh)); last != 2000 {
				t.Errorf("current, opened before, ends with line %d", last)
			}
			if first, last := checkSnapshot(t, "its second pass", readAllOf(t, fresh)); first != 2001 || last != 4500 {
				t.Errorf("the second pass over current has lines %d to %d", first, last)
			}
			if text := readSome(t, status, 4096); !strings.HasPrefix(text, "NAME ") {
				t.Errorf("status, opened before: %q", text)
			}
			if first, last := checkSnapshot(t, "current, opened since", readAllOf(t, late)); first == 0 || last != 4500 {
				t.Errorf("current, opened since, has lines %d to %d", first, last)
			}
			if names, err := dir.Readdirnames(-1); err != nil || len(names) != 4 {
				t.Errorf("the directory, opened before: %q, %v", names, err)
			}
			d.stop()
		})
	}
}

func readAllOf(t *testing.T, fd int) (text string) {
	t.Helper()
	for {
		part := readSome(t, fd, 64<<10)
		if part == "" {
			return text
		}
		text += part
	}
}

// A follower has got lines that the daemon could not write before it was killed.
// They come back under their numbers: he gets what follows, and nothing twice. If
// they do not, because nobody is left who held them, he gets all of the next run.
func TestReadersOfLinesThatWaited(t *testing.T) {
	for _, held := range []bool{true, false} {
		t.Run(fmt.Sprintf("held=%v", held), func(t *testing.T) {
			d := newDaemon(t, "[service.web]\nmin = 0\nring-lines = 100000\n")
			d.expectLog("takes no writes|lost with the daemon before|given up")
			disk := d.smallDisk("web", 8<<20)
			d.start()
			free := fill(t, disk)
			f := d.feed("web")
			f.upTo(3000)
			poller := d.shell(t, setting{}, `exec tail -n 999999 -s 0.05 -f "$M/web/follow"`)
			poller.awaitText(numbered(3000) + "\n")
			d.kill()
			if held {
				f.write(numberedRun(3001, 3010))
			} else {
				must(t, f.cmd.Process.Kill())
				f.awaitEnd()
			}
			free()
			d.start()
			if !held {
				next := d.feed("web")
				next.n = 3000
				next.upTo(3010)
			}
			text := f.watch.await(numbered(3010) + "\n")
			for n := 3001; n <= 3010; n++ {
				if strings.Count(text, numbered(n)+"\n") != 1 {
					t.Errorf("the follower has line %d %d times: %q", n, strings.Count(text, numbered(n)+"\n"), tail(text, 2000))
				}
			}
			if strings.Count(text, "\nn=") > 10 || !held && !strings.Contains(text, "run 2 started") {
				t.Errorf("the follower has got %q", tail(text, 2000))
			}
			poller.awaitText(numbered(3010) + "\n")
			if held {
				checkAccount(t, "tail", poller.output())
			}
			poller.end(unix.SIGTERM)
		})
	}
}

// Signals that a reader gets while there is no daemon are not forgotten.
func TestSignalsBetweenDaemons(t *testing.T) {
	d := startDaemon(t, "[service.web]\n")
	f := d.feed("web")
	f.upTo(5)
	readers := map[unix.Signal]*process{}
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL, unix.SIGSTOP} {
		readers[sig] = d.shell(t, setting{}, `exec cat "$M/web/follow"`)
		readers[sig].awaitText(numbered(5))
	}
	d.kill()
	for sig, p := range readers {
		must(t, p.cmd.Process.Signal(sig))
	}
	d.start()
	for sig, p := range readers {
		if sig == unix.SIGSTOP {
			must(t, p.cmd.Process.Signal(unix.SIGCONT))
			f.upTo(6)
			p.awaitText(numbered(6))
			p.end(unix.SIGTERM)
		} else if p.wait(); p.signalled() != sig {
			t.Errorf("after %v the reader ended with %v\n%s", sig, p.cmd.ProcessState, p.said())
		}
	}
	d.awaitReaders("web", 1)
}

// The holder of the mount costs little, and goes when nothing is left to hold.
func TestMountHolder(t *testing.T) {
	d := startDaemon(t, "[service.web]\n")
	f := d.feed("web")
	f.upTo(5)
	pid := d.mountHolder()
	d.replace()
	if again := d.mountHolder(); again != pid {
		t.Errorf("the holder is process %d, was %d", again, pid)
	}
	if kib := privateMemory(t, pid); !raceBuild && kib > 3<<10 {
		t.Errorf("the holder has %d KiB of its own, want 3 MiB at most", kib)
	}
	woken := 0
	eventually(t, func() string {
		return fmt.Sprintf("the holder to sleep through 20 lines; it was woken %d times", woken)
	},
		func() bool {
			before := switches(t, pid)
			f.upTo(f.n + 20)
			woken = switches(t, pid) - before
			return woken == 0
		})
	d.kill()
	_ = unix.Unmount(d.mount, unix.MNT_FORCE)
	_ = unix.Unmount(d.mount, unix.MNT_DETACH)
	eventually(t, func() string { return "the holder of an unmounted mount to end" },
		func() bool { return stateOf(pid) == "" || stateOf(pid) == "Z" })
	f.watch.awaitEnd()
	d.start()
	d.stop()
}

// mountHolder is the process that holds the mount.
func (d *daemon) mountHolder() (pid int) {
	d.t.Helper()
	if pid = d.findMountHolder(); pid == 0 {
		d.t.Fatalf("the mount has no holder: %q", processesWith(d.env))
	}
	return pid
}

// findMountHolder is mountHolder, or 0 if there is none.
func (d *daemon) findMountHolder() (pid int) {
	for _, p := range processesWith(d.env) {
		if strings.Contains(p, "hold .mount") {
			word, _, _ := strings.Cut(p, " ")
			pid, _ = strconv.Atoi(word)
		}
	}
	return pid
}

// privateMemory is what a process has in memory that no other has, in KiB.
func privateMemory(t *testing.T, pid int) (kib int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	must(t, err)
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); strings.HasPrefix(line, "Private_") {
			n, _ := strconv.Atoi(f[1])
			kib += n
		}
	}
	return kib
}

// switches is how often the threads of a process have begun to wait.
func switches(t *testing.T, pid int) (n int) {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	must(t, err)
	for _, task := range tasks {
		b, _ := os.ReadFile(task)
		_, rest, _ := strings.Cut(string(b), "\nvoluntary_ctxt_switches:")
		var k int
		_, _ = fmt.Sscan(rest, &k)
		n += k
	}
	return n
}
