package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// configure replaces the configuration, for the next start.
func (d *daemon) configure(conf string) {
	d.t.Helper()
	must(d.t, os.WriteFile(d.conf, []byte(conf), 0o644))
}

// session starts the daemon, says the numbered lines from one number to
// another, and ends it.
func (d *daemon) session(from, to int) {
	d.t.Helper()
	d.start()
	d.lines(from, to)
	d.stop()
}

func (d *daemon) lines(from, to int) {
	d.t.Helper()
	f := d.feed("web")
	f.n = from - 1
	f.upTo(to)
	f.close()
}

// mixedLogdir has an archive of each kind and some lines in current: 1 to 40
// in the .gz, to 80 in the .zst, to 120 in the plain one, and to 130.
func mixedLogdir(t *testing.T) (d *daemon, dir string) {
	d = newDaemon(t, "")
	dir = d.logdir("web")
	for i, form := range []struct{ name, suffix string }{{"gzip", ".s.gz"}, {"zstd", ".s.zst"}, {"none", ".s"}} {
		d.configure(fmt.Sprintf("[service.web]\ncompress = %q\n", form.name))
		d.start()
		d.lines(40*i+1, 40*i+40)
		if res := d.logfs("rotate"); res.status != 0 {
			t.Fatalf("rotate: %+v", res)
		}
		eventually(t, func() string { return "an archive " + form.suffix }, func() bool {
			found, _ := filepath.Glob(filepath.Join(dir, "@*"+form.suffix))
			return len(found) == 1
		})
		d.stop()
	}
	d.session(121, 130)
	d.verified(dir)
	return d, dir
}

// Whoever has the files needs no logfs to read them.
func TestToolsOnLogdir(t *testing.T) {
	t.Parallel()
	needTools(t, "tai64nlocal", "zgrep", "zcat", "zstdcat", "zstdgrep", "zstdless", "lnav")
	d, dir := mixedLogdir(t)
	run := func(script string) string {
		t.Helper()
		res := runCommand(t, []string{"TZ=UTC", "TERM=dumb", "LC_ALL=C.UTF-8", "HOME=" + d.dir}, dir, "/bin/bash", "-o", "pipefail", "-c", script)
		if res.status != 0 || res.stderr != "" {
			t.Errorf("%s: status %d, %s", script, res.status, res.stderr)
		}
		return res.stdout
	}
	plain := run("zcat @*.gz; zstdcat @*.zst; cat @*.s current")
	if stored := numbersIn(plain); !slices.Equal(stored, upTo(1, 130)) {
		t.Fatalf("the files hold the lines %v", stored)
	}
	for _, tt := range []struct {
		script   string
		from, to int
	}{
		{"cat @*.s current", 81, 130},
		{"zcat @*.gz", 1, 40},
		{"zstdcat @*.zst", 41, 80},
		{"grep -h n= @*.s current", 81, 130},
		{"zgrep -h n= @*.s current", 81, 130},
		{"zgrep -h n=000001 @*.gz", 10, 19},
		{"zstdgrep -h n= @*.zst", 41, 80},
		{"zstdless -F @*.zst | cat", 41, 80},
	} {
		if got := numbersIn(run(tt.script)); !slices.Equal(got, upTo(tt.from, tt.to)) {
			t.Errorf("%s: lines %v", tt.script, got)
		}
	}
	equal(t, "tai64nlocal", run("{ zcat @*.gz; zstdcat @*.zst; cat @*.s current; } | tai64nlocal"), localTimes(t, plain, "2006-01-02 15:04:05.000000000", 1))
	// lnav merges the files by time, of which it knows milliseconds: a header
	// can come before the line whose stamp it has.
	for _, files := range []string{"@*.gz @*.zst @*.s current", "."} {
		got := run("lnav -n " + files)
		equal(t, "lnav "+files, sorted(got), sorted(localTimes(t, plain, "2006-01-02 15:04:05.000000", time.Millisecond)))
		if order := shownNumbers(got); !slices.Equal(order, upTo(1, 130)) {
			t.Errorf("lnav %s shows the lines %v", files, order)
		}
	}
}

// upTo are the numbers from one to another.
func upTo(from, to int) (all []int) {
	for n := from; n <= to; n++ {
		all = append(all, n)
	}
	return all
}

// numbersIn are the numbers of the numbered lines in stored form.
func numbersIn(text string) (found []int) {
	for line := range strings.Lines(text) {
		if n := numberOf(storedText(strings.TrimSuffix(line, "\n"))); n > 0 {
			found = append(found, n)
		}
	}
	return found
}

// shownNumbers are the same of lines with times in place of stamps.
func shownNumbers(text string) (found []int) {
	for line := range strings.Lines(text) {
		_, line, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " o ")
		if n := numberOf(line); n > 0 {
			found = append(found, n)
		}
	}
	return found
}

// localTimes puts a time in place of each stamp, in UTC and whole units.
func localTimes(t *testing.T, text, layout string, unit time.Duration) string {
	return eachLine(func(line string) (string, bool) {
		var secs, nanos int64
		if _, err := fmt.Sscanf(line, "@4%15x%8x ", &secs, &nanos); err != nil {
			t.Fatalf("%q has no stamp: %v", line, err)
		}
		return time.Unix(secs-10, nanos).UTC().Truncate(unit).Format(layout) + line[25:], true
	})(text, "")
}

// otherLoggers take over a logdir: files of 4 KiB, all of them kept.
var otherLoggers = []struct {
	name, config string
	args         []string
}{
	{"multilog", "", []string{"t", "s4096", "n1000"}},
	{"svlogd", "s4096\nn1000\n", []string{"-tt"}},
	{"s6-log", "", []string{"t", "s4096", "n1000"}},
}

// Another logger takes a logdir over, goes on in its current, rotates, and
// gives it back. Nobody's lines are lost, ours keep their numbers, and
// retention takes the oldest files, whoever wrote them.
func TestOtherLoggersTakeOver(t *testing.T) {
	t.Parallel()
	for _, l := range otherLoggers {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			needTools(t, l.name)
			d := newDaemon(t, "[service.web]\nsize = \"4KiB\"\nkeep = 1000\n")
			dir := d.logdir("web")
			d.session(1, 80)
			before := seqOf(d)
			if l.config != "" {
				must(t, os.WriteFile(filepath.Join(dir, "config"), []byte(l.config), 0o644))
			}
			var theirs strings.Builder
			for n := range 200 {
				fmt.Fprintf(&theirs, "theirs %d %s\n", n, filler)
			}
			other := exec.Command(lookTool(l.name), append(l.args, dir)...)
			other.Stdin = strings.NewReader(theirs.String())
			if out, err := other.CombinedOutput(); err != nil || len(out) > 0 {
				t.Fatalf("%s: %v: %s", l.name, err, out)
			}
			files := len(logdirFiles(t, dir))
			d.session(81, 160)
			d.verified(dir)
			if now := len(logdirFiles(t, dir)); now <= files {
				t.Errorf("%d files, want more than the %d before", now, files)
			}
			checkTakenOver(t, dir, theirs.String())
			after := seqOf(d)
			for i, r := range before {
				if after[i] != r {
					t.Fatalf("record %d was %+v, is %+v", i, r, after[i])
				}
			}
			if n := slices.IndexFunc(after, func(r seqRec) bool { return r.text == numbered(160) }); n < 0 {
				t.Error("the new lines are not shown")
			}

			all := logdirFiles(t, dir)
			d.configure("[service.web]\nsize = \"4KiB\"\nkeep = 4\n")
			d.session(161, 162)
			if kept, want := logdirFiles(t, dir), all[len(all)-5:]; !slices.Equal(kept, want) {
				t.Errorf("kept\n%q, want\n%q", kept, want)
			}
			d.verified(dir)
		})
	}
}

// seqOf is what a daemon shows of the service.
func seqOf(d *daemon) []seqRec {
	d.t.Helper()
	d.start()
	recs := parseSeq(d.t, d.read("web", "seq"))
	d.stop()
	return recs
}

// checkTakenOver wants lines 1 to 80 of ours, then all of theirs, then 81 to
// 160, in the files in the order of their names.
func checkTakenOver(t *testing.T, dir, theirs string) {
	t.Helper()
	var ours, others strings.Builder
	for _, path := range logdirFiles(t, dir) {
		b, err := os.ReadFile(path)
		must(t, err)
		for line := range strings.Lines(string(b)) {
			_, text, ok := strings.Cut(line, " theirs ")
			if !ok {
				ours.WriteString(line)
				continue
			}
			others.WriteString("theirs " + text)
			if n := len(numbersIn(ours.String())); n != 80 {
				t.Fatalf("%s: %q after %d lines of ours, want 80", path, line, n)
			}
		}
	}
	if n := numbersIn(ours.String()); !slices.Equal(n, upTo(1, 160)) {
		t.Errorf("of ours there are the lines %v", n)
	}
	equal(t, "lines of theirs", others.String(), theirs)
}
