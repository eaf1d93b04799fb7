package capture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// holderEnv makes the test binary a process that captures, with a Hold, into
// the file it names, until it is killed or its inputs end.
const holderEnv = "CAPTURE_HOLD_FILE"

func newHold(t testing.TB) []*os.File {
	t.Helper()
	files, err := NewHold()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeFiles(files) })
	return files
}

// dup is a descriptor of the same open file.
func dup(t testing.TB, f *os.File) *os.File {
	t.Helper()
	fd, err := own(f)
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), f.Name())
}

func openAgain(t testing.TB, files []*os.File) *Hold {
	t.Helper()
	h, err := OpenHold([]*os.File{dup(t, files[0]), dup(t, files[1]), dup(t, files[2])})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

// lineFile is a Sink that stores each piece as a line "o text" or "e text", with
// one write a batch.
type lineFile struct {
	file *os.File
	hold *Hold
	next uint64
	buf  []byte
}

// openLineFile cuts a torn line off, and counts.
func openLineFile(path string, h *Hold) (*lineFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	stored, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	whole := int64(bytes.LastIndexByte(stored, '\n') + 1)
	if err := f.Truncate(whole); err != nil {
		return nil, err
	}
	_, err = f.Seek(whole, io.SeekStart)
	return &lineFile{file: f, hold: h, next: 1 + uint64(bytes.Count(stored, []byte("\n")))}, err
}

func (l *lineFile) Take(batch []Piece, _ func()) {
	l.buf = l.buf[:0]
	for _, p := range batch {
		l.buf = fmt.Appendf(l.buf, "%c %s", "?oe"[p.Stream], p.Text)
		if p.More {
			l.buf = append(l.buf, '+')
		}
		l.buf = append(l.buf, '\n')
	}
	l.hold.Begin(Doing(batch[0].Stream), l.next, l.next+uint64(len(batch)), nil)
	if _, err := l.file.Write(l.buf); err != nil {
		panic(err)
	}
	l.next += uint64(len(batch))
	l.hold.Stored(l.next)
}

// captureHeld is what the process does: descriptors 3 to 5 are the Hold, 6 and 7
// the inputs.
func captureHeld(path string) error {
	var files []*os.File
	for fd := range uintptr(5) {
		files = append(files, os.NewFile(3+fd, "given"))
	}
	h, err := OpenHold(files[:HoldFiles])
	if err != nil {
		return err
	}
	l, err := openLineFile(path, h)
	if err != nil {
		return err
	}
	if found := h.Recover(l.next, l.next); found.Lost > 0 {
		return fmt.Errorf("%d lines lost", found.Lost)
	}
	return Pump(context.Background(), 100, l,
		Input{File: files[3], Stream: Stdout, Hold: h}, Input{File: files[4], Stream: Stderr, Hold: h})
}

// Whenever the process that captures is killed, the next one goes on with the
// byte after the last line in the file.
func TestKillsLoseAndRepeatNothing(t *testing.T) {
	kills := 40
	if os.Getenv("LOGFS_LONG") != "" {
		kills = 900
	}
	out, outEnd := pipe(t)
	errs, errEnd := pipe(t)
	hold := newHold(t)
	path := filepath.Join(t.TempDir(), "lines")
	enough := make(chan struct{})
	var written [2]chan []byte
	for i, w := range []*os.File{outEnd, errEnd} {
		written[i] = make(chan []byte, 1)
		go func() { written[i] <- writeLines(t, w, enough) }()
	}
	given := append(append([]*os.File{}, hold...), out, errs)
	for n := 0; ; n++ {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), holderEnv+"="+path)
		cmd.ExtraFiles, cmd.Stderr = given, os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if n < kills {
			time.Sleep(time.Duration(rand.IntN(12_000)) * time.Microsecond)
			cmd.Process.Kill()
		} else if n == kills {
			close(enough)
		}
		if err := cmd.Wait(); err == nil {
			break
		} else if cmd.ProcessState.ExitCode() != -1 {
			t.Fatal(err)
		}
	}
	stored, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, kind := range []string{"o ", "e "} {
		want := <-written[i]
		if got := linesOf(stored, kind); !bytes.Equal(got, want) {
			t.Errorf("stream %q: %d bytes stored, %d written; first difference at %d",
				kind, len(got), len(want), difference(got, want))
		}
		t.Logf("%d kills, %d bytes", kills, len(want))
	}
}

// writeLines writes numbered lines until there are enough, in pieces that are
// not lines, some longer than the limit, and returns them.
func writeLines(t *testing.T, w *os.File, enough <-chan struct{}) (all []byte) {
	defer w.Close()
	for n, sent := 0, 0; ; n++ {
		all = fmt.Appendf(all, "%d %s\n", n, bytes.Repeat([]byte{'x'}, rand.IntN(30)))
		if n%50 == 0 {
			all = append(all, bytes.Repeat([]byte{'y'}, rand.IntN(1000))...)
		}
		size := min(len(all)-sent, 1+rand.IntN(200))
		if _, err := w.Write(all[sent : sent+size]); err != nil {
			t.Error(err)
			return all
		}
		sent += size
		select {
		case <-enough:
			return all[:sent]
		default:
		}
	}
}

// linesOf puts the pieces of one stream together again.
func linesOf(stored []byte, kind string) (all []byte) {
	for line := range bytes.Lines(stored) {
		text, ok := bytes.CutPrefix(line, []byte(kind))
		if !ok {
			continue
		}
		if part, more := bytes.CutSuffix(text, []byte("+\n")); more {
			text = part
		}
		all = append(all, text...)
	}
	return all
}

func difference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// A cancelled Pump leaves the unfinished line to the next, unless the run is over.
func TestUnfinishedLineIsHeld(t *testing.T) {
	r, w := pipe(t)
	files := newHold(t)
	var first, second collect
	ctx, cancel := context.WithCancel(t.Context())
	first.onTake = cancel
	write(t, w, "one\ntw")
	h := openAgain(t, files)
	_ = Pump(ctx, 0, &holding{&first, h}, Input{File: dup(t, r), Stream: Stdout, Hold: h})
	write(t, w, "o\nthr")
	h = openAgain(t, files)
	over, end := context.WithCancelCause(t.Context())
	second.onTake = func() { end(ErrOver) }
	_ = Pump(over, 0, &holding{&second, h}, Input{File: r, Stream: Stdout, Hold: h})
	if got, want := fmt.Sprint(first.batches, second.batches), "[stdout:one] [stdout:two stdout:thr+]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// holding says that each batch is done at once.
type holding struct {
	Sink
	hold *Hold
}

func (h *holding) Take(batch []Piece, goOn func()) {
	h.hold.Begin(Doing(batch[0].Stream), 1, 1+uint64(len(batch)), nil)
	h.Sink.Take(batch, goOn)
	h.hold.Stored(1 + uint64(len(batch)))
}

func TestForeignHoldsAreRefused(t *testing.T) {
	for name, spoil := range map[string]func(files []*os.File){
		"not sealed": func(files []*os.File) {
			fd, err := unix.MemfdCreate("foreign", unix.MFD_CLOEXEC)
			if err != nil {
				t.Fatal(err)
			}
			files[0].Close()
			files[0] = file(fd)
			files[0].Truncate(holdSize)
		},
		"unknown format":                func(files []*os.File) { files[0].WriteAt([]byte("logfs\x00h9"), 0) },
		"a line limit that has no room": noted(func(n *note) { n.Limit = heldLimit + 1 }),
		"spans beyond the room":         noted(func(n *note) { n.Spans[0].Expect = holdRoom + 1 }),
		"bytes of a third stream":       noted(func(n *note) { n.Mover = streams + 1 }),
		"more batches than there are":   noted(func(n *note) { n.Count = maxBatches + maxMarks + 1 }),
		"a number that nobody comes to": noted(func(n *note) { n.Given = maxNumber + 1 }),
		"a batch of nothing":            noted(func(n *note) { n.Batches[0].Next = 5 }),
		"a batch of an unknown kind":    noted(func(n *note) { n.Batches[1].Doing = 6 }),
		"batches out of order":          noted(func(n *note) { n.Batches[0], n.Batches[1] = n.Batches[1], n.Batches[0] }),
		"lines before the first":        noted(func(n *note) { n.Batches[0].Taken = 9 }),
		"lines that were not read":      noted(func(n *note) { n.Batches[0].Taken = 31 }),
		"a number that was not given":   noted(func(n *note) { n.Given = 8 }),
	} {
		t.Run(name, func(t *testing.T) {
			files := newHold(t)
			spoil(files)
			if h, err := OpenHold(files); err == nil {
				h.Close()
				t.Error("accepted")
			}
		})
	}
}

// noted makes a Hold with three lines that wait and an exit mark, spoiled.
func noted(spoil func(n *note)) func(files []*os.File) {
	return func(files []*os.File) {
		mem, err := mapMemory(int(files[0].Fd()))
		if err != nil {
			panic(err)
		}
		copy(mem, holdMagic)
		h := Hold{mem: mem}
		n := h.slot(0)
		n.Run, n.Given, n.Limit, n.Mover, n.Count = 1, 9, 100, 1, 2
		n.Spans[0] = span{10, 30, 30}
		n.Batches[0] = batch{5, 8, OutLines, 20}
		n.Batches[1] = batch{8, 9, ExitMark, 0}
		spoil(n)
	}
}

func TestOwnHoldIsAccepted(t *testing.T) {
	files := newHold(t)
	noted(func(*note) {})(files)
	h, err := OpenHold(files)
	if err != nil {
		t.Fatal(err)
	}
	h.Close()
}

// Numbers that were given out and are not in the files are known to be lost.
func TestHoldCountsWhatIsLost(t *testing.T) {
	files := newHold(t)
	h := openAgain(t, files)
	h.Starting(7, 1)
	h.Begin(StartMark, 99, 100, nil)
	h.Stored(100)
	for i := range uint64(maxBatches + 10) {
		h.Begin(OutLines+Doing(i%2), 100+i, 101+i, nil) // and the disk is stuck
	}
	for _, tt := range []struct{ next, lost uint64 }{{100, 10}, {103, 7}, {110, 0}, {120, 0}} {
		h = openAgain(t, files)
		before := h.note
		if got := h.Recover(tt.next, tt.next); got.Lost != tt.lost || got.Run != 7 || got.Ended {
			t.Errorf("files end before %d: %+v, want %d lost", tt.next, got, tt.lost)
		}
		h.note = before
		h.flip()
	}
}

// Batches that waited for the disk in a process that died are handed on again in
// the order of their numbers, whatever stream they are of, also when the next
// process dies of it.
func TestBatchesAreStoredAgainInOrder(t *testing.T) {
	files := newHold(t)
	h := openAgain(t, files)
	var all []string
	for i, text := range []string{"o1\no2\n", "e1\n", "o3\n", "e2\ne3\nunfinished"} {
		s := Stream(1 + i%2)
		lines := strings.Count(text, "\n")
		h.add(s, []byte(text))
		h.took(s, len(text)-1-strings.LastIndex(text, "\n"))
		h.Begin(Doing(s), uint64(1+len(all)), uint64(1+len(all)+lines), nil)
		all = append(all, strings.Split(text, "\n")[:lines]...)
	}
	for next := uint64(1); next <= uint64(1+len(all)); next++ {
		h = openAgain(t, files)
		if got := h.Recover(next, next); got.Lost != 0 {
			t.Fatalf("files end before %d: %d lost", next, got.Lost)
		}
		var c collect
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		outR, _ := pipe(t)
		errR, _ := pipe(t)
		_ = Pump(ctx, 0, &numbering{&c, h, next}, Input{File: outR, Stream: Stdout, Hold: h}, Input{File: errR, Stream: Stderr, Hold: h})
		var got []string
		for _, b := range c.batches {
			for _, p := range strings.Fields(b) {
				got = append(got, p[len("stdout:"):])
			}
		}
		if want := all[next-1:]; !slices.Equal(got, want) {
			t.Errorf("files end before %d: stored again %q, want %q", next, got, want)
		}
	}
}

// numbering gives numbers from next on, and the disk is stuck.
type numbering struct {
	Sink
	hold *Hold
	next uint64
}

func (n *numbering) Take(batch []Piece, goOn func()) {
	n.hold.Begin(Doing(batch[0].Stream), n.next, n.next+uint64(len(batch)), nil)
	n.next += uint64(len(batch))
	n.Sink.Take(batch, goOn)
}

// Another line limit holds for what is held as soon as nothing waits that was cut
// by the one before, and no unfinished line is longer.
func TestLimitOfWhatIsHeld(t *testing.T) {
	r, w := pipe(t)
	h := openAgain(t, newHold(t))
	s := &heldLimited{numbering: numbering{hold: h, next: 1}, limit: 30}
	var c collect
	s.Sink = &c
	steps := []func(){
		func() { write(t, w, "eight by\n") },                    // when the test begins
		func() { h.Stored(s.next); write(t, w, "longer than") }, // when that was taken
		func() { write(t, w, " four\nseven b\n") },              // when that was moved
		func() { s.limit = 4 },                                  // when that was
		func() { write(t, w, "again 8!\n") },                    // when that was taken, and is not stored
		func() { h.Stored(s.next); write(t, w, "six by\n") },
		func() { w.Close() },
	}
	next := func() { steps[0](); steps = steps[1:] }
	c.onTake = next
	atStep = func(_ *Hold, what string) {
		if what == "moved" && (len(steps) == 5 || len(steps) == 4) {
			next()
		}
	}
	t.Cleanup(func() { atStep = nil })
	next()
	if err := Pump(t.Context(), 30, s, Input{File: r, Stream: Stdout, Hold: h}); err != nil {
		t.Fatal(err)
	}
	wantBatches(t, &c, "stdout:eight by", "stdout:longer than four stdout:seven b", "stdout:again 8!", "stdout:six + stdout:by")
}

type heldLimited struct {
	numbering
	limit int
}

func (l *heldLimited) LineLimit() int { return l.limit }

// A daemon that ends while its disk is behind leaves what it has not read where it
// is: in the Hold there is no room for it.
func TestCancelledPumpReadsNothingThatWouldWait(t *testing.T) {
	r, w := pipe(t)
	h := openAgain(t, newHold(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	write(t, w, "one\n")
	var c collect
	c.onTake = func() { write(t, w, "two\n") }
	var err error
	p := begin(ctx, 0, &numbering{&c, h, 1}, func(e error) { err = e }, []Input{{File: dup(t, r), Stream: Stdout, Hold: h}})
	p.watcher.interrupt() // as soon as ctx is cancelled
	p.work(0)
	if !errors.Is(err, ErrLeft) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that the input is left", err)
	}
	wantBatches(t, &c, "stdout:one")
	if n := waitingIn(r); n != 4 {
		t.Errorf("%d bytes are left, want 4", n)
	}
}

// When the command of a run has ended, nobody else comes for what there is.
func TestLastPumpTakesAll(t *testing.T) {
	r, w := pipe(t)
	h := openAgain(t, newHold(t))
	h.Last()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	write(t, w, "one\n")
	var c collect
	c.onTake = func() {
		if len(c.batches) == 1 {
			write(t, w, "two\nunfin")
		}
	}
	err := Pump(ctx, 0, &numbering{&c, h, 1}, Input{File: r, Stream: Stdout, Hold: h})
	if errors.Is(err, ErrLeft) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that nothing is left", err)
	}
	wantBatches(t, &c, "stdout:one", "stdout:two", "stdout:unfin+")
}

// Whoever has the pipe of a Hold too can spoil a run, but not keep a daemon.
func TestPipeThatSomebodyElseUses(t *testing.T) {
	for name, meddle := range map[string]func(files []*os.File){
		"reads": func(files []*os.File) { _, _ = unix.Read(int(files[1].Fd()), make([]byte, 100)) },
		"writes": func(files []*os.File) {
			_ = unix.SetNonblock(int(files[2].Fd()), true)
			_, _ = unix.Write(int(files[2].Fd()), make([]byte, 1<<16))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, w := pipe(t)
			files := newHold(t)
			h := openAgain(t, files)
			atStep = func(_ *Hold, what string) {
				if what == "moved" {
					meddle(files)
					write(t, w, "two\n")
				}
			}
			t.Cleanup(func() { atStep = nil })
			write(t, w, "one\n")
			var c collect
			if err := Pump(t.Context(), 0, &numbering{&c, h, 1}, Input{File: r, Stream: Stdout, Hold: h}); err == nil {
				t.Errorf("no error; took %q", c.batches)
			}
		})
	}
}
