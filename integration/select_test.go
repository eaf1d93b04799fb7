package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inArchives is a service whose lines are in archives, half of them compressed.
const inArchives = `[service.web]
size = %q
keep = 1000
ring-lines = 200
marks = false
compress = "zstd"
`

// past gives web lines in two runs: those of the first are compressed.
func past(t testing.TB, size string, lines int) *daemon {
	conf := fmt.Sprintf(inArchives, size)
	d := newDaemon(t, conf)
	d.start()
	f := d.feed("web")
	f.write(numberedRun(1, lines/2))
	f.close()
	d.watch("web", "run", "1", "follow").awaitEnd()
	eventually(t, func() string { return "compressed archives" }, func() bool {
		plain, _ := filepath.Glob(filepath.Join(d.store, "web", "@*.s"))
		return len(plain) == 0
	})
	d.stop()
	must(t, os.WriteFile(d.conf, []byte(strings.Replace(conf, "zstd", "none", 1)), 0o644))
	d.start()
	f = d.feed("web")
	f.write(numberedRun(lines/2+1, lines))
	f.close()
	d.watch("web", "run", "2", "follow").awaitEnd()
	return d
}

// onDisk is the text of the lines in the files.
func (d *daemon) onDisk(name string) string {
	files, err := filepath.Glob(filepath.Join(d.store, name, "@*"))
	must(d.t, err)
	sort.Strings(files)
	var text strings.Builder
	for _, f := range append(files, filepath.Join(d.store, name, "current")) {
		cat := "cat"
		if strings.HasSuffix(f, ".zst") {
			cat = "zstdcat"
		}
		b, err := exec.Command(cat, f).Output()
		must(d.t, err)
		for line := range strings.Lines(string(b)) {
			if _, said, ok := strings.Cut(line, " o "); ok {
				text.WriteString(said)
			}
		}
	}
	return text.String()
}

// Every tool that reads a file reads the whole history as it is on disk: from
// the front, from the back, and at any place.
func TestHistoryIsOneFile(t *testing.T) {
	needTools(t, "zstdcat", "busybox")
	d := past(t, "64KiB", 20_000)
	want := d.onDisk("web")
	reversed := strings.Split(strings.TrimSuffix(want, "\n"), "\n")
	last20 := strings.Join(reversed[len(reversed)-20:], "\n") + "\n"
	for i, j := 0, len(reversed)-1; i < j; i, j = i+1, j-1 {
		reversed[i], reversed[j] = reversed[j], reversed[i]
	}
	middle := len(want) / 2
	for script, want := range map[string]string{
		`cat "$F"`:                           want,
		`cp "$F" "$D/copy" && cat "$D/copy"`: want,
		`tail -n 20 "$F"`:                    last20,
		`busybox tail -n 20 "$F"`:            last20,
		`tail -c 1000000 "$F"`:               want[len(want)-1_000_000:],
		`tail -n +1 "$F"`:                    want,
		`tac "$F"`:                           strings.Join(reversed, "\n") + "\n",
		`wc -c <"$F"`:                        fmt.Sprintln(len(want)),
		`busybox wc -lc <"$F" | tr -s " "`:   fmt.Sprintf(" 20000 %d\n", len(want)),
		`stat -c %s "$F"`:                    fmt.Sprintln(len(want)),
		`grep -c n=00 "$F"`:                  "20000\n",
		`head -c 5000 "$F"`:                  want[:5000],
		`dd if="$F" bs=1 count=100 status=none skip=` + strconv.Itoa(middle): want[middle : middle+100],
		`sort -c "$F" && echo sorted`:                                        "sorted\n",
	} {
		p := d.shell(t, setting{}, script, "F="+d.path("web", "since", "start", "current"), "D="+d.dir)
		if status := p.wait(); status != 0 || p.output() != want {
			t.Errorf("%s ended with %d: %s\n%s", script, status, p.stderr.String(), difference(p.output(), want))
		}
	}
	if !strings.HasPrefix(want, d.read("web", "run", "1", "current")) || !strings.HasSuffix(want, d.read("web", "run", "prev", "..", "2", "current")) {
		t.Error("the runs are not the parts of it")
	}
	d.stop()
}

// less goes to the end of the history and back, and finds what is in the middle.
func TestLessInTheHistory(t *testing.T) {
	needTools(t, "less", "tmux", "zstdcat")
	d := past(t, "64KiB", 20_000)
	s := d.terminal(t, "exec less "+d.path("web", "since", "start", "current"))
	s.shows(numbered(1))
	s.keys("G")
	s.shows(numbered(20_000))
	s.keys("b")
	s.shows(numbered(19_985))
	s.keys("50p")
	s.shows(numbered(10_001))
	s.keys("g")
	s.shows(numbered(1))
	s.keys("/n=0005000", "Enter")
	s.shows(numbered(5000))
	s.keys("q")
	s.closes()
	d.stop()
}

// opened is the archives that the daemon opens while do is done.
func (d *daemon) opened(do func()) map[string]int {
	trace := filepath.Join(d.dir, "trace")
	cmd := exec.Command("strace", "-f", "-e", "trace=openat,open", "-o", trace, "-p", strconv.Itoa(d.pid()))
	var said logBuffer
	cmd.Stderr = &said
	must(d.t, cmd.Start())
	eventually(d.t, func() string { return "strace" }, func() bool { return strings.Contains(said.String(), "attached") })
	do()
	must(d.t, cmd.Process.Signal(unix.SIGINT))
	_ = cmd.Wait()
	b, err := os.ReadFile(trace)
	must(d.t, err)
	files := map[string]int{}
	for line := range strings.Lines(string(b)) {
		if _, name, ok := strings.Cut(line, `"@`); ok {
			name, _, _ = strings.Cut(name, `"`)
			files[name]++
		}
	}
	return files
}

// The end of the history is read without the archives before it, once it is
// known how much is in those that are not compressed.
func TestTailOfTheHistoryOpensTheLastArchives(t *testing.T) {
	needTools(t, "strace", "zstdcat")
	d := past(t, "1MiB", 100_000)
	file := d.path("web", "since", "1h", "current")
	want := d.shell(t, setting{}, `tail -n 1000 "$F"`, "F="+file)
	want.wait()
	for script, most := range map[string]int{`tail -n 20 "$F"`: 2, `tail -n 1000 "$F"`: 3, `stat "$F"`: 1} {
		files := d.opened(func() { d.shell(t, setting{}, script, "F="+file).wait() })
		if len(files) > most {
			t.Errorf("%s opens %d archives, want at most %d: %v", script, len(files), most, files)
		}
	}
	d.stop()
}

// A readiness probe: it returns with the line, and fails when the process ends
// without it.
func TestReadinessProbe(t *testing.T) {
	d := startDaemon(t, "[service.web]\n[service.bad]\n")
	probe := `timeout 30 grep -qm1 'listening on' "$M/$S/run/now/follow"`
	for service, wants := range map[string]struct {
		status int
		script string
	}{
		"web": {0, `echo starting; until [ -e "$D/go" ]; do sleep 0.01; done; echo listening on 80; sleep 60`},
		"bad": {1, `echo starting; until [ -e "$D/go" ]; do sleep 0.01; done; exit 3`},
	} {
		s := startClient(t, setting{env: []string{"LOGFS_SOCKET=" + d.sock, "D=" + d.dir, "S=" + service}},
			logfsBin, "run", service, "--", "sh", "-c", wants.script)
		d.watch(service, "follow").await("starting\n")
		p := d.shell(t, setting{}, probe, "S="+service)
		d.awaitReaders(service, 1)
		must(t, os.WriteFile(filepath.Join(d.dir, "go"), nil, 0o666))
		if status := p.wait(); status != wants.status {
			t.Errorf("%s: the probe ended with %d, want %d: %s", service, status, wants.status, p.stderr.String())
		}
		must(t, os.Remove(filepath.Join(d.dir, "go")))
		s.kill()
	}
	d.stop()
}

// What a run said can be read when it is over: all of it, and nothing else.
func TestRunsAreTold(t *testing.T) {
	d := startDaemon(t, "[service.web]\nsize = \"4KiB\"\nkeep = 1000\nring-lines = 50\n")
	for run := 1; run <= 5; run++ {
		p := startClient(t, setting{env: []string{"LOGFS_SOCKET=" + d.sock}}, logfsBin, "run", "web", "--", "sh", "-c",
			fmt.Sprintf(`i=0; while [ $((i+=1)) -le 300 ]; do echo "run %d line $i"; done; echo oops >&2; exit %d`, run, run))
		p.wait()
		d.watch("web", "run", strconv.Itoa(run), "follow").awaitEnd()
	}
	for run := 1; run <= 5; run++ {
		text := d.read("web", "run", strconv.Itoa(run), "current")
		lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		if !strings.HasPrefix(lines[0], fmt.Sprintf("-- web run %d started ", run)) || len(lines) != 303 ||
			!strings.HasPrefix(lines[302], fmt.Sprintf("-- web run %d exited %d ", run, run)) {
			t.Errorf("run %d: %d lines from %q to %q", run, len(lines), lines[0], lines[len(lines)-1])
		}
		equal(t, "stderr", d.read("web", "stderr", "run", strconv.Itoa(run), "current"), "oops\n")
		st, err := os.Stat(d.path("web", "run", strconv.Itoa(run)))
		if must(t, err); st.Size() != int64(len(text)) || time.Since(st.ModTime()) > time.Minute {
			t.Errorf("run %d: %d bytes at %v, want %d", run, st.Size(), st.ModTime(), len(text))
		}
	}
	equal(t, "prev", d.read("web", "run", "prev", "current"), d.read("web", "run", "4", "current"))
	for _, script := range []string{`ls -lR "$M"`, `find -L "$M" -type f -size +0`, `du -a "$M"`, `grep -rc line "$M"`, `tar cf - "$M" | cat >/dev/null`} {
		if p := d.shell(t, setting{}, script); p.wait() > 1 || strings.Contains(p.stderr.String(), "rror") {
			t.Errorf("%s: %s", script, p.said())
		}
	}
	d.stop()
}

// A shell that stands in a directory of the past still does when the daemon is
// another one.
func TestShellInThePastOutlivesTheDaemon(t *testing.T) {
	for _, by := range takeovers {
		t.Run(by.name, func(t *testing.T) {
			d := startDaemon(t, "[service.web]\n"+keepAll+"\nring-lines = 100\n")
			f := d.feed("web")
			f.upTo(1000)
			p := d.shell(t, setting{}, `cd "$M/web/since/502/stdout" && exec 9<../../../run && echo there &&
				until [ -e "$W/go" ]; do sleep 0.05; done
				stat -c %i . ../seq; head -n 1 current; cd ../../../run/now/stderr && wc -c <current && cd /proc/self/fd/9 && ls`)
			p.awaitText("there\n")
			inodes := d.shell(t, setting{}, `stat -c %i "$M/web/since/502/stdout" "$M/web/since/502/seq"`)
			inodes.wait()
			by.run(d)
			must(t, os.WriteFile(filepath.Join(d.dir, "go"), nil, 0o666))
			want := "there\n" + inodes.output() + numbered(501) + "\n0\n1\nnow\n"
			if status := p.wait(); status != 0 || p.output() != want {
				t.Errorf("it ended with %d: %s\n%s", status, p.stderr.String(), difference(p.output(), want))
			}
			f.close()
			d.stop()
		})
	}
}
