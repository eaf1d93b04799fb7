package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// documented returns the shell script of docs/night.md that begins with a line.
func documented(t *testing.T, begins string) string {
	t.Helper()
	text, err := os.ReadFile("../docs/night.md")
	must(t, err)
	m := regexp.MustCompile("(?s)```sh\n(" + regexp.QuoteMeta(begins) + ".*?)```").FindSubmatch(text)
	if m == nil {
		t.Fatalf("docs/night.md has no script that begins with %q", begins)
	}
	return string(m[1])
}

// The script that copies records has each of them once, in every shell, though it
// is killed at random moments, alone or with what it runs, the daemon is killed and
// ended, files are rotated all the time, and archives compressed.
func TestResumeInPlainShell(t *testing.T) {
	kills, restarts := 21, 4
	if long {
		kills, restarts = 200, 20
	}
	shells := [][]string{{"dash"}, {"bash"}, {"busybox", "sh"}}
	needTools(t, "dash", "bash", "busybox", "flock")
	d := newDaemon(t, "[defaults]\nring-lines = 200\nring-bytes = \"64KiB\"\nkeep = 100000\ncompress = \"zstd\"\n[service.web]\n")
	d.expectLog("stale mount|not closed cleanly|torn")
	d.start()
	copyRecords := filepath.Join(d.dir, "copy")
	must(t, os.WriteFile(copyRecords, []byte(documented(t, "#!/bin/sh\n# copy ")), 0o755))
	self, err := os.Executable()
	must(t, err)
	service := startClient(t, setting{env: []string{"LOGFS_SOCKET=" + d.sock}},
		logfsBin, "run", "web", "--", "env", "LOGFS_TEST_HELPER=emit", self, "1000000000", "5000", "/dev/null")
	d.awaitState("web", "running")
	rotated := d.rotating(3)
	copies := make([]*process, len(shells))
	file := func(i int) string { return filepath.Join(d.dir, shells[i][0]) }
	start := func(i int) {
		argv := append(shells[i][1:], copyRecords, d.path("web"), file(i))
		copies[i] = startClient(t, setting{}, shells[i][0], argv...)
	}
	for i := range shells {
		start(i)
	}
	random := uint64(time.Now().UnixNano())
	t.Logf("random moments from %d", random)
	for n := range kills {
		random = random*6364136223846793005 + 1442695040888963407
		time.Sleep(time.Duration(random>>40%100) * time.Millisecond)
		i := n % len(shells)
		whom := copies[i].pid()
		if n%2 == 0 {
			whom = -whom
		}
		must(t, syscall.Kill(whom, syscall.SIGKILL))
		start(i)
		if n%(kills/restarts) == 0 {
			if n%2 == 0 {
				d.kill()
			} else {
				d.stop()
			}
			d.start()
		}
	}
	service.end(syscall.SIGTERM)
	rotated()
	d.awaitEnds("web", 1)
	want := d.read("web", "since/start/seq")
	for i := range shells {
		var got []byte
		eventually(t, func() string { return shells[i][0] + " to have as many records" }, func() bool {
			got, err = os.ReadFile(file(i))
			return err == nil && len(got) >= len(want)
		})
		if string(got) != want {
			t.Errorf("%s: %s", shells[i][0], difference(string(got), want))
		}
	}
	lines := checkNumbers(t, want)
	t.Logf("%d kills of the script, %d restarts of the daemon, %d archives, %d lines: none lost, none repeated",
		kills, restarts, len(logdirFiles(t, d.logdir("web"))), lines)
}

// The line that ships records to another program sends each at least once, and the
// other side can tell which it has, though all of it is killed at random moments.
func TestShipInPlainShell(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, "[service.web]\n")
	d.do(`mkdir there && echo 1 >n`)
	f := d.feed("web")
	ship := `dir=m/web; ship() { cat >part && mv part there/$(ls there | wc -l); }; ` + documented(t, "while n=")
	for n := range 20 {
		f.upTo(10 * (n + 1))
		p := startClient(t, setting{dir: d.dir}, "sh", "-c", ship)
		if n%5 == 0 {
			p.wait() // it ends when there is no more
			continue
		}
		time.Sleep(time.Duration(n) * time.Millisecond)
		p.kill()
	}
	d.do(ship)
	got := d.do("for i in $(ls there | sort -n); do cat there/$i; done | " + documented(t, "awk -F,"))
	if want := d.read("web", "seq"); got != want {
		t.Error(difference(got, want))
	}
	if pieces, _ := strconv.Atoi(strings.TrimSpace(d.do("ls there | wc -l"))); pieces < 2 {
		t.Errorf("%d pieces were shipped, want some", pieces)
	}
}

// checkNumbers fails the test unless the records are all that a run of numbered lines
// has, each once, in order, and returns how many lines that were.
func checkNumbers(t *testing.T, records string) (lines int) {
	t.Helper()
	number := 0
	for record := range strings.Lines(records) {
		head, text, _ := strings.Cut(strings.TrimSuffix(record, "\n"), ";")
		f := strings.Split(head, ",")
		number++
		if f[3] != strconv.Itoa(number) || f[2] != "1" {
			t.Fatalf("record %d is %q", number, record)
		}
		if f[4] == "=" {
			continue
		}
		if lines++; text+"\n" != numberedRun(lines, lines) {
			t.Fatalf("line %d is %q", lines, text)
		}
	}
	return lines
}

// rotating has all files rotated so many times a second, until stop is called.
func (d *daemon) rotating(times int) (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for tick := time.NewTicker(time.Second / time.Duration(times)); ; {
			select {
			case <-tick.C:
				d.logfs("rotate") // with an error while there is no daemon
			case <-end:
				return
			}
		}
	}()
	return func() { close(end); <-ended }
}
