package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// buildPackage makes the Debian package: around the binary under test, or with
// LOGFS_LONG=1 around the one that users get.
func buildPackage(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	build := exec.Command("../contrib/deb/build", dir)
	build.Env = append(os.Environ(), "DPKG_DEB_COMPRESSOR_LEVEL=0")
	if os.Getenv("LOGFS_LONG") == "" {
		build.Env = append(build.Env, "LOGFS="+logfsBin)
	}
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("contrib/deb/build: %v\n%s", err, said)
	}
	made, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	must(t, err)
	if len(made) != 1 {
		t.Fatalf("contrib/deb/build made %q, want one package", made)
	}
	return made[0]
}

// installed is a machine that systemd runs, with the package.
func installed(t *testing.T) *machine {
	t.Helper()
	needTools(t, "systemctl", "systemd-analyze", "dpkg-deb", "man", "bash", "zsh", "fish", "tmux")
	m := startMachine(t, "/lib/systemd/systemd", "--unit=basic.target", "--show-status=no", "--log-target=null")
	m.booted("systemctl")
	m.put(buildPackage(t), "/root")
	m.do("dpkg --no-triggers -i /root/*.deb")
	return m
}

// booted waits for a manager. That some unit of this machine does not start in
// that one is none of our business.
func (m *machine) booted(systemctl string) {
	m.t.Helper()
	m.eventually("case $("+systemctl+" is-system-running) in running | degraded) echo booted ;; esac", "booted")
}

// ours lists what has our name where programs and packages put things, and the
// mount point. The cache of man is man's.
const ours = "find /etc /mnt /opt /run /srv /usr /var -xdev -path /var/cache/man -prune -o " +
	"'(' -name '*logfs*' -o -path /mnt/logs ')' -print"

// The package in a machine with systemd: from its installation to its purge.
func TestPackage(t *testing.T) {
	t.Parallel()
	m := installed(t)
	m.untouchedUntilStarted()
	m.documented()
	m.completes()
	m.verified()
	m.serves()
	m.reloads()
	m.restarts()
	m.changesOver()
	m.failsToRestart()
	m.captures()
	m.writes()
	m.servesUser()
	m.goes()
}

// untouchedUntilStarted: nothing runs or will run because of the installation.
func (m *machine) untouchedUntilStarted() {
	m.t.Helper()
	m.is("systemctl is-enabled logfs", "disabled\n")
	m.is("systemctl is-active logfs", "inactive\n")
	m.is("logfs check", "/etc/logfs/logfs.toml: 0 services, no mistakes\n")
}

// is compares what a command prints.
func (m *machine) is(script, want string) {
	m.t.Helper()
	if got := m.try(script); got.stdout != want {
		m.t.Errorf("%q prints %q and %q, want %q", script, got.stdout, got.stderr, want)
	}
}

func (m *machine) documented() {
	m.t.Helper()
	for page, want := range map[string]string{"1 logfs": "logfs daemon", "5 logfs.toml": "ring-lines"} {
		if got := m.do("MANPAGER=cat MANWIDTH=80 man " + page); !strings.Contains(got, want) {
			m.t.Errorf("man %s does not show %q:\n%s", page, want, got)
		}
	}
}

// completes looks whether the shells find what the package brings. That it
// works is for TestCompletion.
func (m *machine) completes() {
	m.t.Helper()
	m.is("bash -c '. /usr/share/bash-completion/completions/logfs && complete -p logfs'", "complete -F _logfs logfs\n")
	m.is("fish -c 'complete -C \"logfs unm\"'", "unmount\ttake a mount away, also a dead one\n")
	s := newTerminal(m.t, filepath.Join(m.dir, "tmux"), "exec "+strings.Join(m.inside("-i", "TERM=screen", "PATH=/usr/bin:/bin", "zsh", "-f", "-i"), " "))
	s.keys("-l", "PS1='%% '; autoload -U compinit && compinit -u -D")
	s.keys("Enter", "C-l")
	s.keys("-l", "logfs unm")
	s.keys("Tab", "X")
	s.shows("% logfs unmount X")
	s.keys("C-u")
	s.keys("-l", "exit")
	s.keys("Enter")
	s.closes()
}

// exposure is the highest that systemd-analyze may find, in tenths, without and
// with the strict drop-in. A bare unit has 96.
var exposure = [2]int{77, 35}

func (m *machine) verified() {
	m.t.Helper()
	m.is("systemd-analyze verify logfs.service 2>&1", "")
	m.is("XDG_RUNTIME_DIR=/run systemd-analyze --user verify /usr/lib/systemd/user/logfs.service 2>&1", "")
	const units = "/tmp/units/logfs.service"
	m.do("mkdir -p " + units + ".d && cp /usr/lib/systemd/system/logfs.service /tmp/units")
	m.do(fmt.Sprintf("systemd-analyze security --offline=true --threshold=%d %s", exposure[0], units))
	m.do("cp /usr/share/doc/logfs/examples/systemd/capture-only.conf " + units + ".d")
	m.is("systemd-analyze verify "+units+" 2>&1", "")
	m.do(fmt.Sprintf("systemd-analyze security --offline=true --threshold=%d %s", exposure[1], units))
}

// serves: what the daemon mounts is seen by everybody, and it can start a
// service as another user.
func (m *machine) serves() {
	m.t.Helper()
	m.write("/etc/logfs/conf.d/who.toml", "[service.who]\ncommand = \"id -un; exec sleep 1000\"\nuser = \"nobody\"\n")
	m.do("systemctl start logfs")
	m.eventually("cat /mnt/logs/who/current", "\nnobody\n")
}

// reloads: a mistake fails the reload and changes nothing.
func (m *machine) reloads() {
	m.t.Helper()
	m.do("systemctl reload logfs")
	m.write("/etc/logfs/conf.d/bad.toml", "[service.bad]\nkeep = 0\n")
	if r := m.try("systemctl reload logfs"); r.status == 0 {
		m.t.Error("systemctl reload succeeds with a mistake in the configuration")
	}
	m.is("systemctl is-active logfs", "active\n")
}

// restarts: a killed daemon is started again, over its mount, and goes on with the
// run of its service and with its readers, though only systemd has kept the mount.
func (m *machine) restarts() {
	m.t.Helper()
	m.do("rm /etc/logfs/conf.d/bad.toml && echo one | logfs pipe said")
	m.do("setsid cat /mnt/logs/said/stdout/follow >/tmp/followed 2>&1 &")
	m.eventually("cat /tmp/followed", "one\n")
	m.is("systemctl show --property=NFileDescriptorStore logfs", "NFileDescriptorStore=2\n")
	before := m.do("pgrep -u nobody -x sleep")
	m.do("systemctl kill --kill-who=main --signal=KILL logfs && kill -KILL $(pgrep -f 'hold [.]mount')")
	m.eventually("systemctl show --property=NRestarts logfs && systemctl is-active logfs", "NRestarts=1\nactive\n")
	m.wentOn(before)
	m.do("echo two | logfs pipe said")
	m.eventually("cat /tmp/followed", "one\ntwo\n")
}

// wentOn: the service has the process and the run that it had.
func (m *machine) wentOn(before string) {
	m.t.Helper()
	m.eventually("logfs status", "who running 1 ")
	m.is("pgrep -u nobody -x sleep", before)
	m.is("grep -c started /mnt/logs/who/current", "1\n")
}

// changesOver: a restart by hand leaves all to the next daemon.
func (m *machine) changesOver() {
	m.t.Helper()
	before, main := m.do("pgrep -u nobody -x sleep"), m.do("systemctl show --property=MainPID logfs")
	m.do("systemctl restart logfs")
	if m.do("systemctl show --property=MainPID logfs") == main {
		m.t.Error("systemctl restart has not started another daemon")
	}
	m.wentOn(before)
	m.do("echo three | logfs pipe said")
	m.eventually("cat /tmp/followed", "one\ntwo\nthree\n")
}

// failsToRestart: with a mistake in the configuration nobody comes to go on, so all
// ends in order, and the daemon stays down.
func (m *machine) failsToRestart() {
	m.t.Helper()
	m.write("/etc/logfs/conf.d/bad.toml", "[service.bad]\nkeep = 0\n")
	m.try("systemctl restart logfs")
	m.is("systemctl show --property=ExecMainStatus --property=NRestarts --property=ActiveState logfs",
		"NRestarts=0\nExecMainStatus=100\nActiveState=failed\n")
	m.is("pgrep -u nobody -x sleep; pgrep -x cat; pgrep -f 'hold [.]mount'; grep /mnt/logs /proc/self/mounts", "")
	m.is("cat /tmp/followed", "one\ntwo\nthree\n")
	m.do("rm /etc/logfs/conf.d/*.toml")
}

// webUnit is a service of another package that knows nothing of logfs, made so
// that it says when it is ready and who it is.
const webUnit = `[Service]
Type=notify
User=nobody
PrivateTmp=yes
ProtectSystem=strict
ExecStart=/bin/false
`

// captures: under the strict drop-in the daemon still captures what systemd
// starts through logfs run, and changes over.
func (m *machine) captures() {
	m.t.Helper()
	const drop = "/etc/systemd/system/%s.service.d"
	m.do(fmt.Sprintf("mkdir -p "+drop+" && cp /usr/share/doc/logfs/examples/systemd/capture-only.conf "+drop, "logfs", "logfs"))
	m.write("/etc/systemd/system/web.service", webUnit)
	text, err := os.ReadFile("../contrib/systemd/logfs-run.conf")
	must(m.t, err)
	m.write(fmt.Sprintf(drop, "web")+"/logfs.conf", strings.NewReplacer(
		"ExecStart=/usr", "#ExecStart=/usr", "#ExecStart=!", "ExecStart=!", "--reuid=web", "--reuid=nobody", "--regid=web", "--regid=nogroup",
		"/usr/bin/web --port 80", `/bin/sh -c "id -un; systemd-notify --ready; exec sleep 1000"`).Replace(string(text)))
	m.do("systemctl daemon-reload && systemctl start web")
	m.is("systemctl show --property=MemoryDenyWriteExecute logfs", "MemoryDenyWriteExecute=yes\n")
	m.eventually("cat /mnt/logs/web/current", "\nnobody\n")
	m.do("setsid cat /mnt/logs/web/follow >/tmp/followed 2>&1 &")
	m.eventually("cat /tmp/followed", "\nnobody\n")
	m.do("systemctl restart logfs")
	m.eventually("logfs status", "web running 1 ")
	m.do("systemctl stop web")
	m.eventually("cat /tmp/followed", " killed by SIGTERM after ")
	m.eventually("tail -n 1 /mnt/logs/web/current", " killed by SIGTERM after ")
}

// writes: systemd appends to the files of the mount itself, under the strict
// drop-in too.
func (m *machine) writes() {
	m.t.Helper()
	m.do("mkdir /mnt/logs/job && systemd-run --quiet --wait --unit=job -p StandardOutput=append:/mnt/logs/job/current " +
		"-p StandardError=append:/mnt/logs/job/stderr/current sh -c 'echo 1; echo 2 >&2; echo 3'")
	m.eventually("cat /mnt/logs/job/current", " uid 0 --\n1\n2\n3\n-- job run 1 ended after ")
}

// servesUser: a plain user's manager runs a daemon of his own.
func (m *machine) servesUser() {
	m.t.Helper()
	const places = "XDG_RUNTIME_DIR=/run/nobody HOME=/run/nobody"
	const asUser = "setpriv --reuid=nobody --regid=nogroup --clear-groups env " + places + " "
	m.do("install -d -o nobody -g nogroup -m 700 /run/nobody && systemd-run --quiet --unit=manager --uid=nobody --gid=nogroup " +
		"--property=Delegate=yes --setenv=" + strings.ReplaceAll(places, " ", " --setenv=") + " /lib/systemd/systemd --user --unit=basic.target")
	m.booted(asUser + "systemctl --user")
	m.do(asUser + "systemctl --user start logfs")
	m.do("echo hello | " + asUser + "logfs pipe web")
	if got := m.do(asUser + "cat /run/nobody/logfs/web/current"); !strings.Contains(got, "\nhello\n") {
		m.t.Errorf("a plain user's daemon shows %q", got)
	}
	m.do("setsid " + asUser + "cat /run/nobody/logfs/web/stdout/follow >/tmp/followed 2>&1 &")
	m.eventually("cat /tmp/followed", "hello\n")
	m.do(asUser + "systemctl --user restart logfs && echo again | " + asUser + "logfs pipe web")
	m.eventually("cat /tmp/followed", "hello\nagain\n")
	m.do(asUser + "systemctl --user stop logfs")
	m.is("grep /run/nobody/logfs /proc/self/mounts", "")
	m.do("systemctl stop manager && rm -r /run/nobody")
}

// goes: a removal ends the daemon, a purge leaves the logs alone and nothing else.
func (m *machine) goes() {
	m.t.Helper()
	m.do("systemctl enable logfs && rm -r /etc/systemd/system/*.service.d /etc/systemd/system/web.service")
	m.do("dpkg --no-triggers -r logfs")
	m.is("grep /mnt/logs /proc/self/mounts; pgrep -x logfs", "")
	m.is("ls /etc/logfs/logfs.toml", "/etc/logfs/logfs.toml\n")
	m.do("dpkg --no-triggers -P logfs")
	m.is(ours, "/var/log/logfs\n")
	if got := m.do("logfs=/var/log/logfs; ls $logfs"); got != "job\nsaid\nweb\nwho\n" {
		m.t.Errorf("the store holds %q after the purge, want the logs", got)
	}
}
