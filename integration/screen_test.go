package integration

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A terminal is a window of tmux in which a program runs as a person sees it.
type terminal struct {
	t    *testing.T
	sock string
}

// terminal runs a shell command in a window of its own, 110 columns by 12.
func (d *daemon) terminal(t *testing.T, script string) *terminal {
	t.Helper()
	return newTerminal(t, filepath.Join(d.dir, "tmux"), script)
}

func newTerminal(t *testing.T, sock, script string) *terminal {
	t.Helper()
	term := &terminal{t: t, sock: sock}
	term.tmux("new-session", "-d", "-x", "110", "-y", "12",
		"-e", "LESSHISTFILE=-", "-e", "LESS=", script)
	t.Cleanup(func() { _, _ = term.try("kill-server") })
	return term
}

func (s *terminal) try(args ...string) (string, error) {
	args = append([]string{"-f", "/dev/null", "-S", s.sock}, args...)
	out, err := exec.Command("tmux", args...).CombinedOutput()
	return string(out), err
}

func (s *terminal) tmux(args ...string) string {
	s.t.Helper()
	out, err := s.try(args...)
	if err != nil {
		s.t.Fatalf("tmux %q: %v: %s", args, err, out)
	}
	return out
}

// keys types.
func (s *terminal) keys(keys ...string) {
	s.t.Helper()
	s.tmux(append([]string{"send-keys"}, keys...)...)
}

// shows waits until the window shows text; blanks at the end of a line cannot
// be seen.
func (s *terminal) shows(text string) {
	s.t.Helper()
	text = strings.TrimRight(text, " ")
	var screen string
	eventually(s.t, func() string { return "the window to show " + text + "; it shows:\n" + screen },
		func() bool {
			screen, _ = s.try("capture-pane", "-p")
			return strings.Contains(screen, text)
		})
}

// closes waits until the program has ended, and its window with it.
func (s *terminal) closes() {
	s.t.Helper()
	eventually(s.t, func() string { return "the program to end" }, func() bool {
		_, err := s.try("has-session")
		return err != nil
	})
}

// A screen is a case of a program that draws.
type screen struct {
	name string
	run  func(t *testing.T)
}

var screens = []screen{
	{"less follow quiet", func(t *testing.T) { lessBrowses(t, "follow") }},
	{"less current quiet", func(t *testing.T) { lessBrowses(t, "current") }},
	{"less +F follow quiet", func(t *testing.T) { lessFollows(t, "follow", scenes[1]) }},
	{"less +F follow wrapping", func(t *testing.T) { lessFollows(t, "follow", scenes[2]) }},
	{"less +F current quiet", func(t *testing.T) { lessFollows(t, "current", scenes[1]) }},
	{"less +F current wrapping", func(t *testing.T) { lessFollows(t, "current", scenes[2]) }},
}

// lessBrowses goes to the end and back, waits for more, interrupts that, goes
// back again, searches, and quits. The search comes last: from then on less
// looks ahead for more to highlight, and one ^C more ends that.
func lessBrowses(t *testing.T, file string) {
	d := startDaemon(t, smallRing)
	f := d.feed("web")
	f.upTo(60)
	s := d.terminal(t, "exec less "+d.path("web", file))
	s.shows(numbered(1))
	s.keys("G")
	s.shows(numbered(60))
	s.keys("g")
	s.shows(numbered(1))
	s.keys("F")
	f.upTo(61)
	s.shows(numbered(61))
	s.keys("C-c")
	s.shows("(END)")
	s.keys("g")
	s.shows(numbered(1))
	s.keys("/n=0000030", "Enter")
	s.shows(numbered(30))
	s.keys("q")
	s.closes()
}

// lessFollows starts at the end, sees what comes, and can look back at the
// rest of it.
func lessFollows(t *testing.T, file string, sc scene) {
	d := startDaemon(t, smallRing)
	f := d.feed("web")
	f.upTo(sc.old)
	s := d.terminal(t, "exec less +F "+d.path("web", file))
	s.shows(numbered(sc.old))
	for _, to := range sc.parts {
		f.upTo(to)
		s.shows(numbered(to))
	}
	s.keys("C-c")
	s.shows("(END)")
	s.keys("k")
	s.shows(numbered(sc.parts[len(sc.parts)-1] - 1))
	s.keys("q")
	s.closes()
}
