package capture

import (
	"bytes"
	"context"
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
	if found := h.Recover(l.next, 0); found.Lost > 0 {
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
		"unknown format": func(files []*os.File) { files[0].WriteAt([]byte("logfs\x00h9"), 0) },
		"spans beyond the room": func(files []*os.File) {
			h := openAgain(t, files)
			h.note.Spans[0].End, h.note.Spans[0].Expect = holdRoom+1, holdRoom+1
			h.flip()
		},
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
		if got := h.Recover(tt.next, 7); got.Lost != tt.lost || got.Run != 7 || got.Ended {
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
		if got := h.Recover(next, 0); got.Lost != 0 {
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
