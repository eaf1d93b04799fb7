package integration

import (
	"regexp"
	"strings"
	"testing"
)

// says runs a shell command as the service web, to its end.
func (d *daemon) says(script string) {
	d.t.Helper()
	res := d.logfs("run", "web", "--", "sh", "-c", script)
	if res.status != 0 || res.stderr != "" {
		d.t.Fatalf("logfs run ended with %d: %s", res.status, res.stderr)
	}
}

// withoutMarks is text without the marks of runs.
func withoutMarks(text string) string {
	return eachLine(func(l string) (string, bool) { return l, !runMark.MatchString(l) })(text, "")
}

// What a service writes, and how each file shows it.
func TestBytes(t *testing.T) {
	const mib = 1 << 20
	for _, tt := range []struct {
		name, script    string
		current         string // without marks
		stdout, stderr  string
		orderIsOpen     bool // stdout and stderr have no order between them
		recordsOfStdout int
	}{
		{name: "streams apart", script: `echo one; echo two; echo bad >&2; echo worse >&2`,
			current: "one\ntwo\nbad\nworse\n", stdout: "one\ntwo\n", stderr: "bad\nworse\n",
			orderIsOpen: true, recordsOfStdout: 2},
		{name: "unfinished last line", script: `printf 'whole\nhalf'`,
			current: "whole\nhalf\n", stdout: "whole\nhalf", recordsOfStdout: 2},
		{name: "NUL", script: `printf 'a\000b\000\nc\n'`,
			current: "a\\x00b\\x00\nc\n", stdout: "a\x00b\x00\nc\n", recordsOfStdout: 2},
		{name: "bytes untouched", script: `printf '\ttab\r\n\033[31mred\033[0m\n\377\376\303\244\303\n\\x41\n'`,
			current:         "\ttab\r\n\x1b[31mred\x1b[0m\n\xff\xfe\u00e4\xc3\n\\x41\n",
			stdout:          "\ttab\r\n\x1b[31mred\x1b[0m\n\xff\xfe\u00e4\xc3\n\\x41\n",
			recordsOfStdout: 4},
		{name: "empty lines", script: `printf '\n\n\nx\n\n'`,
			current: "\n\n\nx\n\n", stdout: "\n\n\nx\n\n", recordsOfStdout: 5},
		{name: "line over the limit", script: `head -c 100000 /dev/zero | tr '\000' y; echo; echo after`,
			current:         strings.Repeat("y", 100000) + "\nafter\n",
			stdout:          strings.Repeat("y", 100000) + "\nafter\n",
			recordsOfStdout: 11},
		{name: "line of just the limit", script: `head -c 10000 /dev/zero | tr '\000' y; echo`,
			current: strings.Repeat("y", 10000) + "\n", stdout: strings.Repeat("y", 10000) + "\n",
			recordsOfStdout: 1},
		{name: "unfinished line over the limit", script: `head -c 25000 /dev/zero | tr '\000' y`,
			current: strings.Repeat("y", 25000) + "\n", stdout: strings.Repeat("y", 25000),
			recordsOfStdout: 3},
		{name: "a MiB without a newline", script: `head -c 1048576 /dev/zero | tr '\000' z; echo`,
			current: strings.Repeat("z", mib) + "\n", stdout: strings.Repeat("z", mib) + "\n",
			recordsOfStdout: 105},
		{name: "many empty lines", script: `yes '' | head -n 9000`,
			current: strings.Repeat("\n", 9000), stdout: strings.Repeat("\n", 9000),
			recordsOfStdout: 9000},
		{name: "no output", script: `true`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := startDaemon(t, "[service.web]\n")
			d.says(tt.script)
			current := withoutMarks(d.read("web", "current"))
			if tt.orderIsOpen {
				current, tt.current = sorted(current), sorted(tt.current)
			}
			equal(t, "current", current, tt.current)
			equal(t, "stdout/current", d.read("web", "stdout", "current"), tt.stdout)
			equal(t, "stderr/current", d.read("web", "stderr", "current"), tt.stderr)
			n := 0
			for _, r := range parseSeq(t, d.read("web", "stdout", "seq")) {
				if r.kind[0] == 'o' {
					n++
				}
			}
			if n != tt.recordsOfStdout {
				t.Errorf("stdout/seq has %d records, want %d", n, tt.recordsOfStdout)
			}
			watch := d.watch("web", "stdout", "follow")
			d.stop()
			if err := watch.awaitEnd(); err != nil {
				t.Errorf("stdout/follow ended with %v", err)
			}
			equal(t, "stdout/follow", string(watch.buf), tt.stdout)
		})
	}
}

func equal(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %s", what, difference(got, want))
	}
}

// The marks of a run stand where they belong, in the text and in seq.
func TestMarks(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, "[service.web]\n[service.mute]\nmarks = false\n")
	d.says("echo hello")
	res := d.logfs("run", "web", "--", "sh", "-c", "echo again; exit 4")
	if res.status != 4 {
		t.Errorf("logfs run ended with %d, want 4", res.status)
	}
	res = d.logfs("run", "web", "--", "sh", "-c", "kill -KILL $$")
	if res.status != 137 {
		t.Errorf("logfs run of a killed command ended with %d, want 137", res.status)
	}
	want := regexp.MustCompile(`^-- web run 1 started 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ pid \d+ --
hello
-- web run 1 exited 0 after \S+ --
-- web run 2 started \S+ pid \d+ --
again
-- web run 2 exited 4 after \S+ --
-- web run 3 started \S+ pid \d+ --
-- web run 3 \S.*KILL.* --
$`)
	if got := d.read("web", "current"); !want.MatchString(got) {
		t.Errorf("current:\n%s\nwant:\n%s", got, want)
	}
	kinds, texts := "", []string{}
	for _, r := range parseSeq(t, d.read("web", "seq")) {
		kinds += r.kind
		texts = append(texts, r.text)
	}
	if kinds != "=o==o===" {
		t.Errorf("kinds in seq: %q: %q", kinds, texts)
	}
	if !strings.HasPrefix(texts[5], "exit code=4 after=") {
		t.Errorf("the exit mark in seq is %q", texts[5])
	}
	res = d.logfs("run", "mute", "--", "echo", "hello")
	if got := d.read("mute", "current"); res.status != 0 || got != "hello\n" {
		t.Errorf("current without marks: %q, status %d", got, res.status)
	}
	if recs := parseSeq(t, d.read("mute", "seq")); len(recs) != 3 {
		t.Errorf("seq without marks in the text has %d records, want 3", len(recs))
	}
}

// Whatever a service writes, it is one record for each line and its text
// cannot be taken for anything else.
func TestForgery(t *testing.T) {
	t.Parallel()
	forged := []string{
		`@400000006b00928d1b55d9c8,web,42,18444,=;exit code=1 after=192s`,
		`@400000006b00928d1b55d9c8 = exit code=1 after=192s`,
		`@400000006b00928d1b55d9c8 o text`,
		`-- web run 42 exited 1 after 3m12s --`,
		`-- web lost 5 lines 1-5 --`,
		`@400000006b00928d1b55d9c8 = logfs format=1 service=web run=9 first=1`,
		"\x1b]0;title\a\x1b[2J",
		"a\rb\x0bc\x0cd\x85e",
		`back\slash \x0a \n`,
		"\u00e4\u6f22\U0001F600 \u202e\u0085",
		"\u009b31mred\u2028line\u2029 \u200f\u2066\u2069 \ufeff",
		"\xff\xfe\xc3",
		"\x00\x00",
		";;;,,,===",
	}
	d := startDaemon(t, "[service.web]\n")
	f := d.feed("web")
	f.write(strings.Join(forged, "\n") + "\n")
	f.say("the end")
	f.close()
	recs := parseSeq(t, d.read("web", "seq"))
	if len(recs) != len(forged)+3 {
		t.Fatalf("%d records for %d lines and two marks: %+v", len(recs), len(forged)+1, recs)
	}
	for i, line := range forged {
		r := recs[i+1]
		if r.kind != "o" || unescape(t, r.text) != line {
			t.Errorf("line %q became %+v", line, r)
		}
		for _, c := range r.text {
			if c < 0x20 || c >= 0x7f && c < 0xa0 {
				t.Errorf("a control character in %q", r.text)
			}
		}
	}
	// The text views do not judge: stdout is what was written, current shows NULs.
	said := strings.Join(forged, "\n") + "\nthe end\n"
	equal(t, "stdout/current", d.read("web", "stdout", "current"), said)
	if got := d.read("web", "current"); !strings.Contains(got, strings.ReplaceAll(said, "\x00", `\x00`)) {
		t.Errorf("current: %q", got)
	}
	d.stop()
	stored := readLogdir(t, d.logdir("web"))
	for i, line := range forged {
		if storedText(stored[i+1]) != line && !strings.Contains(line, "\n") {
			t.Errorf("line %q is %q in the files", line, stored[i+1])
		}
	}
}

var escaped = regexp.MustCompile(`\\x[0-9a-fA-F]{2}|\\`)

// unescape is the text of a record as the service wrote it.
func unescape(t *testing.T, text string) string {
	t.Helper()
	return escaped.ReplaceAllStringFunc(text, func(e string) string {
		if len(e) != 4 {
			t.Errorf("a lone backslash in %q", text)
			return e
		}
		return string([]byte{hexDigit(e[2])<<4 | hexDigit(e[3])})
	})
}

func hexDigit(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 10
	}
	if c >= 'A' {
		return c - 'A' + 10
	}
	return c - '0'
}
