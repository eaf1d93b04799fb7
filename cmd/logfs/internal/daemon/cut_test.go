package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A log that was not closed is told of: a power cut, and a torn line, to the
// operator and the readers, a dead daemon to the operator.
func TestCutOff(t *testing.T) {
	const torn = "@400000006b00928d1908bac4 o half a l"
	for _, tt := range []struct {
		name, boot, torn string
		said, mark       string // what the operator and the readers are told
	}{
		{"power cut", "another boot\n", torn, "level=WARN msg=\"the log was cut off; its last lines may be lost\" after=3 torn=36 at=2026-11-20T18:40:00.000Z\n", "= cut after=3 last=@400000006b00940a00000002 torn=36"},
		{"power cut at a line end", "another boot\n", "", "level=WARN msg=\"the log was cut off; its last lines may be lost\" after=3 torn=0 at=", "= cut after=3 last=@400000006b00940a00000002 torn=0"},
		{"torn by a kill", "", torn, "level=WARN msg=\"the log was cut off; its last lines may be lost\" after=3 torn=36 at=", "= cut after=3 last=@400000006b00940a00000002 torn=36"},
		{"kill", "", "", "level=INFO msg=\"the log was not closed; lines that were not written are lost\" after=3 torn=0 at=", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLogTest(t)
			l.BeginRun(42)
			l.Take(pieces("a", "b"), noStall)
			left := filepath.Join(t.TempDir(), "web") // what a crash now leaves
			must(t, os.CopyFS(left, os.DirFS(l.dir)))
			appendTo(t, filepath.Join(left, "current"), tt.torn)
			if tt.boot != "" {
				must(t, os.WriteFile(filepath.Join(left, "lock"), []byte(tt.boot), 0o600))
			}
			must(t, l.Close())
			l.dir = left
			l.clock.add(time.Hour)
			l.open(t)
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
