package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func (d *daemon) restart() {
	d.t.Helper()
	d.stop()
	d.start()
}

// mode is what ls says of a file's mode, owner and group.
func (d *daemon) access(path string) string {
	d.t.Helper()
	return strings.TrimSpace(d.do("stat -c '%a %u %g' " + path))
}

func TestServicesAreMadeAndRemoved(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, "[service.web]\n")
	d.do("mkdir m/job && echo one >>m/job/current")
	d.awaitEnds("job", 1)
	for script, want := range map[string]string{
		"mkdir m/job": "File exists", "mkdir m/all": "File exists", "mkdir m/status": "File exists",
		"mkdir m/.x": "Invalid argument", "mkdir 'm/a b'": "Invalid argument", "mkdir m/job/x": "not permitted",
		"rmdir m/all": "not permitted", "rmdir m/web": "not permitted", "rmdir m/none": "No such file", "rmdir m/job/stdout": "not permitted",
		"mv m/job m/other": "not permitted", "rm m/job/current": "not permitted", "echo >m/x": "not permitted",
		"echo >>m/none/current": "nonexistent",
	} {
		d.refuses(want, script)
	}
	if got := d.do("ls store"); got != "job\nweb\n" {
		t.Errorf("refused names have left something in the store: %q", got)
	}
	follow := d.watch("job", "follow")
	follow.await("one\n")
	d.do("rmdir m/job")
	follow.awaitEnd()
	if got := d.do("ls m; ls store/job"); got != "all\nstatus\nweb\ncurrent\nlock\n" {
		t.Errorf("after rmdir there is %q", got)
	}
	d.do("mkdir m/job && echo two >>m/job/current")
	if got := d.awaitEnds("job", 2); !strings.Contains(got, "job,1,2,o;one\n") || !strings.Contains(got, "job,2,5,o;two\n") {
		t.Errorf("a service made again does not go on:\n%s", got)
	}
}

// rm -rf takes no service away in which anybody writes, and ends.
func TestLiveServicesAreNotRemoved(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, "")
	d.do("mkdir m/job; mkfifo gate")
	w := startClient(t, setting{}, "/bin/sh", "-c", `exec >>"$0"; echo begins; read x <"$1"; echo ends`, d.path("job", "current"), filepath.Join(d.dir, "gate"))
	d.awaitState("job", "running")
	d.refuses("resource busy", "rmdir m/job")
	d.refuses("not permitted", "rm -rf m/job")
	d.refuses("", "find m/job -delete")
	d.do("echo >gate")
	if status := w.wait(); status != 0 {
		t.Errorf("the writer ended with %d", status)
	}
	if got := d.awaitEnds("job", 1); !strings.Contains(got, "o;begins\n") || !strings.Contains(got, "o;ends\n") {
		t.Errorf("seq is\n%s", got)
	}
}

// somebody is a user who is neither the daemon's nor nobody.
const somebody = 4711

// chmod, chown and chgrp of a service's directory say who may read and write it,
// also after a restart; the kernel sees to it.
func TestAccessIsChanged(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can become another user")
	}
	d := startDaemon(t, "[service.set]\nmode = \"0700\"\nowner = \"4712\"\n")
	must(t, os.Chmod(d.dir, 0o755))
	d.do("mkdir m/job && echo line >>m/job/current")
	d.refuses("Permission denied", "cat m/job/current", somebody, somebody)
	d.refuses("Permission denied", "echo x >>m/job/current", somebody, somebody)
	d.refuses("not permitted", "chmod 777 m/job", somebody, somebody)
	d.refuses("Permission denied", "mkdir m/mine", somebody, somebody)
	d.refuses("Permission denied", "rmdir m/job", somebody, somebody)

	d.do("chown 4711:65534 m/job && chmod 750 m/job")
	for range 2 {
		if got := d.access("m/job") + ", " + d.access("m/job/current") + ", " + d.access("m/job/stderr/seq"); got != "750 4711 65534, 640 4711 65534, 440 4711 65534" {
			t.Errorf("owner and modes are %s", got)
		}
		d.do("grep -q line m/job/follow; echo his >>m/job/current; : >m/job/current", somebody, somebody)
		d.do("grep -q -m1 line m/job/follow", nobody, nobody)
		d.refuses("Permission denied", "echo x >>m/job/current", nobody, nobody)
		d.refuses("Permission denied", "echo x >>m/job/seq", somebody, somebody)
		d.restart()
	}
	d.do("chmod 700 m/job", somebody, somebody)
	d.refuses("Permission denied", "cat m/job/current", nobody, nobody)
	if got := d.do("ls -ld m/job", nobody, nobody); !strings.HasPrefix(got, "drwx------ 2 4711 ") {
		t.Errorf("ls says %q", got)
	}
	if got := d.do("sed -n 's/.* \\(uid=.*\\)/\\1/p' m/job/seq"); !strings.Contains(got, "uid=4711\n") {
		t.Errorf("no start mark names the user: %q", got)
	}

	// The configuration wins, and what it sets cannot be changed.
	d.refuses("not permitted", "chmod 755 m/set")
	d.refuses("not permitted", "chown 0 m/set")
	d.do("chgrp 65534 m/set")
	if got := d.access("m/set"); got != "700 4712 65534" {
		t.Errorf("owner and mode are %s", got)
	}
	d.configure("[defaults]\nmode = \"0711\"\n[service.set]\n")
	d.reload()
	if got := d.access("m/set") + ", " + d.access("m/job"); got != "711 0 65534, 711 4711 65534" {
		t.Errorf("owner and mode are %s", got)
	}
	d.do("umask 077; mkdir m/narrow")
	if got := d.access("m/narrow"); !strings.HasPrefix(got, "711 0 ") {
		t.Errorf("a mode that is configured became %s", got)
	}
}

// mkdir narrows the mode that a service has by default, and never opens it.
func TestModeOfMkdir(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, "")
	d.do("umask 077; mkdir m/narrow; umask 0; mkdir m/wide")
	for range 2 {
		if got := d.do("stat -c %a m/narrow m/wide"); got != "700\n750\n" {
			t.Errorf("modes are %q", got)
		}
		d.restart()
	}
}
