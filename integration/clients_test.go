package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A wish says which part of what a reader is offered a client shows: old is
// what follow holds when the client starts, new what comes later.
type wish func(old, new string) string

func everything(old, new string) string { return old + new }
func onlyNew(_, new string) string      { return new }

func lastLines(n int) wish {
	return func(old, new string) string {
		lines := strings.SplitAfter(old, "\n")
		lines = lines[:len(lines)-1]
		return strings.Join(lines[max(0, len(lines)-n):], "") + new
	}
}

func lastBytes(n int) wish {
	return func(old, new string) string { return old[max(0, len(old)-n):] + new }
}

// eachLine shows every line that f keeps, as f returns it.
func eachLine(f func(line string) (string, bool)) wish {
	return func(old, new string) string {
		var b strings.Builder
		for line := range strings.Lines(old + new) {
			if shown, ok := f(strings.TrimSuffix(line, "\n")); ok {
				b.WriteString(shown + "\n")
			}
		}
		return b.String()
	}
}

var onlyNumbered = eachLine(func(l string) (string, bool) { return l, numberOf(l) > 0 })

var firstField = eachLine(func(l string) (string, bool) {
	field, _, _ := strings.Cut(l, " ")
	return field, true
})

var lineCount = func(old, new string) string {
	return fmt.Sprintln(strings.Count(old+new, "\n"))
}

// How a follower ends.
type ending int

const (
	byTERM     ending = iota // the test sends TERM once all has come
	bySelf                   // the client has seen enough
	byShutdown               // the daemon goes, the client sees end of file
)

// A follower is a client that waits for more. Its shell command names the
// file by $F, the daemon's directory by $M, a scratch directory by $W, and the
// number of lines in $F at the end of the test by $N, that of the last line by
// $L; testdata/clients is $C, this program $T.
type follower struct {
	name  string
	tools []string
	sh    string
	shows wish
	tty   bool   // standard output is a terminal
	mute  bool   // shows what it has read only at its end
	end   ending // how it ends
	file  string // "" is follow
	late  bool   // shows nothing of what comes between its start and its first look
	least int    // works only on so many lines
	exit  int    // its status unless ended by TERM
}

// A scene is what happens around a client: how many lines there are when it
// starts, and which parts come later.
type scene struct {
	name  string
	old   int
	parts []int // the last number of each part that comes later
}

// In the empty scene the service has not said a word when the client starts.
// In the wrapping scene the ring, of 32 KiB, has dropped lines when the client
// starts, and drops every line the client was offered first while it reads.
var scenes = []scene{
	{"empty", 0, []int{1, 2, 12}},
	{"quiet", 70, []int{71, 72, 75}},
	{"wrapping", 500, []int{580, 660, 740, 820}},
}

const smallRing = `
[defaults]
ring-bytes = "32KiB"
line-limit = 1000
[service.db]
[service.web]
`

func TestClients(t *testing.T) {
	for _, c := range followers {
		for _, s := range scenes {
			if s.old == 0 && c.late || s.old < c.least {
				continue
			}
			clientCase(t, "follow "+c.name+"/"+s.name, c.tools, func(t *testing.T) { c.run(t, s) })
		}
	}
	for _, c := range readers {
		for _, s := range []string{"quiet", "flood"} {
			clientCase(t, "current "+c.name+"/"+s, c.tools, func(t *testing.T) { c.run(t, s == "flood") })
		}
	}
	for _, c := range walkers {
		clientCase(t, "tree "+c.name, c.tools, c.run)
	}
	for _, c := range screens {
		clientCase(t, "screen "+c.name, []string{"tmux", "less"}, c.run)
	}
	clientCase(t, "follow tail two files", []string{"tail"}, tailTwoFiles)
}

// clientCase runs one case of the matrix and counts it.
func clientCase(t *testing.T, name string, tools []string, run func(t *testing.T)) {
	t.Run(name, func(t *testing.T) {
		needFUSE(t)
		for _, tool := range tools {
			if lookTool(tool) == "" {
				cases.add(tool + ": not installed")
				break
			}
		}
		needTools(t, tools...)
		t.Parallel()
		cases.add("")
		run(t)
	})
}

// shell starts a client given as a shell command, which it replaces.
func (d *daemon) shell(t testing.TB, s setting, script string, env ...string) *process {
	t.Helper()
	here, err := filepath.Abs("testdata/clients")
	must(t, err)
	self, err := os.Executable()
	must(t, err)
	s.env = append(s.env, "M="+d.mount, "W="+d.dir, "C="+here, "T="+self,
		"LC_ALL=C.UTF-8", "LOGFS_SOCKET="+d.sock)
	s.env = append(s.env, env...)
	s.dir = d.dir
	return startClient(t, s, "/bin/sh", "-c", script)
}

func (c follower) run(t *testing.T, s scene) {
	conf := smallRing
	if s.old == 0 || c.end == byShutdown { // no mark at the start, none at the end
		conf += "marks = false\n"
	}
	d := startDaemon(t, conf)
	f := d.feed("web")
	f.upTo(s.old)
	old, path := d.read("web", "current"), d.path("web", "follow")
	if c.file != "" {
		path = d.path("web", c.file)
	}
	first, last := checkSnapshot(t, "current", old)
	if last != s.old || (s.old > 100) != (first > 1) {
		t.Fatalf("before the client starts current holds lines %d-%d", first, last)
	}
	end := s.parts[len(s.parts)-1]
	total := strings.Count(old, "\n") + end - s.old
	p := d.shell(t, setting{tty: c.tty}, c.sh, "F="+path,
		fmt.Sprintf("N=%d", total), fmt.Sprintf("L=%07d", end))
	c.feed(p, f, s, path, old)
	c.finish(t, d, p)
	want := c.shows(old, numberedRun(s.old+1, end))
	if got := p.output(); got != want {
		t.Errorf("output differs: %s", difference(got, want))
	}
	if p.stderr.String() != "" {
		t.Errorf("on standard error: %s", &p.stderr)
	}
}

// feed lets the parts of the scene come, each after the client has taken what
// came before.
func (c follower) feed(p *process, f *feed, s scene, path, old string) {
	from := s.old
	for _, to := range s.parts {
		c.taken(p, path, old, numberedRun(s.old+1, from))
		f.upTo(to)
		from = to
	}
	if c.end != bySelf {
		c.taken(p, path, old, numberedRun(s.old+1, from))
	}
}

// taken waits until the client has taken old and new: by its output, or, as
// long as it has none to show, by its position in the file.
func (c follower) taken(p *process, path, old, new string) {
	want := len(c.shows(old, new))
	if c.mute || want == 0 || c.end == bySelf {
		p.awaitPos(path, len(old)+len(new))
		return
	}
	p.awaitBytes(want)
}

func (c follower) finish(t *testing.T, d *daemon, p *process) {
	switch c.end {
	case byTERM:
		p.end(syscall.SIGTERM)
		if code := p.cmd.ProcessState.ExitCode(); p.signalled() != syscall.SIGTERM && code != 128+15 {
			t.Errorf("ended with %v, want SIGTERM", p.cmd.ProcessState)
		}
		return
	case byShutdown:
		d.stop()
	}
	if code := p.wait(); code != c.exit {
		t.Errorf("ended with %v, want status %d\n%s", p.cmd.ProcessState, c.exit, p.said())
	}
}

// difference describes where two outputs part.
func difference(got, want string) string {
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	from := max(0, i-120)
	return fmt.Sprintf("%d bytes, want %d; alike up to byte %d\n got ...%q\nwant ...%q",
		len(got), len(want), i, got[from:min(len(got), i+200)], want[from:min(len(want), i+200)])
}

// tailTwoFiles follows two services with one tail, which shows whose lines
// they are.
func tailTwoFiles(t *testing.T) {
	d := startDaemon(t, smallRing)
	web, db := d.feed("web"), d.feed("db")
	web.say("web one")
	db.say("db one")
	p := d.shell(t, setting{}, `exec tail -s 0.1 -n 1 -f "$M/web/follow" "$M/db/follow"`)
	head := func(name string) string { return "==> " + d.path(name, "follow") + " <==\n" }
	want := head("web") + "web one\n\n" + head("db") + "db one\n"
	p.awaitBytes(len(want))
	for _, step := range []struct {
		f     *feed
		lines []string
		head  string
	}{
		{db, []string{"db two", "db three"}, ""},
		{web, []string{"web two"}, "\n" + head("web")},
		{db, []string{"db four"}, "\n" + head("db")},
	} {
		want += step.head
		for _, line := range step.lines {
			step.f.say(line)
			want += line + "\n"
		}
		p.awaitBytes(len(want))
	}
	p.end(syscall.SIGTERM)
	if got := p.output(); got != want {
		t.Errorf("output differs: %s", difference(got, want))
	}
}

// scratch reads a file a client wrote to its scratch directory.
func scratch(t testing.TB, d *daemon, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(d.dir, name))
	must(t, err)
	return string(b)
}
