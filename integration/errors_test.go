package integration

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The statuses of the command line.
const (
	misuse  = 100
	refused = 111
)

// A mistake is something a person does wrong, and what is said about it: one
// line on standard error that begins with "logfs: " and holds every text of
// says. In args and says, $D is a directory of the case's own, with
// an empty directory m, a regular file "file" and a directory "full" that is
// not empty.
type mistake struct {
	name   string
	files  map[string]string // made in $D
	args   []string
	status int
	says   []string
}

const wantName = `want a letter or digit, then up to 99 of letters, digits and "._@:-"`

var longName = strings.Repeat("x", 101)

// The daemon's flags, complete: one of them is then given again.
func daemonWith(more ...string) []string {
	return append([]string{"daemon", "--config", "$D/logfs.toml", "--mount", "$D/m",
		"--store", "$D/store", "--socket", "$D/sock"}, more...)
}

// toml is a configuration with a mistake, and the line that is said to have it.
func toml(name, text string, line int, says ...string) mistake {
	return mistake{name: name, files: map[string]string{"logfs.toml": text}, args: daemonWith(),
		status: misuse, says: append([]string{fmt.Sprintf("$D/logfs.toml:%d: ", line)}, says...)}
}

func procfile(name, text string, says ...string) mistake {
	return mistake{name: name, files: map[string]string{"Procfile": text}, status: misuse, says: says,
		args: []string{"up", "-f", "$D/Procfile", "--mount", "$D/m", "--store", "$D/store"}}
}

func badName(name, shown string) mistake {
	return mistake{name: "name " + name[:min(len(name), 12)], status: misuse,
		args: []string{"run", "--mount", "$D/m", "--store", "$D/store", name, "--", "true"},
		says: []string{shown, wantName}}
}

var mistakes = []mistake{
	{name: "unknown subcommand", args: []string{"frobnicate"}, status: misuse, says: []string{`"frobnicate"`}},
	{name: "help of unknown", args: []string{"help", "frobnicate"}, status: misuse, says: []string{`"frobnicate"`}},
	{name: "unknown flag", args: daemonWith("--nonsense"), status: misuse, says: []string{"--nonsense"}},
	{name: "flag without value", args: []string{"daemon", "--mount"}, status: misuse, says: []string{"--mount"}},
	{name: "argument too many", args: daemonWith("extra"), status: misuse, says: []string{`"extra"`}},
	{name: "ready-fd no number", args: daemonWith("--ready-fd", "x"), status: misuse, says: []string{"ready-fd", `"x"`}},
	{name: "ready-fd not open", args: daemonWith("--ready-fd", "77"), says: []string{"--ready-fd 77", "open descriptor"}, status: misuse},

	{name: "run without name", args: []string{"run"}, status: misuse, says: []string{"want logfs run NAME -- COMMAND"}},
	{name: "run without command", args: []string{"run", "web"}, status: misuse, says: []string{"want logfs run NAME -- COMMAND"}},
	{name: "run with nothing after --", args: []string{"run", "web", "--"}, status: misuse, says: []string{"want logfs run NAME -- COMMAND"}},
	{name: "pipe without name", args: []string{"pipe"}, status: misuse, says: []string{"want logfs pipe NAME"}},
	{name: "pipe with a command", args: []string{"pipe", "web", "--", "true"}, status: misuse, says: []string{"pipe"}},
	{name: "mount without store", args: []string{"run", "--mount", "$D/m", "--socket", "$D/sock", "web", "--", "true"},
		status: misuse, says: []string{"--mount", "--socket"}},
	badName("a/b", `"a/b"`),
	badName("..", `".."`),
	badName("a\nb", `"a\nb"`),
	badName(".hidden", `".hidden"`),
	badName("", `""`),
	badName(longName, longName[:50]),
	badName("größe", `größe`),
	badName("all", "reserved"),
	badName("status", "reserved"),
	{name: "command not found", status: refused, says: []string{`cannot start "/no/such/command": no such file`},
		args: []string{"run", "--mount", "$D/m", "--store", "$D/store", "web", "--", "/no/such/command"}},
	{name: "command not in PATH", status: refused, says: []string{`cannot start "no-such-command-anywhere": executable file not found`},
		args: []string{"run", "--mount", "$D/m", "--store", "$D/store", "web", "--", "no-such-command-anywhere"}},
	{name: "command not executable", status: refused, says: []string{"$D/file", "permission denied"},
		args: []string{"run", "--mount", "$D/m", "--store", "$D/store", "web", "--", "$D/file"}},

	{name: "no configuration", args: daemonWith("--config", "$D/none.toml"), says: []string{"$D/none.toml", "no such file"}, status: misuse},
	{name: "check of a bad configuration", files: map[string]string{"bad.toml": "[service.web]\nkepp = 1\n"},
		args: []string{"check", "--config", "$D/bad.toml"}, status: misuse,
		says: []string{"$D/bad.toml:2: service.web.kepp: unknown key: did you mean keep?"}},
	toml("unknown key", "\n[service.web]\ncolour = 1\n", 3, "service.web.colour: unknown key: want one of ring-lines"),
	toml("syntax", "[service.web]\nkeep 3\n", 2, "cannot parse"),
	toml("bad number", "[service.web]\nkeep = 0\n", 2, "service.web.keep: cannot use 0: want a whole number from 1"),
	toml("bad size", "[defaults]\n\nsize = \"64K\"\n", 3, `defaults.size: cannot use "64K": want a number of bytes or a string such as "64KiB"`),
	toml("bad restart", "[service.web]\ncommand = \"true\"\nrestart = \"sometimes\"\n", 3, `"sometimes"`, `want "always", "on-failure" or "never"`),
	toml("bad service name", "[service.\"a/b\"]\n", 1, `"a/b"`, wantName),
	toml("impossible combination", "[service.web]\nring-bytes = \"4KiB\"\n", 2, "ring-bytes 4096 cannot hold 4 lines of line-limit 10000"),
	toml("fifo and command", "[service.web]\ncommand = \"true\"\n\nfifo = \"/tmp/x\"\n", 2, "service.web.command: command, fifo and syslog exclude each other: want one of them"),
	toml("relative fifo", "[service.web]\nfifo = \"web\"\n", 2, `service.web.fifo: cannot use "web": want an absolute path`),
	toml("syslog too long", "[service.web]\n\nsyslog = \"/"+strings.Repeat("s", 107)+"\"\n", 3, "service.web.syslog", "at most 107 bytes"),
	toml("input-mode without input", "[service.web]\ninput-mode = \"0622\"\n", 2, "service.web.input-mode: cannot be used without fifo or syslog"),
	{name: "fifo in the mount", files: map[string]string{"logfs.toml": "[service.web]\nfifo = \"/proc/self/cwd/m/web\"\n"}, args: daemonWith(),
		status: misuse, says: []string{"service.web.fifo: \"$D/m/web\" and mount", "overlap: want a path outside"}},
	{name: "syslog below a file", files: map[string]string{"logfs.toml": "[service.web]\nsyslog = \"/dev/null/log\"\n"}, args: daemonWith(),
		status: refused, says: []string{`cannot use syslog "/dev/null/log" of service "web"`, "not a directory"}},
	toml("wrong type", "[service.web]\nmarks = \"no\"\n", 2, `service.web.marks: cannot use "no": want true or false`),

	{name: "mount point missing", args: daemonWith("--mount", "$D/none"), status: misuse, says: []string{`mount point "$D/none" does not exist`, "want an empty directory"}},
	{name: "mount point a file", args: daemonWith("--mount", "$D/file"), status: misuse, says: []string{`"$D/file" is no directory`, "want an empty directory"}},
	{name: "mount point not empty", args: daemonWith("--mount", "$D/full"), status: misuse, says: []string{`"$D/full" is not empty`}},
	{name: "store in the mount", args: daemonWith("--store", "$D/m/store"), status: misuse, says: []string{"$D/m/store", "overlap"}},
	{name: "mount in the store", args: daemonWith("--store", "$D"), status: misuse, says: []string{"$D/m", "overlap"}},
	{name: "socket in the mount", args: daemonWith("--socket", "$D/m/sock"), status: misuse, says: []string{"$D/m/sock", "overlap"}},
	{name: "store below a file", args: daemonWith("--store", "$D/file/store"), status: refused, says: []string{"$D/file", "not a directory"}},
	{name: "socket below a file", args: daemonWith("--socket", "$D/file/sock"), status: refused, says: []string{"$D/file", "not a directory"}},
	{name: "socket name too long", args: daemonWith("--socket", "$D/"+strings.Repeat("s", 108)), status: misuse, says: []string{"sss", "too long", "107"}},

	{name: "rotate without daemon", args: []string{"rotate", "--socket", "$D/none"}, status: refused, says: []string{`no daemon listens on "$D/none"`}},
	{name: "status without daemon", args: []string{"status", "--socket", "$D/none"}, status: refused, says: []string{`no daemon listens on "$D/none"`}},
	{name: "run without daemon", args: []string{"run", "--socket", "$D/none", "web", "--", "true"}, status: refused, says: []string{`no daemon listens on "$D/none"`}},
	{name: "pipe without daemon", args: []string{"pipe", "--socket", "$D/none", "web"}, status: refused, says: []string{`no daemon listens on "$D/none"`}},
	{name: "stale socket", args: []string{"flush", "--socket", "$D/stale"}, status: refused, says: []string{`no daemon listens on "$D/stale"`}},
	{name: "socket a file", args: []string{"flush", "--socket", "$D/file"}, status: refused, says: []string{`no daemon listens on "$D/file"`}},
	{name: "unmount of no mount", args: []string{"unmount", "$D/m"}, status: misuse, says: []string{`nothing to unmount on "$D/m"`}},
	{name: "unmount of nothing", args: []string{"unmount"}, status: misuse, says: []string{"want logfs unmount DIR"}},

	{name: "no Procfile", args: []string{"up", "-f", "$D/none", "--mount", "$D/m", "--store", "$D/store"}, status: misuse, says: []string{"$D/none: cannot read", "no such file"}},
	procfile("Procfile without colon", "web: true\n\njust words\n", "$D/Procfile:3: ", `"just words"`, "want NAME: COMMAND"),
	procfile("Procfile bad name", "we/b: true\n", "$D/Procfile:1: ", `"we/b"`, wantName),
	procfile("Procfile twice", "web: true\ndb: true\nweb: false\n", "$D/Procfile:3: ", "already defined at line 1"),
	procfile("Procfile without command", "web:\n", "$D/Procfile:1: ", "web", "want a command line"),
	procfile("Procfile empty", "# nothing\n", "$D/Procfile: no services: want lines NAME: COMMAND"),
}

func TestMistakes(t *testing.T) {
	for _, m := range mistakes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			dir := mistakeDir(t, m.files)
			m.try(t, dir)
			if left := mountsUnder(dir); len(left) != 0 {
				t.Errorf("mounts left: %q", left)
			}
		})
	}
}

// mistakeDir makes the directory of a case.
func mistakeDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := newDaemon(t, "[service.web]\n").dir
	must(t, os.MkdirAll(filepath.Join(dir, "full", "of"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o644))
	for name, text := range files {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "stale"), Net: "unix"})
	must(t, err)
	stale.SetUnlinkOnClose(false)
	stale.Close()
	return dir
}

// try makes the mistake and judges what is said.
func (m mistake) try(t *testing.T, dir string) {
	t.Helper()
	fill := func(s string) string { return strings.ReplaceAll(s, "$D", dir) }
	var args []string
	for _, a := range m.args {
		args = append(args, fill(a))
	}
	res := runLogfs(t, []string{"LOGFS_SOCKET="}, dir, args...)
	line, rest, whole := strings.Cut(res.stderr, "\n")
	if res.status != m.status || res.stdout != "" {
		t.Errorf("status %d, want %d; standard output %q", res.status, m.status, res.stdout)
	}
	if !whole || rest != "" || !strings.HasPrefix(line, "logfs: ") {
		t.Errorf("standard error is not one line that begins with \"logfs: \": %q", res.stderr)
	}
	for _, text := range m.says {
		if !strings.Contains(line, fill(text)) {
			t.Errorf("%q does not say %q", line, fill(text))
		}
	}
}

// What goes wrong only because a daemon runs.
func TestMistakesBesideDaemon(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, smallRing)
	must(t, os.MkdirAll(filepath.Join(d.dir, "other"), 0o755))
	for _, m := range []mistake{
		{name: "second daemon on the store", status: refused, says: []string{`store "$D/store" is in use by another daemon`},
			args: []string{"daemon", "--config", d.conf, "--mount", "$D/other", "--store", "$D/store", "--socket", "$D/sock2"}},
		{name: "second daemon on the socket", status: refused, says: []string{`control socket "$D/sock" is in use`},
			args: []string{"daemon", "--config", d.conf, "--mount", "$D/other", "--store", "$D/store2", "--socket", "$D/sock"}},
		{name: "second daemon on the mount", status: refused, says: []string{`mount point "$D/m" is in use`},
			args: []string{"daemon", "--config", d.conf, "--mount", "$D/m", "--store", "$D/store2", "--socket", "$D/sock2"}},
		{name: "rotate of an unknown service", status: misuse, says: []string{`no service "nosuch"`},
			args: []string{"rotate", "--socket", "$D/sock", "web", "nosuch"}},
		{name: "flush of an unknown service", status: misuse, says: []string{`no service "nosuch"`},
			args: []string{"flush", "--socket", "$D/sock", "nosuch"}},
		{name: "bad name to a daemon", status: misuse, says: []string{`"a/b"`, wantName},
			args: []string{"run", "--socket", "$D/sock", "a/b", "--", "true"}},
		{name: "command not found", status: refused, says: []string{`cannot start "/no/such/command": no such file`},
			args: []string{"run", "--socket", "$D/sock", "web", "--", "/no/such/command"}},
	} {
		t.Run(m.name, func(t *testing.T) { m.try(t, d.dir) })
	}
	d.feed("web").upTo(3) // none of it did any harm
}

// Two services of one name cannot run at once.
func TestRunTwice(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, smallRing)
	f := d.feed("web")
	f.upTo(3)
	res := d.logfs("run", "web", "--", "true")
	if res.status != misuse || !strings.Contains(res.stderr, "web") {
		t.Errorf("a second run of web ended with %d: %s", res.status, res.stderr)
	}
	f.upTo(5)
}
