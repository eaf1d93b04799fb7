package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// try runs a shell command beside the mount, which is m, and returns what it
// printed, errors included.
func (d *daemon) try(script string, as ...int) (string, error) {
	cmd := exec.Command("sh", "-c", "cd "+d.dir+" && "+script)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if len(as) > 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(as[0]), Gid: uint32(as[1])}}
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// do is try for what has to work.
func (d *daemon) do(script string, as ...int) string {
	d.t.Helper()
	out, err := d.try(script, as...)
	if err != nil {
		d.t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return out
}

// refuses is try for what has to fail with an error that says want.
func (d *daemon) refuses(want, script string, as ...int) {
	d.t.Helper()
	if out, err := d.try(script, as...); err == nil || !strings.Contains(out, want) {
		d.t.Errorf("%s: %v, %q, want an error that says %q", script, err, out, want)
	}
}

// awaitEnds waits until n runs of a service have ended, and returns its records
// without stamps.
func (d *daemon) awaitEnds(name string, n int) (records string) {
	d.t.Helper()
	stamp := regexp.MustCompile(`(?m)^@[0-9a-f]{24},`)
	times := regexp.MustCompile(`after=[0-9.]+s|pid=[0-9]+`)
	eventually(d.t, func() string { return fmt.Sprintf("%d runs of %s to end; there is\n%s", n, name, records) }, func() bool {
		records = times.ReplaceAllString(stamp.ReplaceAllString(d.read(name, "seq"), ""), "")
		return len(exitMark.FindAllString(records, -1)) == n
	})
	return records
}

var exitMark = regexp.MustCompile(`(?m)^[a-z]+,[0-9]+,[0-9]+,=;exit `)

const writable = "[service.job]\n"

// One writer through the mount: the order between its streams, marks with pid
// and user, and its unfinished line.
func TestWriteThroughTheMount(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, writable)
	pid := strings.TrimSpace(d.do(`(exec sh -c 'echo $$ >pid; echo 1; echo 2 >&2; echo 3; printf "\0 4" >&2; printf 5' >>m/job/current 2>>m/job/stderr/current); cat pid`))
	d.awaitEnds("job", 1)
	want := regexp.MustCompile(`^-- job run 1 started \S+ pid ` + pid + ` uid 0 --\n1\n2\n3\n(\\x00 4\n5|5\n\\x00 4)\n-- job run 1 ended after \S+ --\n$`)
	if got := d.read("job", "current"); !want.MatchString(got) {
		t.Errorf("current is %q", got)
	}
	if got := d.read("job", "stderr", "current"); got != "2\n\x00 4" {
		t.Errorf("stderr/current is %q", got)
	}
	// What looks like a mark or a record is a line.
	d.do(`printf '%s\n' '-- job run 9 started --' '@400000006b00928d1b55d9c8,job,1,9,=;exit code=1' >>m/job/current`)
	if got := d.awaitEnds("job", 2); !strings.Contains(got, "o;-- job run 9 started --\n") || !strings.Contains(got, "o;@400000006b00928d1b55d9c8,job,1,9,=;exit code=1\n") {
		t.Errorf("seq is\n%s", got)
	}
	d.stop()
	d.verified(d.logdir("job"))
}

// A run lasts from the first writer to the last, whoever of them was forked,
// killed, or has closed some of its descriptors. Their lines never mix.
func TestWritersOfOneRun(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, writable)
	first := exec.Command("sh", "-c", `exec >>"$0"; printf first; (sleep 1000) & echo $! >"$1"; exec sleep 1000`, d.path("job", "current"), filepath.Join(d.dir, "child"))
	must(t, first.Start())
	d.awaitState("job", "running")
	eventually(t, func() string { return "the child" }, func() bool {
		b, _ := os.ReadFile(filepath.Join(d.dir, "child"))
		return strings.HasSuffix(string(b), "\n")
	})
	d.do("echo second >>m/job/current; (echo third; echo fourth >&2) >>m/job/current 2>&1")
	must(t, first.Process.Kill())
	_ = first.Wait()
	d.do("printf fifth >>m/job/current; echo sixth >>m/job/current")
	if got := d.read("job", "stdout", "current"); !strings.HasPrefix(got, "second\nthird\nfourth\n") || strings.Contains(got, "first") {
		t.Errorf("stdout/current is %q while a child of the killed writer has it open", got)
	}
	d.do("kill $(cat child)")
	got := d.awaitEnds("job", 1)
	for _, line := range []string{"o;second\n", "o;third\n", "o;fourth\n", "o+;fifth\n", "o;sixth\n", "o+;first\n"} {
		if strings.Count(got, line) != 1 {
			t.Errorf("%q is %d times in\n%s", line, strings.Count(got, line), got)
		}
	}
	if strings.Count(got, ";start ") != 1 {
		t.Errorf("more than one run:\n%s", got)
	}
}

// Programs that append to a log file do so here, and those that begin it anew
// rotate it.
func TestWritingPrograms(t *testing.T) {
	t.Parallel()
	for _, p := range []struct{ tool, script string }{
		{"sh", "echo said >>m/job/current"},
		{"sh", "touch m/job/current; echo said >>m/job/current"},
		{"tee", "echo said | tee -a m/job/current"},
		{"dd", "echo said | dd of=m/job/current oflag=append conv=notrunc"},
		{"dd", "echo said | dd of=m/job/current bs=1 seek=100000000 conv=notrunc,fsync"},
		{"cat", "echo said >text; cat text >>m/job/current"},
		{"cp", "echo said >text; cp text m/job/current"},
		{"bash", "exec 3<>m/job/current; echo said >&3"},
		{"busybox", "echo said | busybox tee -a m/job/current"},
		{"python3", `python3 -c 'import logging
logging.basicConfig(filename="m/job/current")
logging.warning("said")' && python3 -c 'print("said", file=open("m/job/stderr/current", "a"))'`},
		{"node", `node -e 'require("fs").appendFile("m/job/current", "said\n", e => { if (e) throw e })'`},
		{"node", `node -e 'const s = require("fs").createWriteStream("m/job/current", {flags: "a"}); s.end("said\n")'`},
		{"perl", `perl -e 'open(F, ">>", "m/job/current"); print F "said\n"; close F or die'`},
		{"unshare", "mkdir box && unshare -m sh -c 'mount --bind m/job box && echo said >>box/current'"},
	} {
		t.Run(p.script, func(t *testing.T) {
			t.Parallel()
			needTools(t, p.tool)
			d := startDaemon(t, writable)
			d.do(p.script)
			if got := d.awaitEnds("job", 1+strings.Count(p.script, "&& python3")); !strings.Contains(got, "said\n") {
				t.Errorf("seq is\n%s", got)
			}
		})
	}
}

// What empties a file destroys nothing here: the file on disk becomes an archive.
func TestTruncationRotates(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, writable)
	d.do("echo kept >>m/job/current")
	before := d.awaitEnds("job", 1)
	for _, script := range []string{": >m/job/current", "truncate -s 0 m/job/current", "true >m/job/stdout/current"} {
		archives := len(d.archives("job"))
		d.do(script)
		if n := len(d.archives("job")); script == ": >m/job/current" && n != archives+1 {
			t.Errorf("%s: %d archives, want %d", script, n, archives+1)
		}
	}
	if after := d.awaitEnds("job", 1); after != before {
		t.Errorf("seq was\n%sand is\n%s", before, after)
	}
	d.refuses("not permitted", "truncate -s 5 m/job/current")
}

func (d *daemon) archives(name string) []string {
	names, err := filepath.Glob(filepath.Join(d.logdir(name), "@*"))
	must(d.t, err)
	return names
}

// The order between the streams of a command is that of its writes.
func TestExactOrder(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, "[defaults]\nring-lines = 100000\nring-bytes = \"64MiB\"\n")
	const last = 10_000
	r := runCommand(t, []string{"LOGFS_SOCKET=" + d.sock, "LOGFS_TEST_HELPER=alternate"}, d.dir,
		logfsBin, "run", "--order", "exact", "web", "--", os.Args[0], fmt.Sprint(last))
	if r.status != 7 {
		t.Fatalf("status %d, want that of the command, 7\n%s", r.status, r.stderr)
	}
	var lines, disordered int
	for _, rec := range parseSeq(t, d.read("web", "seq")) {
		if rec.kind != "o" && rec.kind != "e" {
			continue
		}
		if lines++; rec.text != fmt.Sprint(lines) || (rec.kind == "e") != (lines%2 == 0) {
			disordered++
		}
	}
	if lines != last || disordered != 0 {
		t.Errorf("%d lines, %d of them out of order", lines, disordered)
	}
	got := d.awaitEnds("web", 1)
	if !strings.HasPrefix(got, "web,1,1,=;start run=1 \n") || !strings.HasSuffix(got, "=;exit code=7 \n") {
		t.Errorf("the marks are not around the lines:\n%.200s\n…\n%s", got, got[len(got)-200:])
	}
	if r := d.logfs("run", "--order", "exact", "web", "--", "/nonexistent"); r.status != 111 {
		t.Errorf("a command that is not there: %+v", r)
	}
	if r := d.logfs("run", "--order", "sometimes", "web", "--", "true"); r.status != 100 || !strings.Contains(r.stderr, "want pipes or exact") {
		t.Errorf("an order that is not there: %+v", r)
	}
	d.do("mkdir alone; LOGFS_SOCKET= " + logfsBin + " run --order exact --mount alone --store s2 x -- sh -c 'echo 1; echo 2 >&2'")
	if got := d.do("sed -n 's/^[^ ]* \\([oe] .*\\)/\\1/p' s2/x/current"); got != "o 1\ne 2\n" {
		t.Errorf("without a daemon the store has %q", got)
	}
}

// alternate writes the numbers up to args[0], by turns to stdout and stderr.
func alternate(args []string) int {
	var last int
	fmt.Sscan(args[0], &last)
	for n := 1; n <= last; n++ {
		out := []*os.File{os.Stderr, os.Stdout}[n%2]
		if _, err := fmt.Fprintln(out, n); err != nil {
			return fail(err)
		}
	}
	return 7
}

// A service that has a run takes lines of others into it; and who outlives the
// run of a command begins none.
func TestWriteBesideARun(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, "")
	d.do("mkfifo gate; mkdir m/job")
	run := startClient(t, setting{env: []string{"LOGFS_SOCKET=" + d.sock}}, logfsBin, "run", "job", "--", "sh", "-c", "echo begins; read x <"+d.dir+"/gate")
	d.awaitState("job", "running")
	d.do("echo noted >>m/job/current")
	d.refuses("resource busy", "rmdir m/job")
	d.do("echo >gate")
	if status := run.wait(); status != 0 {
		t.Errorf("logfs run ended with %d", status)
	}
	got := d.awaitEnds("job", 1)
	if strings.Count(got, ";start ") != 1 || !strings.Contains(got, "o;noted\n") {
		t.Errorf("seq is\n%s", got)
	}
	// A writer that is there keeps logfs run away, as another run would.
	w, err := unix.Open(d.path("job", "current"), unix.O_WRONLY|unix.O_APPEND|unix.O_CLOEXEC, 0)
	must(t, err)
	if r := d.logfs("run", "job", "--", "true"); r.status != 100 || !strings.Contains(r.stderr, "already has a run: pid ") {
		t.Errorf("logfs run beside a writer: %+v", r)
	}
	must(t, unix.Close(w))
	d.awaitEnds("job", 2)
}

// While the disk is full and full = "block", a writer waits, can be killed, and
// holds up nobody; then it goes on, and nothing is lost.
func TestWriterWaitsForTheDisk(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "[service.job]\nfull = \"block\"\nsize = \"1TB\"\nmin = 100000\nkeep = 100000\n[service.db]\n")
	disk := d.smallDisk("job", 8<<20)
	d.expectLog("service=job")
	d.start()
	free := fill(t, disk)
	const last = 30_000
	emit := startClient(t, setting{env: []string{"LOGFS_TEST_HELPER=emit"}}, "/bin/sh", "-c",
		fmt.Sprintf(`exec %q %d 0 >>"$0"`, os.Args[0], last), d.path("job", "current"))
	d.awaitLog("the service waits")
	hit := startClient(t, setting{}, "/bin/sh", "-c", `echo killed >>"$0"`, d.path("job", "current"))
	eventually(t, func() string { return "both to write" }, func() bool {
		return strings.Count(d.do("ls -l /proc/[0-9]*/fd 2>/dev/null || true"), d.path("job", "current")) >= 2
	})
	must(t, hit.cmd.Process.Kill())
	hit.wait()
	d.do("echo db >>m/db/current; ls -l m/job; head -n 2 m/job/current")
	free()
	if status := emit.wait(); status != 0 {
		t.Errorf("the writer ended with %d: %s", status, emit.said())
	}
	d.awaitEnds("job", 1)
	d.stop()
	d.verified(disk)
	if a := accountOfFiles(t, disk); a.lost != 0 || a.lines != last {
		t.Errorf("the files have %+v, want %d lines: all that was written, and nothing of who was killed", a, last)
	}
}

// Writes fail when the daemon is gone, also when there is another, and nothing is
// left of the writer that could harm that.
func TestWriterWithoutDaemon(t *testing.T) {
	t.Parallel()
	for name, replace := range map[string]func(*daemon){
		"ends":      func(d *daemon) { d.stop() },
		"is killed": func(d *daemon) { d.kill(); d.start() },
	} {
		t.Run(name, func(t *testing.T) {
			d := startDaemon(t, writable)
			w, err := unix.Open(d.path("job", "current"), unix.O_WRONLY|unix.O_APPEND|unix.O_CLOEXEC, 0)
			must(t, err)
			defer unix.Close(w)
			if _, err := unix.Write(w, []byte("whole\nhalf")); err != nil {
				t.Fatal(err)
			}
			replace(d)
			if _, err := unix.Write(w, []byte("late\n")); err != unix.ENOTCONN {
				t.Errorf("a write without its daemon: %v, want ENOTCONN", err)
			}
			if !d.running() {
				d.start()
			}
			d.do("echo again >>m/job/current")
			got := d.awaitEnds("job", map[string]int{"ends": 2, "is killed": 1}[name])
			if !strings.Contains(got, "o;whole\n") || !strings.Contains(got, ",2,") || strings.Contains(got, "late") ||
				(name == "ends") != strings.Contains(got, "o+;half\n") {
				t.Errorf("seq is\n%s", got)
			}
		})
	}
}
