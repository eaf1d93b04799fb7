package daemon

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"logfs/ring"
	"logfs/ring/record"
	"logfs/rotate"
)

// onBadDisk runs test with a log on a disk that can fail and stall, in a bubble
// of its own time.
func onBadDisk(t *testing.T, name string, limits ring.Limits, block bool, test func(*testing.T, *logTest)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			lt := &logTest{dir: dir, clock: newClock(), disk: newDisk(), events: &events{}, limits: limits, block: block}
			lt.open(t)
			defer func() { lt.Close() }()
			test(t, lt)
		})
	})
}

// line is the nth of many.
func line(n int) string { return fmt.Sprintf("line %d", n) }

// take takes the lines numbered first to last, one a batch.
func (lt *logTest) take(first, last int) {
	for n := first; n <= last; n++ {
		lt.Take(pieces(line(n)), noStall)
	}
}

// want is how the lines numbered first to last are stored.
func want(first, last int) (lines []string) {
	for n := first; n <= last; n++ {
		lines = append(lines, "o "+line(n))
	}
	return lines
}

func (lt *logTest) warnings() int { return strings.Count(lt.events.String(), "level=WARN") }

// checkStamps checks that the stamps in the files only grow.
func (lt *logTest) checkStamps(t *testing.T) {
	t.Helper()
	var last record.Stamp
	segments, err := lt.dir0().Tail(0, 0)
	must(t, err)
	for _, s := range segments {
		for l := range strings.Lines(string(s.Lines)) {
			stamp, ok := record.ParseStamp([]byte(l))
			if !ok || stamp <= last {
				t.Errorf("stamp %d after %d: %q", stamp, last, l)
			}
			last = stamp
		}
	}
}

func (lt *logTest) dir0() *rotate.Logdir { return lt.Log.dir }

func TestFullDisk(t *testing.T) {
	for _, block := range []bool{false, true} {
		onBadDisk(t, fmt.Sprintf("block=%v", block), ring.Limits{}, block, func(t *testing.T, l *logTest) {
			l.BeginRun(nil, 1)
			l.take(1, 1)
			l.disk.room.Store(0)
			l.take(2, 2)
			if !block {
				l.take(3, 5)
			}
			same(t, "held while the disk is full", texts(l.Log)[2:3], want(2, 2))
			l.disk.room.Store(-1)
			time.Sleep(maxRetry) // and nobody says anything
			synctest.Wait()
			l.take(6, 6)
			stays := want(1, 6)
			if block {
				stays = slices.Delete(stays, 2, 5)
			}
			same(t, "stored", stored(t, l.dir), append([]string{"= start run=1 pid=1"}, stays...))
			if l.Lost() != 0 || l.warnings() != 2 {
				t.Errorf("lost %d with %d warnings, want nothing lost, and one warning each when it began and ended:\n%s",
					l.Lost(), l.warnings(), l.events)
			}
			checkSameNumbers(t, l, uint64(len(stays)+2))
		})
	}
}

func TestFullDiskThatFillsTheRing(t *testing.T) {
	onBadDisk(t, "drop", ring.Limits{Lines: 10}, false, func(t *testing.T, l *logTest) {
		l.take(1, 1)
		l.disk.room.Store(0)
		l.take(2, 32) // 2 is in hand, 23 to 32 in the ring
		if l.Lost() != 20 {
			t.Errorf("lost %d while the disk is full, want 20", l.Lost())
		}
		l.disk.room.Store(-1)
		time.Sleep(maxRetry)
		synctest.Wait()
		same(t, "stored", stored(t, l.dir), slices.Concat(want(1, 2), []string{"= lost lines=20"}, want(23, 32)))
		l.checkStamps(t)
		if !strings.Contains(l.events.String(), "lost=20") || l.warnings() != 2 {
			t.Errorf("want one warning when it began and one with the count when it ended:\n%s", l.events)
		}
		checkSameNumbers(t, l, 33)
	})
}

func TestFullDiskWithinABatch(t *testing.T) {
	onBadDisk(t, "drop", ring.Limits{Lines: 2}, false, func(t *testing.T, l *logTest) {
		l.take(1, 1)
		l.disk.room.Store(int64(2*(record.Overhead+6) - 3)) // one line and a part of the next
		l.Take(pieces(line(2), line(3), line(4), line(5)), noStall)
		l.take(6, 8)
		l.disk.room.Store(-1)
		must(t, l.Sync())
		same(t, "stored", stored(t, l.dir), slices.Concat(want(1, 5), []string{"= lost lines=1"}, want(7, 8)))
		checkSameNumbers(t, l, 9)
	})
}

// Under block a service waits as long as writes are refused, and no longer than
// the daemon lives.
func TestBlockWaitsForAFullDisk(t *testing.T) {
	onBadDisk(t, "block", ring.Limits{Lines: 5}, true, func(t *testing.T, l *logTest) {
		l.disk.room.Store(0)
		l.take(1, 1) // shown, and in hand
		taken := 1
		go func() {
			for n := 2; n <= 100; n++ {
				l.take(n, n)
				taken = n
			}
		}()
		for range 20 {
			l.BeginRun(nil, 7) // marks do not wait, and push nothing out
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if taken != 1 {
			t.Errorf("%d lines taken while the disk is full, want 1", taken)
		}
		tries := l.disk.attempts.Load()
		if tries > int64(time.Hour/fastRetry)+20 {
			t.Errorf("%d attempts in an hour, want one each %v", tries, fastRetry)
		}
		l.disk.room.Store(-1)
		time.Sleep(maxRetry)
		synctest.Wait()
		files := stored(t, l.dir)
		same(t, "stored", slices.DeleteFunc(files, func(l string) bool { return strings.HasPrefix(l, "=") }), want(1, 100))
		if l.Lost() != 0 {
			t.Errorf("lost %d, want none", l.Lost())
		}
		checkSameNumbers(t, l, 121)
	})
}

func TestReleaseEndsBlock(t *testing.T) {
	onBadDisk(t, "block", ring.Limits{}, true, func(t *testing.T, l *logTest) {
		l.disk.room.Store(0)
		l.take(1, 1)
		done := make(chan struct{})
		go func() {
			l.take(2, 3)
			close(done)
		}()
		synctest.Wait()
		l.Release()
		<-done
		if err := l.Close(); err == nil || !strings.Contains(err.Error(), "3 lines are not on disk") {
			t.Errorf("closed with %v, want it to say that 3 lines are not on disk", err)
		}
	})
}

func TestRunsThatBeginWhileTheDiskIsFull(t *testing.T) {
	onBadDisk(t, "drop", ring.Limits{Lines: 3}, false, func(t *testing.T, l *logTest) {
		l.BeginRun(nil, 1)
		l.disk.room.Store(0)
		l.take(1, 2) // 1 is in hand
		l.EndRun(nil, record.Exit{Known: true})
		l.BeginRun(nil, 2)
		l.take(3, 3)
		l.EndRun(nil, record.Exit{Known: true})
		l.BeginRun(nil, 3)
		l.take(4, 8)
		l.disk.room.Store(-1)
		must(t, l.Rotate())
		l.take(9, 9)
		same(t, "stored", stored(t, l.dir), slices.Concat([]string{"= start run=1 pid=1"}, want(1, 1),
			[]string{"= lost lines=5", "= start run=3 pid=3", "= lost lines=2"}, want(6, 9)))
		if l.Lost() != 7 {
			t.Errorf("lost %d, want 7: the last start mark was not", l.Lost())
		}
		l.checkStamps(t)
		checkSameNumbers(t, l, 15)
		if run := l.BeginRun(nil, 4); run != 4 {
			t.Errorf("run %d after run 3", run)
		}
	})
}

// A disk that refuses is asked again after times that double: up to a second if
// it is quick to refuse, else up to ten times as long as that takes.
func TestFullDiskIsLeftAlone(t *testing.T) {
	for _, tt := range []struct{ takes, longest time.Duration }{
		{0, fastRetry}, {200 * time.Millisecond, 2 * time.Second}, {10 * time.Second, maxRetry},
	} {
		onBadDisk(t, tt.takes.String(), ring.Limits{}, false, func(t *testing.T, l *logTest) {
			l.disk.room.Store(0)
			l.take(1, 1)
			l.disk.delay.Store(int64(tt.takes))
			began := time.Now()
			var waits []time.Duration
			for tries := l.disk.attempts.Load(); len(waits) < 12; {
				l.take(2, 2)
				time.Sleep(minRetry / 2)
				synctest.Wait()
				if now := l.disk.attempts.Load(); now > tries {
					waits = append(waits, (time.Since(began) - tt.takes).Truncate(minRetry))
					tries, began = now, time.Now()
				}
			}
			waits[0] += tt.takes // the first attempt was quick
			if waits[0] != minRetry || waits[1] != 2*minRetry || waits[11] != tt.longest {
				t.Errorf("attempts after %v: want them from %v, doubling, to %v", waits, minRetry, tt.longest)
			}
			if l.warnings() != 1 {
				t.Errorf("%d warnings, want one:\n%s", l.warnings(), l.events)
			}
			l.disk.delay.Store(0)
			l.disk.room.Store(-1)
		})
	}
}

// However long a disk was full, its files go on when there is room.
func TestFullDiskResumes(t *testing.T) {
	for _, full := range []time.Duration{time.Second, 10 * time.Second, time.Hour} {
		onBadDisk(t, full.String(), ring.Limits{}, false, func(t *testing.T, l *logTest) {
			l.disk.room.Store(0)
			l.take(1, 3)
			time.Sleep(full)
			l.disk.room.Store(-1)
			time.Sleep(fastRetry)
			synctest.Wait()
			same(t, "stored a second after there is room", stored(t, l.dir), want(1, 3))
		})
	}
}

// A write that does not return holds up neither readers nor capture.
func TestStalledDisk(t *testing.T) {
	onBadDisk(t, "drop", ring.Limits{Lines: 10}, false, func(t *testing.T, l *logTest) {
		l.BeginRun(nil, 1)
		gate := l.disk.shut()
		goneOn, back := make(chan struct{}), make(chan struct{})
		go func() {
			l.Take(pieces(line(1), line(2)), func() { close(goneOn) })
			close(back)
		}()
		<-gate.entered
		if got := texts(l.Log); len(got) != 1 {
			t.Errorf("held before the write is late: %q", got)
		}
		began := time.Now()
		<-goneOn
		if d := time.Since(began); d < stall || d > stall+tick {
			t.Errorf("capture went on after %v, want %v", d, stall)
		}
		same(t, "held", texts(l.Log)[1:], want(1, 2))
		l.take(3, 34) // 25 to 34 stay
		l.EndRun(nil, record.Exit{Known: true})
		select {
		case <-back:
			t.Error("the write has returned")
		default:
		}
		if l.Lost() != 23 {
			t.Errorf("lost %d while the disk stalls, want 23", l.Lost())
		}
		time.Sleep(time.Hour)
		l.disk.open()
		<-back
		same(t, "stored", stored(t, l.dir), slices.Concat([]string{"= start run=1 pid=1"}, want(1, 2),
			[]string{"= lost lines=23"}, want(26, 34), []string{"= exit code=0 after=0s"}))
		l.checkStamps(t)
		l.take(35, 35)
		if n := l.disk.attempts.Load(); l.late() || n > 10 {
			t.Errorf("late %v after %d writes", l.late(), n)
		}
		if l.warnings() != 2 || !strings.Contains(l.events.String(), "lost=23") {
			t.Errorf("want one warning when it began and one with the count when it ended:\n%s", l.events)
		}
		checkSameNumbers(t, l, 38)
	})
}

// A short stall is nothing to speak of, and loses nothing.
func TestShortStall(t *testing.T) {
	onBadDisk(t, "drop", ring.Limits{}, false, func(t *testing.T, l *logTest) {
		for n := 1; n <= 50; n++ {
			gate := l.disk.shut()
			goneOn := make(chan struct{})
			go l.Take(pieces(line(4*n-3)), func() { close(goneOn) })
			<-gate.entered
			<-goneOn
			l.take(4*n-2, 4*n-1)
			l.disk.open()
			synctest.Wait()
			l.take(4*n, 4*n)
		}
		same(t, "stored", stored(t, l.dir), want(1, 200))
		if l.Lost() != 0 || l.warnings() != 0 {
			t.Errorf("lost %d, logged %s", l.Lost(), l.events)
		}
	})
}

func TestStalledDiskUnderBlock(t *testing.T) {
	onBadDisk(t, "block", ring.Limits{Lines: 10}, true, func(t *testing.T, l *logTest) {
		gate := l.disk.shut()
		goneOn := make(chan struct{})
		go l.Take(pieces(line(1)), func() { close(goneOn) })
		<-gate.entered
		<-goneOn
		taken := 0
		go func() {
			for n := 2; n <= 100; n++ {
				l.take(n, n)
				taken = n
			}
		}()
		time.Sleep(time.Hour)
		synctest.Wait()
		if taken != 11 {
			t.Errorf("%d lines taken, want 11: one in hand, and as many as the ring holds", taken)
		}
		l.disk.open()
		time.Sleep(time.Second)
		synctest.Wait()
		same(t, "stored", stored(t, l.dir), want(1, 100))
		if l.Lost() != 0 {
			t.Errorf("lost %d, want none", l.Lost())
		}
	})
}

// A disk that stalls and then refuses, and one that stalls at a mark.
func TestStallThenFull(t *testing.T) {
	onBadDisk(t, "drop", ring.Limits{}, false, func(t *testing.T, l *logTest) {
		l.disk.shut()
		if run := l.BeginRun(nil, 1); run != 1 { // returns after the stall time
			t.Errorf("run %d, want 1", run)
		}
		l.take(1, 3)
		l.disk.room.Store(0)
		l.disk.open()
		synctest.Wait()
		l.take(4, 6)
		l.disk.room.Store(-1)
		time.Sleep(maxRetry)
		synctest.Wait()
		same(t, "stored", stored(t, l.dir), append([]string{"= start run=1 pid=1"}, want(1, 6)...))
	})
}

func TestCloseDoesNotWaitForAStalledDisk(t *testing.T) {
	onBadDisk(t, "drop", ring.Limits{}, false, func(t *testing.T, l *logTest) {
		gate := l.disk.shut()
		goneOn := make(chan struct{})
		go l.Take(pieces(line(1)), func() { close(goneOn) })
		<-gate.entered
		<-goneOn
		l.take(2, 3)
		began := time.Now()
		if err := l.Close(); err == nil || time.Since(began) != closePatience {
			t.Errorf("closed after %v with %v, want an error after %v", time.Since(began), err, closePatience)
		}
		l.disk.open()
		synctest.Wait()
		same(t, "stored", stored(t, l.dir), want(1, 3))
	})
}

// A disk that is slow but works makes nobody lose lines: who writes fast waits
// for it a little, as with any file.
func TestBusyDiskLosesNothing(t *testing.T) {
	onBadDisk(t, "drop", ring.Limits{Lines: 20}, false, func(t *testing.T, l *logTest) {
		gate := l.disk.shut()
		goneOn := make(chan struct{})
		go l.Take(pieces(line(1)), func() { close(goneOn) })
		<-gate.entered
		<-goneOn
		l.take(2, 15)
		l.disk.delay.Store(int64(stall / 2))
		l.disk.open()
		time.Sleep(stall/2 + 1) // it writes lines 2 to 15 now
		l.take(16, 500)
		l.disk.delay.Store(0)
		time.Sleep(time.Second)
		synctest.Wait()
		same(t, "stored", stored(t, l.dir), want(1, 500))
		if l.Lost() != 0 {
			t.Errorf("lost %d, want none", l.Lost())
		}
	})
}

// Who writes faster than a disk that stalls for a moment waits for that moment.
// Only a disk that is silent for longer costs lines.
func TestFloodWaitsForAShortStall(t *testing.T) {
	onBadDisk(t, "drop", ring.Limits{Lines: 20}, false, func(t *testing.T, l *logTest) {
		gate := l.disk.shut()
		goneOn, done := make(chan struct{}), make(chan struct{})
		go l.Take(pieces(line(1)), func() { close(goneOn) })
		<-gate.entered
		<-goneOn
		go func() {
			l.take(2, 500)
			close(done)
		}()
		time.Sleep(diskPatience / 2)
		l.disk.open()
		<-done
		synctest.Wait()
		same(t, "stored", stored(t, l.dir), want(1, 500))
		if l.Lost() != 0 || l.warnings() != 0 {
			t.Errorf("lost %d, logged %s", l.Lost(), l.events)
		}
	})
}

// One read can hold more lines than the ring.
func TestBatchLargerThanTheRingWaitsForAShortStall(t *testing.T) {
	onBadDisk(t, "drop", ring.Limits{Lines: 20}, false, func(t *testing.T, l *logTest) {
		gate := l.disk.shut()
		goneOn, done := make(chan struct{}), make(chan struct{})
		go l.Take(pieces(line(1)), func() { close(goneOn) })
		<-gate.entered
		<-goneOn
		var lines []string
		for i := 2; i <= 500; i++ {
			lines = append(lines, line(i))
		}
		go func() {
			l.Take(pieces(lines...), noStall)
			close(done)
		}()
		time.Sleep(diskPatience / 2)
		l.disk.open()
		<-done
		synctest.Wait()
		same(t, "stored", stored(t, l.dir), want(1, 500))
		if l.Lost() != 0 || l.warnings() != 0 {
			t.Errorf("lost %d, logged %s", l.Lost(), l.events)
		}
	})
}
