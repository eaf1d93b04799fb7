package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// costs is what kills may cost logfs. Of the others nothing is asked.
var costs = losses{lost: 0, repeated: 0, torn: 0, archives: 0, refused: 0}

// TestPeers kills logfs, and beside it multilog, s6-log and svlogd, in the same
// way, and logs what it has cost each: in a table, at its end.
//
// They are killed at the first calls of each kind that opening a directory and
// rotation make to the file system, and ten times at random moments under load.
// With LOGFS_LONG=1 it is every call, and 300 moments.
func TestPeers(t *testing.T) {
	long := os.Getenv("LOGFS_LONG") == "1"
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "logger\tkilled at\tkills\tlines\tlost\ta kill\tat once\ttold\trepeated\ttorn\tarchives lost\trestarts failed\t")
	for _, l := range loggers {
		t.Run(l.name, func(t *testing.T) {
			needPeer(t, l)
			row(w, l.name, "file calls", killAtCalls(t, l, long))
			row(w, l.name, "any moment", killAtRandom(t, l, long))
		})
	}
	w.Flush()
	t.Logf("\n%s", &table)
}

func needPeer(t *testing.T, l logger) {
	t.Helper()
	needFUSE(t)
	needTools(t, "strace")
	if l.args != nil {
		needTools(t, l.name)
	}
}

func row(w *tabwriter.Writer, name, at string, l losses) {
	fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%.2f\t%d\t%d\t%d\t%d\t%d\t%d\t\n", name, at, l.kills, l.lines,
		l.lost, float64(l.lost)/float64(l.kills), l.most, l.told, l.repeated, l.torn, l.archives, l.refused)
}

// fileCalls are what a logger may do to its files, by the names that a call
// has. Each name is counted for itself, in each thread.
var fileCalls = []string{
	"write,writev", "openat", "link,linkat", "rename,renameat,renameat2", "fsync,fdatasync", "unlink,unlinkat",
	"chmod,fchmod,fchmodat", "ftruncate",
}

// killAtCalls kills at the first, second, ... call of each kind, until three
// times in a row a whole pass has had no such call: the threads of a daemon
// share the work differently each time.
func killAtCalls(t *testing.T, l logger, long bool) (sum losses) {
	t.Helper()
	var kinds []string
	for _, calls := range fileCalls {
		killed, missed := 0, 0
		for n := 1; missed < 3 && (long || n <= 2); n++ {
			s := newSeat(t, l, 4096)
			if s.throughRotations(calls, n) {
				killed++
				missed = 0
			} else {
				missed++
			}
			s.check(fmt.Sprintf("killed at %s %d", calls, n))
			sum.add(s.losses)
		}
		if killed > 0 {
			kinds = append(kinds, fmt.Sprintf("%s %d", calls, killed))
		}
	}
	t.Logf("killed at %s", strings.Join(kinds, "; "))
	if len(kinds) < 5 { // all of them write, open, rename, fsync, and change a mode
		t.Errorf("killed only at %q", kinds)
	}
	return sum
}

// throughRotations has a logger take over from one that was killed, and rotate
// twice. It is killed just before its nth call, and another goes on.
func (s *seat) throughRotations(calls string, n int) (killed bool) {
	s.t.Helper()
	s.start()
	if !s.sayStored(piece) {
		s.t.Fatalf("%s does not start: %s", s.logger.name, s.stderr)
	}
	s.kill()
	s.kills = 0                // that was none of those counted
	enough := s.archived() + 3 // what was left of that one, and two rotations
	s.start(lookTool("strace"), "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace="+calls,
		"-e", fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", calls, n))
	for i := 0; s.sayStored(1+i*7%piece) && s.archived() < enough; i++ {
	}
	_ = s.cmd.Process.Signal(unix.SIGTERM) // it may be dead already
	must(s.t, s.say(piece))                // svlogd can sleep over a signal
	killed = s.awaitDeath()
	must(s.t, s.say(piece)) // what is said before, it may have taken with it
	s.restart(s.said)
	s.finish()
	return killed
}

// killAtRandom kills at random moments while lines come at random rates.
func killAtRandom(t *testing.T, l logger, long bool) losses {
	t.Helper()
	kills := 10
	if long {
		kills = 300
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("random moments from %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	s := newSeat(t, l, 32<<10)
	hush := s.talk(rand.New(rand.NewPCG(seed, 1)))
	defer hush()
	s.start()
	for range kills {
		time.Sleep(time.Duration(random.IntN(60_000)) * time.Microsecond)
		s.kill()
		s.restart(s.newest() + 1)
	}
	hush()
	s.untilStored(s.said)
	s.finish()
	s.check("killed at random")
	return s.losses
}

// check holds what logfs has lost against what a kill may cost.
func (s *seat) check(when string) {
	s.t.Helper()
	holes := s.account()
	got := s.losses
	got.kills, got.lines, got.most, got.told = 0, 0, 0, 0
	if s.d != nil && got != costs {
		s.t.Errorf("%s: %+v, want %+v; lost %+v", when, s.losses, costs, holes)
	}
}

// The account finds each kind of loss, and tells them apart.
func TestPeersAccount(t *testing.T) {
	line := func(n int) string { return "@400000006b00928d1908bac4 o " + numbered(n) + "\n" }
	mark := func(text string) string { return "@400000006b00928d1908bac4 = " + text + "\n" }
	for _, tt := range []struct {
		name, archive, current string
		want                   losses
	}{
		{"nothing", line(1) + line(2), line(3) + line(4), losses{}},
		{"marks", mark("logfs format=1 service=web run=1 first=1") + line(1) + line(2), mark("start run=2") + line(3) + line(4), losses{}},
		{"lost", line(1), line(4), losses{lost: 2, most: 2}},
		{"lost and told", line(1), mark("lost lines=2") + line(4), losses{lost: 2, most: 2, told: 2}},
		{"lost at both ends", line(2), line(3), losses{lost: 2, most: 1}},
		{"repeated", line(1) + line(2), line(2) + line(3) + line(4), losses{repeated: 1}},
		{"out of order", line(3), line(1) + line(2) + line(4), losses{lost: 2, most: 2, repeated: 2}},
		{"never said", line(1) + line(2) + line(3), line(4) + line(5), losses{repeated: 1}},
		{"cut short", line(1) + line(2) + line(3)[:50], line(4), losses{lost: 1, most: 1, torn: 1}},
		{"without its newline", line(1) + line(2), line(3) + strings.TrimSuffix(line(4), "\n"), losses{lost: 1, most: 1, torn: 1}},
		{"without its head", line(1) + line(2), line(3)[:28] + line(3)[40:] + line(4), losses{lost: 1, most: 1, torn: 1}},
		{"archive", "", line(1) + line(2) + line(3) + line(4), losses{archives: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &seat{t: t, logger: loggers[0], d: &daemon{}, dir: t.TempDir(), said: 4, labels: map[string]bool{}}
			archive := filepath.Join(s.dir, "@400000006b00928d1908bac4.s")
			must(t, os.WriteFile(archive, []byte(tt.archive), 0o644))
			must(t, os.WriteFile(filepath.Join(s.dir, "current"), []byte(tt.current), 0o644))
			s.files() // as it does at each kill
			if tt.archive == "" {
				must(t, os.Remove(archive))
			}
			s.account()
			tt.want.lines = s.said
			if s.losses != tt.want {
				t.Errorf("got %+v, want %+v", s.losses, tt.want)
			}
		})
	}
}
