package integration

import (
	"archive/tar"
	"crypto/md5"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// A reader is a client that reads current to its end. It is run once on a
// quiet service, where its output is known, and several times while the
// service floods a ring of 32 KiB, where its output must be one state of it.
type reader struct {
	name  string
	tools []string
	sh    string
	shows func(old string) string // nil: current as it is
	// state turns what the client has left into the lines it has read, nil if
	// that is its output; it may check the output itself and return "".
	state func(t *testing.T, d *daemon, out string) string
	// remarks is what the client may say, with status 1, about a file that
	// grows while it reads.
	remarks string
}

func fromScratch(t *testing.T, d *daemon, _ string) string { return scratch(t, d, "copy") }

var readers = []reader{
	{name: "cat", sh: `exec cat "$F"`},
	{name: "head", sh: `exec head -n 5 "$F"`, shows: firstLines(5)},
	{name: "tail -n 5", sh: `exec tail -n 5 "$F"`, shows: func(s string) string { return lastLines(5)(s, "") }},
	{name: "tail -n +3", sh: `exec tail -n +3 "$F"`, shows: func(s string) string { return cutLines(s, 2) }},
	{name: "tail -c 300", sh: `exec tail -c 300 "$F" | tail -n +2`, shows: wholeLinesOf(300)},
	{name: "grep", sh: `exec grep n= "$F"`, shows: func(s string) string { return onlyNumbered(s, "") }},
	{name: "grep -c", sh: `exec grep -c "" "$F"`, shows: countLines, state: aNumber},
	{name: "sed", sh: `exec sed -n p "$F"`},
	{name: "gawk", tools: []string{"gawk"}, sh: `exec gawk '{ print }' "$F"`},
	{name: "mawk", tools: []string{"mawk"}, sh: `exec mawk '{ print }' "$F"`},
	{name: "cut", sh: `exec cut -c 1- "$F"`},
	{name: "tac", sh: `exec tac "$F"`, shows: reversed, state: unreversed},
	{name: "sort", sh: `exec sort "$F"`, shows: sorted},
	{name: "wc", sh: `wc "$F" | { read -r l w c f; echo $l $c; }`, shows: countBoth, state: countsOfLines},
	{name: "md5sum", sh: `exec md5sum <"$F"`, shows: digest, state: aDigest},
	{name: "dd", sh: `exec dd if="$F" bs=1000 status=none`},
	{name: "less", tools: []string{"less"}, sh: `exec less "$F"`},
	{name: "while read dash", tools: []string{"dash"}, sh: `exec dash "$C/lines.sh" <"$F"`},
	{name: "while read bash", tools: []string{"bash"}, sh: `exec bash "$C/lines.sh" <"$F"`},
	{name: "python", tools: []string{"python3"}, sh: `exec python3 "$C/readline.py" "$F"`},
	{name: "perl", tools: []string{"perl"}, sh: `exec perl -ne print "$F"`},
	{name: "node", tools: []string{"node"}, sh: `exec node "$C/stream.js" "$F"`},
	{name: "rg", tools: []string{"rg"}, sh: `exec rg --no-line-number n= "$F"`, shows: func(s string) string { return onlyNumbered(s, "") }},
	{name: "busybox cat", tools: []string{"busybox"}, sh: `exec busybox cat "$F"`},
	{name: "busybox grep", tools: []string{"busybox"}, sh: `exec busybox grep n= "$F"`, shows: func(s string) string { return onlyNumbered(s, "") }},
	{name: "busybox tail", tools: []string{"busybox"}, sh: `exec busybox tail -n 5 "$F"`, shows: func(s string) string { return lastLines(5)(s, "") }},
	{name: "cp", sh: `exec cp "$F" "$W/copy"`, shows: empty, state: fromScratch},
	{name: "cp -r", sh: `exec cp -r "$F" "$W/copy"`, shows: empty, state: fromScratch},
	{name: "rsync -a", tools: []string{"rsync"}, sh: `exec rsync -a "$F" "$W/copy"`, shows: empty, state: fromScratch},
	{name: "tar", sh: `exec tar -cf - -C "$M/web" current`, state: untar,
		remarks: "tar: current: file changed as we read it\n"},
}

func (c reader) run(t *testing.T, flood bool) {
	d := startDaemon(t, smallRing)
	f := d.feed("web")
	if !flood {
		f.upTo(20)
		c.quiet(t, d, d.read("web", "current"))
		return
	}
	f.upTo(400)
	stop := f.flood()
	for range 5 {
		out := c.output(t, d)
		if c.state != nil {
			out = c.state(t, d, out)
		}
		checkSnapshot(t, c.name, out)
	}
	stop()
}

func (c reader) quiet(t *testing.T, d *daemon, old string) {
	got, want := c.output(t, d), old
	if c.shows != nil {
		want = c.shows(old)
	}
	if c.state != nil && (c.shows == nil || want == "") {
		got, want = c.state(t, d, got), old
	}
	if got != want {
		t.Errorf("output differs: %s", difference(got, want))
	}
}

// output runs the client to its end and returns what it printed.
func (c reader) output(t *testing.T, d *daemon) string {
	p := d.shell(t, setting{}, c.sh, "F="+d.path("web", "current"))
	code, remarks := p.wait(), p.stderr.String()
	if (code != 0 || remarks != "") && (code != 1 || remarks == "" || remarks != c.remarks) {
		t.Fatalf("ended with %v\n%s", p.cmd.ProcessState, p.said())
	}
	return p.output()
}

// flood writes numbered lines, some megabytes a second, until it is stopped.
// Nobody waits for them.
func (f *feed) flood() (stop func()) {
	quit, done := make(chan struct{}), make(chan error, 1)
	go func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				done <- nil
				return
			case <-tick.C:
			}
			if _, err := f.w.WriteString(numberedRun(f.n+1, f.n+60)); err != nil {
				done <- err
				return
			}
			f.n += 60
		}
	}()
	return func() {
		f.d.t.Helper()
		close(quit)
		must(f.d.t, <-done)
	}
}

func firstLines(n int) func(string) string {
	return func(s string) string { return strings.TrimSuffix(s, cutLines(s, n)) }
}

// cutLines is s without its first n lines.
func cutLines(s string, n int) string {
	for range n {
		_, s, _ = strings.Cut(s, "\n")
	}
	return s
}

func wholeLinesOf(n int) func(string) string {
	return func(s string) string { return cutLines(s[len(s)-n:], 1) }
}

func empty(string) string { return "" }

func countLines(s string) string { return fmt.Sprintln(strings.Count(s, "\n")) }

func countBoth(s string) string { return fmt.Sprintln(strings.Count(s, "\n"), len(s)) }

func digest(s string) string { return fmt.Sprintf("%x  -\n", md5.Sum([]byte(s))) }

func reversed(s string) string {
	lines := strings.SplitAfter(s, "\n")
	slices.Reverse(lines)
	return strings.Join(lines, "")
}

func unreversed(_ *testing.T, _ *daemon, out string) string { return reversed(out) }

func sorted(s string) string {
	lines := strings.SplitAfter(s, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "")
}

func aNumber(t *testing.T, _ *daemon, out string) string {
	var n int
	if _, err := fmt.Sscanln(out, &n); err != nil || n < 50 || n > 400 {
		t.Errorf("counted %q lines in a ring of 32 KiB", out)
	}
	return ""
}

func aDigest(t *testing.T, _ *daemon, out string) string {
	if !regexp.MustCompile(`^[0-9a-f]{32}  -\n$`).MatchString(out) {
		t.Errorf("digest %q", out)
	}
	return ""
}

// countsOfLines checks that so many lines have so many bytes somewhere in the
// sequence of numbered lines.
func countsOfLines(t *testing.T, _ *daemon, out string) string {
	var lines, bytes int
	if _, err := fmt.Sscan(out, &lines, &bytes); err != nil {
		t.Errorf("wc printed %q", out)
	}
	const period = 23
	for from := 1; from <= period; from++ {
		if lines > 50 && len(numberedRun(from, from+lines-1)) == bytes {
			return ""
		}
	}
	t.Errorf("wc counted %d bytes in %d lines: not whole lines in a row", bytes, lines)
	return ""
}

func untar(t *testing.T, _ *daemon, out string) string {
	r := tar.NewReader(strings.NewReader(out))
	h, err := r.Next()
	must(t, err)
	b, err := io.ReadAll(r)
	must(t, err)
	if int64(len(b)) != h.Size {
		t.Errorf("tar stored %d bytes of %d", len(b), h.Size)
	}
	return string(b)
}
