package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"logfs/capture"
)

// A log that was not closed is told of: a power cut to the operator and the
// readers, a dead daemon to the operator.
func TestCutOff(t *testing.T) {
	const torn = "@400000006b00928d1908bac4 o half a l"
	for _, tt := range []struct {
		name, boot, torn string
		said, mark       string // what the operator and the readers are told
	}{
		{"power cut", "another boot\n", torn, "level=WARN msg=\"the log was cut off; its last lines may be lost\" after=3 torn=36 at=2026-11-20T18:40:00.000Z\n", "= cut after=3 last=@400000006b00940a00000002 torn=36"},
		{"power cut at a line end", "another boot\n", "", "level=WARN msg=\"the log was cut off; its last lines may be lost\" after=3 torn=0 at=", "= cut after=3 last=@400000006b00940a00000002 torn=0"},
		{"kill", "", "", "level=INFO msg=\"the log was not closed; what was not written may be lost\" after=3 torn=0 at=", ""},
		{"torn by a kill", "", torn, "level=INFO msg=\"the log was not closed; what was not written may be lost\" after=3 torn=36 at=", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLogTest(t)
			l.BeginRun(nil, 42)
			l.Take(pieces("a", "b"), noStall)
			left := filepath.Join(t.TempDir(), "web")
			l.crashTo(t, left, tt.torn, tt.boot)
			want := []string{"= start run=1 pid=42", "o a", "o b"}
			if tt.mark != "" {
				want = append(want, tt.mark)
			}
			same(t, "held", texts(l.Log), want)
			same(t, "stored", stored(t, left), want)
			if got := l.events.String(); !strings.Contains(got, tt.said) || strings.Count(got, "\n") != 1 {
				t.Errorf("logged\n%swant once\n%s", got, tt.said)
			}
			if all := held(l.Log); all[len(all)-1].Time() > all[2].Time()+1 {
				t.Errorf("the last line is of %d, the mark of %d: the service looks as if it had spoken", all[2].Time(), all[len(all)-1].Time())
			}
			l.Take(pieces("c"), noStall)
			checkSameNumbers(t, l, uint64(len(want)+2))
			if got := l.events.String(); strings.Count(got, "\n") != 1 {
				t.Errorf("an orderly restart is told of:\n%s", got)
			}
		})
	}
}

// Whoever opens a log for the first time has lost nothing.
func TestNewLogIsNotCutOff(t *testing.T) {
	l := newLogTest(t)
	if got := l.events.String() + fmt.Sprint(texts(l.Log)); got != "[]" {
		t.Errorf("said %s", got)
	}
}

// A disk can be gone without the machine: the process that holds the pipes has
// given numbers to lines that are lost, and the mark takes none of them away.
func TestCutOffUnderAHold(t *testing.T) {
	files, err := capture.NewHold()
	must(t, err)
	hold, err := capture.OpenHold(files)
	must(t, err)
	defer hold.Close()
	l := newLogTest(t)
	l.BeginRun(hold, 42)
	l.Take(pieces("a", "b"), noStall)
	hold.Begin(capture.OutLines, 2, 6, nil)
	hold.Stored(6) // and c, d, which the disk never had
	l.crashTo(t, filepath.Join(t.TempDir(), "web"), "", "another boot\n")
	if held := l.Resume(hold, 42); held.Lost != 2 || held.Run != 1 {
		t.Errorf("resumed with %+v, want 2 lines lost in run 1", held)
	}
	same(t, "stored", stored(t, l.dir), []string{"= start run=1 pid=42", "o a", "o b",
		"= cut after=3 last=@400000006b00940a00000002 torn=0", "= lost lines=2"})
}

// crashTo leaves the files as a crash would, with a torn line at the end and an
// id in the lock if they are not "", and opens the log with them.
func (lt *logTest) crashTo(t *testing.T, left, torn, boot string) {
	t.Helper()
	must(t, os.CopyFS(left, os.DirFS(lt.dir)))
	appendTo(t, filepath.Join(left, "current"), torn)
	if boot != "" {
		must(t, os.WriteFile(filepath.Join(left, "lock"), []byte(boot), 0o600))
	}
	must(t, lt.Close())
	lt.dir = left
	lt.clock.add(time.Hour)
	lt.open(t)
}
