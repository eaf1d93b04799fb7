package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"logfs/capture"
	"logfs/ring"
	"logfs/ring/record"
	"logfs/rotate"
)

// logTest is a log on a disk that can fail, with a clock that stands still.
type logTest struct {
	*Log
	dir    string
	clock  *clock
	disk   *disk
	events *events
	limits ring.Limits
	block  bool
}

func newLogTest(t *testing.T) *logTest {
	lt := &logTest{dir: t.TempDir(), clock: newClock(), disk: newDisk(), events: &events{}}
	lt.open(t)
	t.Cleanup(func() { lt.Close() })
	return lt
}

func (lt *logTest) open(t *testing.T) {
	t.Helper()
	l, err := OpenLog(LogOptions{
		Ring: lt.limits, Block: lt.block,
		Rotate: rotate.Options{Dir: lt.dir, Service: "web", FS: lt.disk, Sync: time.Hour, SyncBytes: 1 << 40},
		Now:    lt.clock.now, Log: lt.events.logger(),
	})
	must(t, err)
	lt.Log = l
}

// reopen is what a restart of the daemon does to the log.
func (lt *logTest) reopen(t *testing.T) {
	t.Helper()
	must(t, lt.Close())
	lt.open(t)
}

func TestStamps(t *testing.T) {
	const s = record.Stamp(time.Second)
	tests := []struct {
		name            string
		last, now       record.Stamp
		n               int
		first, lastThen record.Stamp
	}{
		{"the clock goes on", 100 * s, 101 * s, 3, 101 * s, 101*s + 2},
		{"it stands still", 100 * s, 100 * s, 2, 100*s + 1, 100*s + 2},
		{"behind a large batch", 100*s + 500, 100*s + 100, 1, 100*s + 501, 100*s + 501},
		{"back by a second", 100 * s, 99 * s, 1, 100*s + 1, 100*s + 1},
		{"back by more: follow it", 100 * s, 99*s - 1, 2, 99*s - 1, 99 * s},
		{"nothing before", 0, 7, 1, 7, 7},
	}
	for _, tt := range tests {
		st := stamps{last: tt.last}
		if first := st.take(tt.now, tt.n); first != tt.first || st.last != tt.lastThen {
			t.Errorf("%s: first %d last %d, want %d and %d", tt.name, first, st.last, tt.first, tt.lastThen)
		}
	}
}

func TestTakeStoresThenPublishesThenWakes(t *testing.T) {
	l := newLogTest(t)
	woken := 0
	l.OnCommit(func() {
		woken++
		same(t, "stored when woken", stored(t, l.dir), []string{"o one", "e two"})
		same(t, "held when woken", texts(l.Log), []string{"o one", "e two"})
	})
	l.Take([]capture.Piece{
		{Stream: capture.Stdout, Text: []byte("one")},
		{Stream: capture.Stderr, Text: []byte("two")},
	}, noStall)
	if woken != 1 {
		t.Errorf("woken %d times, want once a batch", woken)
	}
	recs := held(l.Log)
	if a, b := recs[0].Time(), recs[1].Time(); b != a+1 {
		t.Errorf("stamps %d and %d, want them 1 ns apart", a, b)
	}
}

func TestRestartGoesOnWithNumbersRunAndStamps(t *testing.T) {
	l := newLogTest(t)
	l.BeginRun(nil, 42)
	l.Take(pieces("a", "b"), noStall)
	before := held(l.Log)
	l.clock.add(-time.Millisecond)
	l.reopen(t)
	same(t, "held after the restart", texts(l.Log), []string{"= start run=1 pid=42", "o a", "o b"})
	if run := l.BeginRun(nil, 43); run != 2 {
		t.Errorf("run %d after run 1", run)
	}
	recs := held(l.Log)
	last := recs[len(recs)-1]
	if last.Seq != 4 || last.Run != 2 || last.Time() <= before[2].Time() {
		t.Errorf("number %d, run %d, stamp %d after %d: want 4, 2 and later", last.Seq, last.Run, last.Time(), before[2].Time())
	}
}

func TestRefillKeepsToTheLimits(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	for i := range 3 {
		l, err := OpenLog(LogOptions{
			Ring:   ring.Limits{Lines: 5},
			Rotate: rotate.Options{Dir: dir, Service: "web", Size: 150}, Now: c.now, Log: new(events).logger(),
		})
		must(t, err)
		first, next := l.Ring().Bounds()
		if want := uint64(1 + 4*i); next != want || next-first > 5 {
			t.Errorf("start %d: holds %d to %d, want at most 5 up to %d", i, first, next, want)
		}
		l.Take(pieces("a", "b", "c", "d"), noStall)
		must(t, l.Close())
	}
}

// Lines that are no records have numbers all the same, so the lines after them
// keep theirs at every restart. Readers are told of them.
func TestRestartKeepsNumbersAfterLinesOfAnotherLogger(t *testing.T) {
	l := newLogTest(t)
	l.BeginRun(nil, 42)
	l.Take(pieces("a"), noStall)
	must(t, l.Close())
	appendTo(t, filepath.Join(l.dir, "current"), "@400000006b00928d1908bac4 theirs\n@400000006b00928d1908bac5 theirs\n")
	l.open(t)
	l.Take(pieces("b"), noStall)
	before := held(l.Log)
	same(t, "held", texts(l.Log), []string{"= start run=1 pid=42", "o a", "= lost lines=2", "o b"})
	l.reopen(t)
	same(t, "held after another restart", texts(l.Log), []string{"= start run=1 pid=42", "o a", "= lost lines=2", "o b"})
	for i, r := range held(l.Log) {
		if b := before[i]; r.Seq != b.Seq || r.Run != b.Run || string(r.Text) != string(b.Text) {
			t.Errorf("%q had number %d of run %d, has %d of run %d", r.Text, b.Seq, b.Run, r.Seq, r.Run)
		}
	}
	if last := before[len(before)-1]; last.Seq != 5 {
		t.Errorf("the line after a mark, a line and two of another logger has number %d, want 5", last.Seq)
	}
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	_, err = f.WriteString(text)
	must(t, errors.Join(err, f.Close()))
}

func TestLargeBatchHasItsNumbersOnDisk(t *testing.T) {
	l := newLogTest(t)
	line := strings.Repeat("x", 1000)
	l.Take(pieces(slices.Repeat([]string{line}, 2000)...), noStall) // several blocks of the ring
	_, next := l.Ring().Bounds()
	l.reopen(t)
	if _, again := l.Ring().Bounds(); next != 2001 || again != next || l.Lost() != 0 {
		t.Errorf("next number %d, after a restart %d, lost %d: want 2001 twice and 0", next, again, l.Lost())
	}
}

// checkSameNumbers checks that ring and files agree on the next number, also
// after a restart.
func checkSameNumbers(t *testing.T, l *logTest, want uint64) {
	t.Helper()
	_, next := l.Ring().Bounds()
	l.reopen(t)
	if _, again := l.Ring().Bounds(); next != want || again != want {
		t.Errorf("next number %d, after a restart %d, want %d", next, again, want)
	}
}

func TestTakeDoesNotAllocate(t *testing.T) {
	l, err := OpenLog(LogOptions{
		Ring: ring.Limits{Bytes: 64 << 10},
		Rotate: rotate.Options{Dir: t.TempDir(), Service: "web", Size: 1 << 30,
			Sync: time.Hour, SyncBytes: 1 << 40},
		Log: new(events).logger(),
	})
	must(t, err)
	defer l.Close()
	l.OnCommit(func() {})
	batch := pieces("GET /health 200", "GET /index.html 304", "POST /login 403")
	for range 5000 { // past the growth of the ring
		l.Take(batch, noStall)
	}
	if n := testing.AllocsPerRun(2000, func() { l.Take(batch, noStall) }); n != 0 {
		t.Errorf("%v allocations a batch, want none", n)
	}
}

func BenchmarkTake(b *testing.B) {
	for _, lines := range []int{1, 100} {
		b.Run(fmt.Sprintf("lines=%d", lines), func(b *testing.B) {
			l, err := OpenLog(LogOptions{
				Rotate: rotate.Options{Dir: b.TempDir(), Service: "web"}, Log: new(events).logger(),
			})
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			batch := pieces(slices.Repeat([]string{strings.Repeat("x", 100)}, lines)...)
			b.ReportAllocs()
			b.SetBytes(int64(101 * lines))
			for b.Loop() {
				l.Take(batch, noStall)
			}
		})
	}
}

// What the ring still has it gives again as it was stored, also while the last
// batch is on its way to the disk; what it has dropped it does not.
func TestLinesAgain(t *testing.T) {
	onBadDisk(t, "ring", ring.Limits{Lines: 1000}, false, func(t *testing.T, l *logTest) {
		l.BeginRun(nil, 1)
		l.take(1, 1500)
		gate := l.disk.shut()
		go l.take(1501, 1501)
		<-gate.entered
		asked := make(chan []byte)
		go func() {
			lines, _ := l.linesAgain(600, 1503)
			asked <- lines
		}()
		synctest.Wait()
		l.disk.open()
		synctest.Wait()
		segments, err := l.dir0().Tail(0, 0)
		must(t, err)
		all := strings.SplitAfter(string(segments[0].Lines), "\n")
		if got := <-asked; string(got) != strings.Join(all[599:1502], "") {
			t.Errorf("again: %d bytes, %q...", len(got), got[:min(len(got), 200)])
		}
		if lines, ok := l.linesAgain(1000, 1010); !ok || string(lines) != strings.Join(all[999:1009], "") {
			t.Errorf("again %v: %q", ok, lines)
		}
		for _, r := range [][2]uint64{{400, 1000}, {1400, 1504}} {
			if lines, ok := l.linesAgain(r[0], r[1]); ok {
				t.Errorf("%d to %d again, which the ring does not have: %d bytes", r[0], r[1], len(lines))
			}
		}
	})
}
