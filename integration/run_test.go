package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A signal to logfs run reaches the command, whose end becomes its own.
func TestRunPassesSignalsOn(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, smallRing)
	watch := d.watch("web", "follow")
	for _, tt := range []struct {
		name, script string
		sig          syscall.Signal
		status       int
		says         string
	}{
		{"TERM ends it", `echo ready; exec sleep 1000`, syscall.SIGTERM, 143, ""},
		{"INT ends it", `echo ready; exec sleep 1000`, syscall.SIGINT, 130, ""},
		{"TERM is caught", `trap 'echo caught; kill $p; exit 9' TERM; sleep 1000 & p=$!; echo ready; wait`,
			syscall.SIGTERM, 9, "caught\n"},
		{"HUP is caught", `trap 'echo caught; kill $p; exit 0' HUP; sleep 1000 & p=$!; echo ready; wait`,
			syscall.SIGHUP, 0, "caught\n"},
		{"USR1 is caught", `trap 'echo caught; kill $p; exit 3' USR1; sleep 1000 & p=$!; echo ready; wait`,
			syscall.SIGUSR1, 3, "caught\n"},
	} {
		p := startClient(t, setting{env: []string{"LOGFS_SOCKET=" + d.sock}},
			logfsBin, "run", "web", "--", "sh", "-c", tt.script)
		watch.await("ready\n")
		must(t, p.cmd.Process.Signal(tt.sig))
		if status := p.wait(); status != tt.status || p.output() != "" || p.stderr.String() != "" {
			t.Errorf("%s: status %d, want %d\n%s", tt.name, status, tt.status, p.said())
		}
		if tt.says != "" {
			watch.await(tt.says)
		}
		watch.await(" after ")
	}
}

// logfs run keeps standard input, directory and environment for the command.
func TestRunKeepsItsSurroundings(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, smallRing)
	dir, err := filepath.EvalSymlinks(d.dir)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "input"), []byte("from standard input\n"), 0o644))
	p := d.shell(t, setting{}, `exec "$B" run web -- sh -c 'cat; pwd; echo "$X"; printf "%s|" "$@"' sh a "b c" "" <input`,
		"B="+logfsBin, "X=a variable")
	if status := p.wait(); status != 0 {
		t.Fatalf("ended with %d\n%s", status, p.said())
	}
	equal(t, "stdout/current", d.read("web", "stdout", "current"),
		"from standard input\n"+dir+"\na variable\na|b c||")
}

// A service that nobody configured is there from its first run on.
func TestRunOfUnknownService(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, "")
	res := d.logfs("run", "job", "--", "echo", "hello")
	if res.status != 0 {
		t.Fatalf("ended with %d: %s", res.status, res.stderr)
	}
	equal(t, "stdout/current", d.read("job", "stdout", "current"), "hello\n")
	d.stop()
	d.start()
	equal(t, "stdout/current after a restart", d.read("job", "stdout", "current"), "hello\n")
}

// Many runs at once keep their lines whole and apart.
func TestManyServices(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, "")
	const services, lines = 12, 500
	var clients []*process
	for i := range services {
		clients = append(clients, startClient(t, setting{env: []string{"LOGFS_SOCKET=" + d.sock}},
			logfsBin, "run", fmt.Sprintf("job%d", i), "--", "seq", "-f", fmt.Sprintf("job %d line %%.0f", i), fmt.Sprint(lines)))
	}
	for i, p := range clients {
		if status := p.wait(); status != 0 {
			t.Fatalf("ended with %d\n%s", status, p.said())
		}
		var want strings.Builder
		for n := 1; n <= lines; n++ {
			fmt.Fprintf(&want, "job %d line %d\n", i, n)
		}
		equal(t, p.name(), d.read(fmt.Sprintf("job%d", i), "stdout", "current"), want.String())
	}
}

// logfs up runs the services of a Procfile and ends them with itself.
func TestUp(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	procfile := filepath.Join(d.dir, "Procfile")
	must(t, os.WriteFile(procfile, []byte(`# services
web: echo "web is here"; echo oops >&2; exec sleep 1000

job: echo "job done"; exit 0
`), 0o644))
	d.startWith("up", "-f", procfile, "--mount", d.mount, "--store", d.store)
	watch := d.watch("web", "follow")
	watch.await("here\n")
	job := d.watch("job", "follow")
	job.await("exited 0 after")
	equal(t, "stdout/current", d.read("job", "stdout", "current"), "job done\n")
	d.stop()
	if err := watch.awaitEnd(); err != nil {
		t.Errorf("a blocked reader got %v, want end of file", err)
	}
	found := strings.Join(readLogdir(t, d.logdir("web")), "\n")
	if !strings.Contains(found, " e oops") || !strings.Contains(found, "signal=TERM") {
		t.Errorf("the files of web:\n%s", found)
	}
}

// logfs up finds the Procfile of the working directory.
func TestUpWithoutFile(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	must(t, os.WriteFile(filepath.Join(d.dir, "Procfile"), []byte("web: echo hi; exec sleep 1000\n"), 0o644))
	d.startWith("up", "--mount", d.mount, "--store", d.store)
	d.watch("web", "follow").await("hi\n")
}

// With --mount, logfs run is its own daemon: the command can read itself, and
// nothing is left but the files.
func TestRunStandalone(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	res := runLogfs(t, nil, d.dir, "run", "--mount", d.mount, "--store", d.store, "web", "--",
		"sh", "-c", "echo hello; head -n 2 m/web/follow >seen; ls m >listing; exit 5")
	if res.status != 5 {
		t.Fatalf("ended with %d, want 5; standard error: %s", res.status, res.stderr)
	}
	lines := strings.Split(scratch(t, d, "seen"), "\n")
	if len(lines) != 3 || !startMark.MatchString(lines[0]) || lines[1] != "hello" {
		t.Errorf("the command saw %q of itself", lines)
	}
	if listing := scratch(t, d, "listing"); !strings.Contains(listing, "web\n") {
		t.Errorf("the mount listed %q", listing)
	}
	if m := mountsUnder(d.dir); len(m) != 0 {
		t.Errorf("mounts left: %q", m)
	}
	stored := readLogdir(t, d.logdir("web"))
	if len(stored) != 3 || storedText(stored[1]) != "hello" ||
		!strings.HasPrefix(storedText(stored[2]), "exit code=5 after=") {
		t.Errorf("the files hold %q", stored)
	}
}

// logfs pipe with --mount is a daemon for one service too, until its input
// ends.
func TestPipeStandalone(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	p := d.shell(t, setting{}, `printf 'one\ntwo\n' | "$B" pipe --mount "$M" --store store web`, "B="+logfsBin)
	if status := p.wait(); status != 0 {
		t.Fatalf("ended with %d\n%s", status, p.said())
	}
	stored := strings.Join(readLogdir(t, d.logdir("web")), "\n")
	if !strings.Contains(stored, " o one\n") || !strings.Contains(stored, " o two\n") {
		t.Errorf("the files hold:\n%s", stored)
	}
	if m := mountsUnder(d.dir); len(m) != 0 {
		t.Errorf("mounts left: %q", m)
	}
}

// An end of input in the middle of a burst loses nothing.
func TestPipeDrains(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, "[service.web]\nring-lines = 100000\nring-bytes = \"64MiB\"\n")
	p := d.shell(t, setting{}, `seq 50000 | "$B" pipe web`, "B="+logfsBin)
	if status := p.wait(); status != 0 || p.stderr.String() != "" {
		t.Fatalf("ended with %d\n%s", status, p.said())
	}
	var want strings.Builder
	for n := 1; n <= 50000; n++ {
		fmt.Fprintln(&want, n)
	}
	equal(t, "stdout/current", d.read("web", "stdout", "current"), want.String())
}
