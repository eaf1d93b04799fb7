package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A logger is a program that keeps what it reads from standard input in a
// directory of plain files, rotated by size.
type logger struct {
	name   string
	config string         // of the file config in the directory, if it reads one
	args   []string       // DIR and SIZE stand for those; none for logfs
	stamp  *regexp.Regexp // what it puts before a line
}

var tai64n = regexp.MustCompile(`^@[0-9a-f]{24} $`)

var loggers = []logger{
	{name: "logfs", stamp: regexp.MustCompile(`^@[0-9a-f]{24} o $`)},
	{name: "multilog", args: []string{"t", "sSIZE", "n100000", "DIR"}, stamp: tai64n},
	{name: "s6-log", args: []string{"t", "sSIZE", "n100000", "DIR"}, stamp: tai64n},
	{name: "svlogd", args: []string{"-tt", "DIR"}, config: "sSIZE\nn100000\n",
		stamp: regexp.MustCompile(`^[-\d]{10}_[:.\d]{14} $`)},
}

// A seat is where loggers run one after the other, as under a supervisor: the
// directory is theirs all, and the pipe outlives each of them.
//
// Of logfs it is the daemon that has the seat; logfs pipe brings the pipe.
type seat struct {
	t      testing.TB
	logger logger
	dir    string
	r, w   *os.File
	cmd    *exec.Cmd // the logger or the daemon
	exited chan struct{}
	stderr *logBuffer
	d      *daemon // nil if it is not logfs
	pipe   *exec.Cmd
	piped  chan struct{} // closed when pipe has ended
	said   int           // last line written to the pipe
	labels map[string]bool
	losses
}

func newSeat(t testing.TB, l logger, size int) *seat {
	t.Helper()
	s := &seat{t: t, logger: l, labels: map[string]bool{}}
	if l.args == nil {
		s.d = newDaemon(t, fmt.Sprintf("[service.web]\nsize = %d\nkeep = 100000\n", size))
		s.d.expectLog(".") // it is killed
		s.dir = s.d.logdir("web")
	} else {
		s.dir = t.TempDir()
		set := strings.NewReplacer("SIZE", fmt.Sprint(size), "DIR", s.dir)
		s.logger.args = []string{lookTool(l.name)}
		for _, arg := range l.args {
			s.logger.args = append(s.logger.args, set.Replace(arg))
		}
		if l.config != "" {
			must(t, os.WriteFile(filepath.Join(s.dir, "config"), []byte(set.Replace(l.config)), 0o644))
		}
	}
	var err error
	s.r, s.w, err = os.Pipe()
	must(t, err)
	t.Cleanup(s.abandon)
	return s
}

// abandon ends what a failed test has left.
func (s *seat) abandon() {
	s.w.Close()
	s.r.Close()
	if s.alive() && s.d == nil {
		_ = s.cmd.Process.Kill()
		<-s.exited
	}
	if s.pipe != nil {
		_ = s.pipe.Process.Kill()
		<-s.piped
	}
}

// start has a logger take the seat, run by the command tracer if there is one.
func (s *seat) start(tracer ...string) {
	s.t.Helper()
	if s.d != nil {
		s.d.launch(tracer, s.d.daemonArgs()...)
		s.cmd, s.exited, s.stderr = s.d.cmd, s.d.exited, s.d.log
		s.bringPipe()
		return
	}
	argv := append(tracer, s.logger.args...)
	s.cmd = exec.Command(argv[0], argv[1:]...)
	s.stderr = &logBuffer{}
	s.cmd.Stdin, s.cmd.Stderr = s.r, s.stderr
	must(s.t, s.cmd.Start())
	s.exited = ended(s.cmd)
}

// bringPipe leaves the pipe to a logfs pipe that has outlived the last daemon
// and comes to this one, or starts another.
func (s *seat) bringPipe() {
	s.t.Helper()
	if s.pipe != nil {
		s.until("logfs pipe to come to the new daemon, or to end", func() bool { return isClosed(s.piped) || s.taking() })
		if !isClosed(s.piped) {
			return
		}
	}
	s.pipe = exec.Command(logfsBin, "pipe", "--socket", s.d.sock, "web")
	s.pipe.Stdin = s.r
	must(s.t, s.pipe.Start())
	s.piped = ended(s.pipe)
}

// taking says whether the daemon says that it reads the pipe.
func (s *seat) taking() bool {
	// Not by the mount, where that waits: the daemon may be killed meanwhile.
	return strings.Contains(s.d.logfs("status").stdout, "\nweb running ")
}

func (s *seat) alive() bool { return s.cmd != nil && !isClosed(s.exited) }

// piece is the most lines that are written at once: the pipe takes them wholly
// or not at all.
const piece = 20

// say writes the next n lines to the pipe.
func (s *seat) say(n int) error {
	_, err := s.w.WriteString(numberedRun(s.said+1, s.said+n))
	if err == nil {
		s.said += n
	}
	return err
}

// talk says lines, 2,000 to 20,000 a second, until hush is called.
func (s *seat) talk(random *rand.Rand) (hush func()) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for rate := 0; !isClosed(stop); {
			if s.said%1000 < piece {
				rate = 2000 + random.IntN(18_000)
			}
			if s.say(piece) != nil {
				return
			}
			time.Sleep(piece * time.Second / time.Duration(rate))
		}
	}()
	return sync.OnceFunc(func() {
		close(stop)
		_ = s.w.SetWriteDeadline(time.Now()) // the pipe may be full
		<-stopped
	})
}

// until waits for ok, and says whether it came before the logger's end.
func (s *seat) until(what string, ok func() bool) (is bool) {
	s.t.Helper()
	eventually(s.t, func() string { return fmt.Sprintf("%s: %s; it said: %s", s.logger.name, what, s.stderr) },
		func() bool {
			dead := !s.alive()
			is = ok()
			return is || dead
		})
	return is
}

// sayStored says n lines, and whether they came to the files.
func (s *seat) sayStored(n int) bool {
	s.t.Helper()
	must(s.t, s.say(n))
	return s.untilStored(s.said)
}

func (s *seat) untilStored(line int) bool {
	s.t.Helper()
	return s.until(fmt.Sprintf("line %d to be stored", line), func() bool { return s.newest() >= line })
}

// restart starts loggers until one has stored line.
func (s *seat) restart(line int) {
	s.t.Helper()
	for range 10 {
		if s.start(); s.untilStored(line) {
			return
		}
		s.refused++
	}
	s.t.Fatalf("%s does not start again: %s", s.logger.name, s.stderr)
}

// awaitDeath waits for the logger's end and notes it if it was killed.
func (s *seat) awaitDeath() (killed bool) {
	s.t.Helper()
	select {
	case <-s.exited:
	case <-time.After(patience):
		s.t.Fatalf("%s did not end within %v", s.logger.name, patience)
	}
	status, _ := s.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !status.Signaled() || status.Signal() != unix.SIGKILL {
		return false
	}
	s.kills++
	s.files() // the archives that are there now
	return true
}

func (s *seat) kill() {
	s.t.Helper()
	must(s.t, s.cmd.Process.Kill())
	if !s.awaitDeath() {
		s.t.Fatalf("%s ended with %v: %s", s.logger.name, s.cmd.ProcessState, s.stderr)
	}
}

// finish ends the pipe and then the logger, in order.
func (s *seat) finish() {
	s.t.Helper()
	must(s.t, s.w.Close())
	if s.d == nil {
		s.awaitDeath()
		return
	}
	select {
	case <-s.piped:
	case <-time.After(patience):
		s.t.Fatalf("logfs pipe did not end within %v", patience)
	}
	if !s.pipe.ProcessState.Success() {
		s.t.Errorf("logfs pipe ended with %v", s.pipe.ProcessState)
	}
	s.d.stop()
	s.d.verified(s.dir)
}
