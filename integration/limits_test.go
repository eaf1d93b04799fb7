package integration

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// needRoot skips where no other user can be become.
func needRoot(t *testing.T) {
	t.Helper()
	needFUSE(t)
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can become another user")
	}
}

// limits is the table of the daemon's limits: now, most and refused by name.
func (d *daemon) limits() map[string][3]string {
	d.t.Helper()
	res := d.logfs("status", "--limits")
	if res.status != 0 || !strings.HasPrefix(res.stdout, "LIMIT NOW MOST REFUSED\n") {
		d.t.Fatalf("logfs status --limits ended with %d: %s%s", res.status, res.stdout, res.stderr)
	}
	table := map[string][3]string{}
	for line := range strings.Lines(res.stdout) {
		if f := strings.Fields(line); len(f) == 4 {
			table[f[0]] = [3]string{f[1], f[2], f[3]}
		} else {
			d.t.Errorf("a line of limits has %d fields: %q", len(f), line)
		}
	}
	return table
}

func (d *daemon) wantLimit(name, now, most, refused string) {
	d.t.Helper()
	if got := d.limits()[name]; got != [3]string{now, most, refused} {
		d.t.Errorf("limit %s is %q, want now %s, most %s, refused %s", name, got, now, most, refused)
	}
}

// readAs starts n readers of follow as a user and returns when all wait.
func (d *daemon) readAs(uid uint32, n int, service string) {
	d.t.Helper()
	before := d.readersOf(service)
	for range n {
		cmd := exec.Command("cat", d.path(service, "follow"))
		cmd.SysProcAttr = asUser(uid)
		must(d.t, cmd.Start())
		d.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	}
	d.awaitReaders(service, before+n)
}

func asUser(uid uint32) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
}

// refusedAs has a user open follow once more, which is refused with the words.
func (d *daemon) refusedAs(uid uint32, service, words string) {
	d.t.Helper()
	cmd := exec.Command("cat", d.path(service, "follow"))
	cmd.SysProcAttr = asUser(uid)
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.HasSuffix(string(out), ": "+words+"\n") {
		d.t.Errorf("user %d reads %s: %q, %v, want %q", uid, service, out, err, words)
	}
}

// One user, one service, and all together have as many readers as the limits
// say; root gets in when others do not any more; and who reads is not disturbed.
func TestLimitsOfFollowers(t *testing.T) {
	t.Parallel()
	needRoot(t)
	const his, all = "Too many open files", "Too many open files in system"
	d := startDaemon(t, `
max-followers = 24
max-followers-per-service = 16
max-followers-per-user = 6
[defaults]
mode = "0755"
[service.db]
[service.web]
`)
	d.expectLog("a reader of follow was refused")
	d.readAs(nobody, 6, "web")
	d.refusedAs(nobody, "web", his)
	d.refusedAs(nobody, "db", his)
	d.readAs(nobody-1, 6, "web")
	d.readAs(nobody-2, 2, "web")
	d.refusedAs(nobody-2, "web", all) // two of sixteen are for root
	d.readAs(0, 2, "web")
	d.refusedAs(0, "web", all)
	d.readAs(nobody-2, 4, "db")
	d.readAs(nobody-3, 1, "db")
	d.refusedAs(nobody-3, "db", all) // three of twenty-four are for root
	d.readAs(0, 3, "db")
	d.refusedAs(0, "db", all)
	d.wantLimit("max-followers", "24", "24", "2")
	d.wantLimit("max-followers-per-service", "16", "16", "2")
	d.wantLimit("max-followers-per-user", "6", "6", "2")
	if web, db := d.statusOf("web")[statusRefused], d.statusOf("db")[statusRefused]; web != "3" || db != "3" {
		t.Errorf("status says %s and %s were refused, want 3 and 3", web, db)
	}
	if n := strings.Count(d.log.String(), "a reader of follow was refused"); n != 3 {
		t.Errorf("said %d times that readers were refused, want once for each limit", n)
	}
	if got := d.read("web", "current"); got != "" {
		t.Errorf("current of a service with too many followers: %q", got)
	}
}

// Readers that outlive the daemon have their places in the next one.
func TestLimitsAfterAKill(t *testing.T) {
	t.Parallel()
	needRoot(t)
	d := startDaemon(t, "max-followers-per-user = 3\n[defaults]\nmode = \"0755\"\n[service.web]\n")
	d.expectLog("a reader of follow was refused|stale mount|not closed cleanly")
	d.readAs(nobody, 3, "web")
	d.kill()
	d.start()
	d.wantLimit("max-followers-per-user", "3", "3", "0")
	d.refusedAs(nobody, "web", "Too many open files")
	d.readAs(nobody-1, 3, "web")
	d.wantLimit("max-followers", "6", "32768", "0")
}

// Limits change with the configuration, and readers that go make room.
func TestLimitsAreReloaded(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, "max-followers = 8\n[service.web]\n")
	d.expectLog("a reader of follow was refused")
	f := d.feed("web") // and a watch
	f.say("hello")
	c := d.crowd(t, 7, "cat", d.path("web", "follow"))
	d.refusedAs(0, "web", "Too many open files in system")
	must(t, os.WriteFile(d.conf, []byte("max-followers = 16\n[service.web]\n"), 0o644))
	must(t, d.cmd.Process.Signal(syscall.SIGHUP))
	eventually(t, func() string { return "the other limit" }, func() bool { return d.limits()["max-followers"][1] == "16" })
	more := d.crowd(t, 8, "cat", d.path("web", "follow"))
	d.refusedAs(0, "web", "Too many open files in system")
	c.kill()
	more.kill()
	d.awaitReaders("web", 1)
	d.wantLimit("max-followers", "1", "16", "2")
	f.say("still there")
}

// What clients bring is bounded: by number, and by the memory of rings, which
// get smaller first.
func TestLimitsOfServices(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, `
max-services = 4
ring-total = "1MiB"
[defaults]
ring-bytes = "512KiB"
[service.web]
`)
	for i := range 3 {
		if res := d.logfs("run", fmt.Sprint("job", i), "--", "seq", "20000"); res.status != 0 {
			t.Fatalf("service %d: %d: %s", i, res.status, res.stderr)
		}
	}
	res := d.logfs("run", "job3", "--", "touch", "ran")
	if res.status != refused || !strings.Contains(res.stderr, `cannot take another service "job3"`) || !strings.Contains(res.stderr, "max-services is 4") {
		t.Errorf("a service too many ended with %d: %s", res.status, res.stderr)
	}
	if _, err := os.Lstat(d.logdir("job3")); err == nil {
		t.Error("a service that was refused has a directory")
	}
	if res := d.logfs("run", "job1", "--", "true"); res.status != 0 {
		t.Errorf("a service that is there ended with %d: %s", res.status, res.stderr)
	}
	d.wantLimit("max-services", "4", "4", "1")
	if ring := d.limits()["ring-total"]; ring[1] != "1048576" || ring[2] != "3" {
		t.Errorf("ring-total is %q, want three services with a smaller ring", ring)
	}
	for i := range 3 {
		if held := d.statusNumber(fmt.Sprint("job", i), statusBytes); held < 20000 || held > 40000 {
			t.Errorf("job%d has %d bytes in its ring, want what four lines of line-limit take", i, held)
		}
	}
	// Whoever has more logs in the store than fit sees those that do.
	d.stop()
	d.expectLog("logs in the store are left alone")
	must(t, os.WriteFile(d.conf, []byte("max-services = 2\n[service.web]\n"), 0o644))
	d.start()
	d.wantLimit("max-services", "2", "2", "2")
	if !strings.Contains(d.log.String(), "logs in the store are left alone\" count=2") {
		t.Errorf("the log does not say that two logs are left alone:\n%s", d.log)
	}
}

// A configuration that is too large for its own limits is refused.
func TestLimitsOfConfiguration(t *testing.T) {
	t.Parallel()
	for _, m := range []mistake{
		toml("services", "max-services = 1\n[service.a]\n[service.b]\n", 3, "service.b: 2 services are more than max-services 1"),
		toml("rings", "ring-total = \"6MiB\"\n[service.a]\n[service.b]\n", 3, "ring-bytes of all services are 8MiB, more than ring-total 6MiB: want less ring-bytes, or ring-total of at least 8MiB"),
	} {
		m.try(t, mistakeDir(t, m.files))
	}
}

// Memory that readers pin is bounded, shown, and given back.
func TestLimitOfPinnedMemory(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, "[service.web]\nring-bytes = \"64KiB\"\n")
	f := d.feed("web")
	var fds []int
	t.Cleanup(func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	})
	for range 30 { // each pins another ring
		fd, err := unix.Open(d.path("web", "current"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		must(t, err)
		fds = append(fds, fd)
		f.upTo(f.n + 600)
		if n := d.statusNumber("web", statusPinned); n > 4*64<<10+64<<10 {
			t.Fatalf("readers pin %d bytes of a ring of 64 KiB", n)
		}
	}
	pinned := d.limits()["pinned"]
	if pinned[0] == "0" || pinned[1] != fmt.Sprint(4*64<<10) || pinned[2] == "0" {
		t.Errorf("pinned: %q, want some, %d at most, and some that lost theirs", pinned, 4*64<<10)
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
	fds = nil
	eventually(t, func() string { return "nothing to be pinned" }, func() bool { return d.statusNumber("web", statusPinned) == 0 })
}
