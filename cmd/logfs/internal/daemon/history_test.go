package daemon

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"logfs/ring"
	"logfs/ring/record"
)

// told returns what a reader gets from the number seq on, first from history
// and then from the ring, as it is stored, in front of each line its number.
func (lt *logTest) told(t *testing.T, seq uint64) (lines []string) {
	t.Helper()
	r, err := history{lt.Log}.From(seq)
	must(t, err)
	defer r.Close()
	var told record.Sizes
	from, oldest, due := seq, lt.ringFirst(), seq
	add := func(rec record.Record) {
		if rec.Seq > due {
			lost := record.Lost(0, rec.Run, due, rec.Seq-1)
			told.Add(&lost)
		}
		if due = rec.Last + 1; rec.Seq >= from && rec.Seq < oldest {
			told.Add(&rec)
		}
		lines = append(lines, fmt.Sprintf("%d %c %s", rec.Seq, rec.Kind, rec.Text))
		seq = rec.Last + 1
	}
	for buf := make([]byte, 100); ; {
		first, run, b, err := r.Next(buf)
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		s := record.Scanner{Buf: b, Seq: first, Run: run}
		for rec, ok := s.Next(); ok; rec, ok = s.Next() {
			add(rec)
		}
	}
	if measured := lt.measured(t, from, oldest); told != measured {
		t.Errorf("what is told from %d to %d has the sizes %+v, measured were %+v", from, oldest, told, measured)
	}
	if seq < oldest {
		t.Errorf("number %d is neither in history nor in the ring, which begins with %d", seq, oldest)
	}
	for _, rec := range held(lt.Log) {
		if rec.Seq >= seq {
			add(rec)
		}
	}
	return lines
}

func (lt *logTest) ringFirst() uint64 {
	first, _ := lt.Ring().Bounds()
	return first
}

// measured is what history says of the sizes of records.
func (lt *logTest) measured(t *testing.T, from, to uint64) (all record.Sizes) {
	t.Helper()
	parts, err := history{lt.Log}.Parts(from, to)
	must(t, err)
	for _, p := range parts {
		if p.First > from {
			lost := record.Lost(0, p.Run, from, p.First-1)
			all.Add(&lost)
		}
		all.Join(p.Sizes)
		from = p.Next
	}
	return all
}

// wantTold is what told returns for the lines numbered first to last.
func wantTold(first, last int) (lines []string) {
	for n := first; n <= last; n++ {
		lines = append(lines, fmt.Sprintf("%d o %s", n, line(n)))
	}
	return lines
}

// What the disk has refused, and the ring dropped, is lost only once the ring
// is full of lines that wait; then the numbers are those the files get.
func TestHistoryWhileTheDiskIsFull(t *testing.T) {
	onBadDisk(t, "drop", ring.Limits{Lines: 10}, false, func(t *testing.T, l *logTest) {
		l.take(1, 3)
		l.disk.room.Store(0)
		l.take(4, 14) // 4 is in hand, 5 to 14 in the ring
		same(t, "told before anything is lost", l.told(t, 2), wantTold(2, 14))
		l.take(15, 16)
		lost := []string{"5 = lost lines=2"}
		same(t, "told then", l.told(t, 2), slices.Concat(wantTold(2, 4), lost, wantTold(7, 16)))
		same(t, "told to one who was there", l.told(t, 6), slices.Concat(lost, wantTold(7, 16)))
		same(t, "told to one who is in the ring", l.told(t, 9), wantTold(9, 16))
		l.disk.room.Store(-1)
		must(t, l.Sync())
		same(t, "told when all is written", l.told(t, 2), slices.Concat(wantTold(2, 4), lost, wantTold(7, 16)))
	})
}

// A start mark that is saved from the gap is told as the files have it.
func TestHistoryOfAGapWithAStart(t *testing.T) {
	onBadDisk(t, "drop", ring.Limits{Lines: 4}, false, func(t *testing.T, l *logTest) {
		l.take(1, 1)
		l.disk.room.Store(0)
		l.take(2, 3)
		l.BeginRun(nil, 7)
		l.take(5, 10)
		want := []string{"2 o line 2", "3 = lost lines=1", "4 = start run=1 pid=7", "5 = lost lines=2",
			"7 o line 7", "8 o line 8", "9 o line 9", "10 o line 10"}
		same(t, "told", l.told(t, 2), want)
		l.disk.room.Store(-1)
		must(t, l.Sync())
		same(t, "told when all is written", l.told(t, 2), want)
	})
}

// A write that does not return: its lines are on their way.
func TestHistoryWhileTheDiskStalls(t *testing.T) {
	for _, block := range []bool{false, true} {
		onBadDisk(t, fmt.Sprintf("block=%v", block), ring.Limits{Lines: 5}, block, func(t *testing.T, l *logTest) {
			l.take(1, 3)
			g := l.disk.shut()
			late := make(chan struct{})
			go l.Take(pieces(line(4), line(5)), func() { close(late) })
			<-g.entered
			<-late
			if !block {
				time.Sleep(2 * diskPatience)
			}
			l.take(6, 8)
			same(t, "told", l.told(t, 3), wantTold(3, 8))
			if !block {
				l.take(9, 12)
				want := slices.Concat(wantTold(3, 5), []string{"6 = lost lines=2"}, wantTold(8, 12))
				same(t, "told when lines are lost", l.told(t, 3), want)
			}
			l.disk.open()
			synctest.Wait()
			if !block {
				return
			}
			same(t, "told when all is written", l.told(t, 3), wantTold(3, 8))
		})
	}
}

// Numbers that the files miss are told by the ring that was filled from them.
func TestRefillTellsOfGaps(t *testing.T) {
	l := newLogTest(t)
	for n := 1; n <= 9; n++ {
		l.take(n, n)
		if n%3 == 0 {
			l.clock.add(time.Second)
			must(t, l.Rotate())
		}
	}
	archives, err := filepath.Glob(filepath.Join(l.dir, "@*"))
	must(t, err)
	must(t, l.Close())
	must(t, os.Remove(archives[1]))
	l.open(t)
	same(t, "held", texts(l.Log), slices.Concat(want(1, 3), []string{"= lost lines=3"}, want(7, 9)))
	recs := held(l.Log)
	if gap := recs[3]; gap.Seq != 4 || gap.Last != 6 || gap.Time() != recs[4].Time()-1 {
		t.Errorf("the mark has the numbers %d to %d", gap.Seq, gap.Last)
	}
	checkSameNumbers(t, l, 10)
}

// A damaged line has a number all the same.
func TestRefillTellsOfDamage(t *testing.T) {
	l := newLogTest(t)
	l.take(1, 5)
	must(t, l.Close())
	name := filepath.Join(l.dir, "current")
	b, err := os.ReadFile(name)
	must(t, err)
	i := len(b) - 2*(len(b)/6)
	copy(b[slices.Index(b[i:], '\n')+i+1:], "damaged")
	must(t, os.WriteFile(name, b, 0o644))
	must(t, os.Chmod(name, 0o744))
	l.open(t)
	got := texts(l.Log)
	if n := slices.Index(got, "= lost lines=1"); len(got) != 5 || n < 0 {
		t.Errorf("held: %q, want five lines, one of them lost", got)
	}
	checkSameNumbers(t, l, 6)
}
