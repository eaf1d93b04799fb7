package integration

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A crowd is many equal readers, all writing to one pipe.
type crowd struct {
	t    *testing.T
	cmds []*exec.Cmd
	out  *os.File
}

// crowd starts n readers from a shell command and waits until the daemon has
// them all.
func (d *daemon) crowd(t *testing.T, n int, name string, args ...string) *crowd {
	t.Helper()
	r, w, err := os.Pipe()
	must(t, err)
	c := &crowd{t: t, out: r}
	before := d.readersOf("web")
	t.Cleanup(func() { c.kill(); r.Close() })
	for range n {
		cmd := exec.Command(name, args...)
		cmd.Stdout = w
		must(t, cmd.Start())
		c.cmds = append(c.cmds, cmd)
	}
	w.Close()
	d.awaitReaders("web", before+n)
	return c
}

// kill ends every reader with SIGKILL and returns when all are gone.
func (c *crowd) kill() {
	for _, cmd := range c.cmds {
		_ = cmd.Process.Kill()
	}
	for _, cmd := range c.cmds {
		_ = cmd.Wait()
	}
	c.cmds = nil
}

func (d *daemon) readersOf(name string) int {
	d.t.Helper()
	s := d.statusOf(name)
	if len(s) != statusFields {
		d.t.Fatalf("status of %s: %q, want %d fields", name, s, statusFields)
	}
	n, err := strconv.Atoi(s[statusReaders])
	must(d.t, err)
	return n
}

func (d *daemon) awaitReaders(name string, want int) {
	d.t.Helper()
	got := -1
	eventually(d.t, func() string { return fmt.Sprintf("%d readers of %s, now %d", want, name, got) },
		func() bool { got = d.readersOf(name); return got == want })
}

// descriptors is the number of open descriptors of the daemon.
func (d *daemon) descriptors() int {
	d.t.Helper()
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.pid()))
	must(d.t, err)
	return len(fds)
}

// memory is the resident memory of the daemon, in KiB.
func (d *daemon) memory() int {
	d.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.pid()))
	must(d.t, err)
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	must(d.t, err)
	return kib
}

// Five hundred readers blocked at once die at once when killed, and leave
// nothing behind.
func TestKilledReaders(t *testing.T) {
	d := startDaemon(t, smallRing)
	f := d.feed("web")
	f.upTo(10)
	descriptors := d.descriptors()
	c := d.crowd(t, 500, "cat", d.path("web", "follow"))
	began := time.Now()
	c.kill()
	t.Logf("500 blocked readers were gone %v after SIGKILL", time.Since(began).Round(time.Millisecond))
	d.awaitReaders("web", 1)
	eventually(t, func() string {
		return fmt.Sprintf("the daemon to have %d descriptors again, it has %d", descriptors, d.descriptors())
	}, func() bool { return d.descriptors() <= descriptors })
	f.upTo(20)
	if _, last := checkSnapshot(t, "current", d.read("web", "current")); last != 20 {
		t.Errorf("current ends with line %d, want 20", last)
	}
}

// Readers that have come and gone leave no goroutine: those of a daemon that
// never had one are counted in the trace that SIGQUIT prints.
func TestGoroutinesOfReaders(t *testing.T) {
	count := func(readers int) int {
		d := startDaemon(t, smallRing)
		d.expectLog(".") // a trace is no log
		d.feed("web").upTo(10)
		if readers > 0 {
			d.crowd(t, readers, "cat", d.path("web", "follow")).kill()
			d.awaitReaders("web", 1)
		}
		must(t, d.cmd.Process.Signal(syscall.SIGQUIT))
		<-d.exited
		n := strings.Count(d.log.String(), "\ngoroutine ")
		if n == 0 {
			t.Fatalf("SIGQUIT printed no goroutines:\n%s", d.log)
		}
		return n
	}
	none, many := count(0), count(200)
	if many > none+5 {
		t.Errorf("%d goroutines after 200 readers have gone, %d without any", many, none)
	}
}

// A thousand blocked readers cost little memory, before and after a burst of
// 10 MiB was delivered to them.
func TestMemoryOfReaders(t *testing.T) {
	readers := 1000
	if raceBuild || testing.Short() {
		readers = 100
	}
	d := startDaemon(t, `
[service.web]
ring-bytes = "1MiB"
`)
	f := d.feed("web")
	f.upTo(12000) // the ring is full
	alone := d.memory()
	c := d.crowd(t, readers, "grep", "--line-buffered", "-o", "sentinel-[0-9]", d.path("web", "follow"))
	heard := bufio.NewScanner(c.out)
	c.hears(heard, f, "sentinel-1", readers)
	blocked := d.memory()
	for range 10 {
		f.write(strings.Repeat(strings.Repeat("burst ", 20)+"\n", 1<<20/121))
	}
	c.hears(heard, f, "sentinel-2", readers)
	after := d.memory()
	t.Logf("resident memory in KiB: %d alone, %d with %d blocked readers, %d after a burst of 10 MiB",
		alone, blocked, readers, after)
	if !raceBuild && (blocked-alone > 10<<10 || after-alone > 10<<10) {
		t.Errorf("memory grew by %d KiB, then %d; want less than 10 MiB", blocked-alone, after-alone)
	}
	t.Logf("stat of the mount beside %d readers: %v", readers, d.statTime())
}

// hears says a line and waits until every reader of the crowd has shown it.
func (c *crowd) hears(out *bufio.Scanner, f *feed, line string, n int) {
	c.t.Helper()
	_ = c.out.SetReadDeadline(time.Now().Add(4 * patience))
	f.write(line + "\n")
	for i := range n {
		if !out.Scan() || out.Text() != line {
			c.t.Fatalf("%d of %d readers have %q; then %q, %v", i, n, line, out.Text(), out.Err())
		}
	}
	f.watch.await(line + "\n")
}

// statTime is the median time of a stat in the mount.
func (d *daemon) statTime() time.Duration {
	const rounds = 1001
	times := make([]time.Duration, 0, rounds)
	for range rounds {
		began := time.Now()
		var st unix.Stat_t
		must(d.t, unix.Stat(d.path("web"), &st))
		times = append(times, time.Since(began))
	}
	return percentile(times, 50)
}

// A blocked reader ends at once by the signal it is sent.
func TestSignalEndsBlockedReader(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, smallRing)
	d.feed("web").upTo(5)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGKILL} {
		p := d.shell(t, setting{}, `exec cat "$M/web/follow"`)
		p.awaitText(numbered(5))
		began := time.Now()
		p.end(sig)
		if p.signalled() != sig {
			t.Errorf("cat ended with %v, want %v", p.cmd.ProcessState, sig)
		}
		if took := time.Since(began); took > patience/4 {
			t.Errorf("%v took %v to end a blocked reader", sig, took)
		}
	}
	d.awaitReaders("web", 1)
}

// Stopping and continuing a blocked reader is no news to it.
func TestStoppedReaderGoesOn(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, smallRing)
	f := d.feed("web")
	f.upTo(5)
	old := d.read("web", "current")
	for _, script := range []string{`exec cat "$M/web/follow"`, `exec sed -u -n p "$M/web/follow"`} {
		p := d.shell(t, setting{}, script)
		p.awaitBytes(len(old))
		for range 3 {
			must(t, p.cmd.Process.Signal(syscall.SIGSTOP))
			eventually(t, func() string { return "the stop to be pending or done" },
				func() bool { s := stateOf(p.pid()); return s == "D" || s == "T" })
			must(t, p.cmd.Process.Signal(syscall.SIGCONT))
		}
		f.upTo(f.n + 1)
		old += numbered(f.n) + "\n"
		p.awaitBytes(len(old))
		p.end(syscall.SIGTERM)
		if p.output() != old || p.signalled() != syscall.SIGTERM {
			t.Errorf("%s ended with %v\n%s", script, p.cmd.ProcessState, p.said())
		}
	}
}
