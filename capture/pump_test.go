package capture

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// collect is a Sink that keeps what it gets, each batch as one string:
// "stdout:a stdout:b+".
type collect struct {
	batches []string
	bytes   [3][]byte // by stream, as written
	onTake  func()
}

func (c *collect) Take(batch []Piece, _ func()) {
	var shown []string
	for _, p := range batch {
		text := fmt.Sprintf("%s:%.40s", p.Stream, p.Text)
		if p.More {
			text += "+"
		}
		shown = append(shown, text)
		c.bytes[p.Stream] = append(c.bytes[p.Stream], joined([]Piece{p})...)
	}
	c.batches = append(c.batches, strings.Join(shown, " "))
	if c.onTake != nil {
		c.onTake()
	}
}

// pipe has a read end as services get it from a shell: in blocking mode.
func pipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	r, w = os.NewFile(uintptr(fds[0]), "read end"), os.NewFile(uintptr(fds[1]), "write end")
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

func write(t testing.TB, w io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		t.Errorf("cannot write: %v", err)
	}
}

func wantBatches(t *testing.T, c *collect, want ...string) {
	t.Helper()
	if !slices.Equal(c.batches, want) {
		t.Errorf("got batches %q, want %q", c.batches, want)
	}
}

// limited is a Sink that changes the line limit.
type limited struct {
	collect
	limit int
}

func (l *limited) LineLimit() int { return l.limit }

func TestPumpAsksForTheLimit(t *testing.T) {
	r, w := pipe(t)
	write(t, w, "abcd\n")
	l := limited{limit: 4}
	l.onTake = func() {
		if l.limit == 4 {
			l.limit = 2
			write(t, w, "abcd\n")
			w.Close()
		}
	}
	if err := Pump(t.Context(), 100, &l, Input{File: r, Stream: Stdout}); err != nil {
		t.Fatal(err)
	}
	wantBatches(t, &l.collect, "stdout:abcd", "stdout:ab+ stdout:cd")
}

func TestPumpBatches(t *testing.T) {
	r, w := pipe(t)
	write(t, w, "a\nb\r\n\nc")
	var c collect
	step := 0
	c.onTake = func() {
		switch step++; step {
		case 1:
			write(t, w, "d\ne")
		case 2:
			w.Close()
		}
	}
	if err := Pump(t.Context(), 0, &c, Input{File: r, Stream: Stdout}); err != nil {
		t.Fatal(err)
	}
	wantBatches(t, &c, "stdout:a stdout:b\r stdout:", "stdout:cd", "stdout:e+")
}

func TestPumpLimit(t *testing.T) {
	r, w := pipe(t)
	write(t, w, "abcdefgh\nabcd\nabcdefgh")
	w.Close()
	var c collect
	if err := Pump(t.Context(), 4, &c, Input{File: r, Stream: Stdout}); err != nil {
		t.Fatal(err)
	}
	wantBatches(t, &c, "stdout:abcd+ stdout:efgh stdout:abcd stdout:abcd+", "stdout:efgh+")
}

func TestPumpWithoutInputs(t *testing.T) {
	if err := Pump(t.Context(), 0, &collect{}); err != nil {
		t.Fatal(err)
	}
}

// Whoever waits for a line to be taken before writing the next one, to the same
// or the other pipe, finds the order kept.
func TestPumpKeepsOrderBetweenPipes(t *testing.T) {
	outR, outW := pipe(t)
	errR, errW := pipe(t)
	taken := make(chan struct{})
	c := collect{onTake: func() { taken <- struct{}{} }}
	done := make(chan error)
	go func() {
		done <- Pump(t.Context(), 0, &c, Input{File: outR, Stream: Stdout}, Input{File: errR, Stream: Stderr})
	}()
	var want []string
	for i := range 1000 {
		w, name := outW, "stdout"
		if i%2 == 1 || i%7 == 0 {
			w, name = errW, "stderr"
		}
		write(t, w, fmt.Sprintf("%d\n", i))
		<-taken
		want = append(want, fmt.Sprintf("%s:%d", name, i))
	}
	outW.Close()
	errW.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	wantBatches(t, &c, want...)
}

// Lines written to both pipes while the sink works come in the order in which
// the pipes became readable, whatever the order of the inputs.
func TestPumpKeepsOrderWhileSinkWorks(t *testing.T) {
	outR, outW := pipe(t)
	errR, errW := pipe(t)
	write(t, outW, "begin\n")
	var c collect
	step := 0
	c.onTake = func() {
		switch step++; step {
		case 1:
			write(t, errW, "first\n")
			write(t, outW, "second\n")
		case 3:
			write(t, outW, "third\n")
			write(t, errW, "fourth\n")
		case 5:
			outW.Close()
			errW.Close()
		}
	}
	if err := Pump(t.Context(), 0, &c, Input{File: outR, Stream: Stdout}, Input{File: errR, Stream: Stderr}); err != nil {
		t.Fatal(err)
	}
	wantBatches(t, &c, "stdout:begin", "stderr:first", "stdout:second", "stdout:third", "stderr:fourth")
}

func TestPumpTakesTurns(t *testing.T) {
	line := strings.Repeat("x", readSize-1) + "\n"
	file := func(name string) *os.File {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(strings.Repeat(line, 3)), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	var turns []Stream
	sink := sinkFunc(func(batch []Piece) { turns = append(turns, batch[0].Stream) })
	err := Pump(t.Context(), readSize, sink, Input{File: file("out"), Stream: Stdout}, Input{File: file("err"), Stream: Stderr})
	if err != nil {
		t.Fatal(err)
	}
	if want := []Stream{Stdout, Stderr, Stdout, Stderr, Stdout, Stderr}; !slices.Equal(turns, want) {
		t.Errorf("turns %v, want %v", turns, want)
	}
}

type sinkFunc func([]Piece)

func (f sinkFunc) Take(batch []Piece, _ func()) { f(batch) }

// An input that ends is finished while the other goes on.
func TestPumpFinishesEachInput(t *testing.T) {
	outR, outW := pipe(t)
	errR, errW := pipe(t)
	write(t, outW, "a\nunfinished")
	outW.Close()
	var c collect
	c.onTake = func() {
		switch len(c.batches) {
		case 2:
			write(t, errW, "still here\n")
		case 3:
			errW.Close()
		}
	}
	if err := Pump(t.Context(), 0, &c, Input{File: outR, Stream: Stdout}, Input{File: errR, Stream: Stderr}); err != nil {
		t.Fatal(err)
	}
	wantBatches(t, &c, "stdout:a", "stdout:unfinished+", "stderr:still here")
}

// A service that writes while the sink is held up waits, and loses nothing.
func TestPumpLosesNothingWhileSinkBlocks(t *testing.T) {
	r, w := pipe(t)
	var input bytes.Buffer
	for i := range 100_000 {
		fmt.Fprintf(&input, "line %d of many\n", i)
	}
	input.WriteString("rest")
	hold, held := make(chan struct{}), make(chan struct{})
	var c collect
	c.onTake = func() {
		if len(c.batches) == 1 {
			close(held)
			<-hold
		}
	}
	done := make(chan error)
	go func() { done <- Pump(t.Context(), 0, &c, Input{File: r, Stream: Stdout}) }()
	writeEnd := w.Fd()
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		data := input.Bytes()
		write(t, w, string(data[:100]))
		<-held
		write(t, w, string(data[100:]))
		w.Close()
	}()
	<-held
	fillsUp(t, writeEnd)
	close(hold)
	<-wrote
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(c.bytes[Stdout], input.Bytes()) {
		t.Errorf("got %d bytes, want the %d written", len(c.bytes[Stdout]), input.Len())
	}
}

// fillsUp waits until another writer has filled the pipe.
func fillsUp(t *testing.T, writeEnd uintptr) {
	t.Helper()
	for {
		poll := []unix.PollFd{{Fd: int32(writeEnd), Events: unix.POLLOUT}}
		n, err := unix.Poll(poll, 0)
		if err != nil && err != unix.EINTR {
			t.Fatal(err)
		}
		if n == 0 && err == nil {
			return
		}
		runtime.Gosched()
	}
}

// An idle Pump holds neither a read buffer nor the buffers of old long lines.
// That it makes no system call while parked is the netpoller's part, and there
// is no count of one goroutine's system calls to test it by.
func TestPumpHoldsLittleWhenIdle(t *testing.T) {
	r, w := pipe(t)
	p := &pump{sink: &collect{}}
	defer p.close()
	if err := p.open(0, []Input{{File: r, Stream: Stdout}}); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{strings.Repeat("x", 9000), "\n"} {
		write(t, w, text)
		p.read(p.sources[0])
	}
	if p.scratch == nil {
		t.Fatal("no read buffer while reading")
	}
	p.idle()
	if p.scratch != nil {
		t.Error("still has a read buffer")
	}
	if s := p.sources[0].splitter; cap(s.part)+cap(s.next) > 1024 {
		t.Errorf("still has %d bytes for lines", cap(s.part)+cap(s.next))
	}
}

func TestPumpLeavesNothingBehind(t *testing.T) {
	descriptors := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	endings := map[string]func(){
		"end of file": func() {
			r, w := pipe(t)
			w.Close()
			Pump(t.Context(), 0, &collect{}, Input{File: r, Stream: Stdout})
		},
		"cancel": func() {
			r, w := pipe(t)
			ctx, cancel := context.WithCancel(t.Context())
			write(t, w, "a\n")
			Pump(ctx, 0, sinkFunc(func([]Piece) { cancel() }), Input{File: r, Stream: Stdout})
			w.Close()
		},
		"read error": func() {
			dir, _ := os.Open(t.TempDir())
			Pump(t.Context(), 0, &collect{}, Input{File: dir, Stream: Stdout})
		},
		"closed input": func() {
			closed, w := pipe(t)
			closed.Close()
			r, w2 := pipe(t)
			Pump(t.Context(), 0, &collect{}, Input{File: closed, Stream: Stdout}, Input{File: r, Stream: Stderr})
			w.Close()
			w2.Close()
		},
		"panic": func() {
			r, w := pipe(t)
			write(t, w, "a\n")
			func() {
				defer func() { recover() }()
				Pump(t.Context(), 0, sinkFunc(func([]Piece) { panic("sink") }), Input{File: r, Stream: Stdout})
			}()
			w.Close()
		},
	}
	endings["end of file"]() // the runtime opens its netpoller at first use
	fds, goroutines := descriptors(), runtime.NumGoroutine()
	for name, end := range endings {
		for range 10 {
			end()
		}
		if n := descriptors(); n != fds {
			t.Errorf("%s: %d descriptors, want %d", name, n, fds)
		}
	}
	for range 1000 {
		runtime.Gosched() // the goroutine of a cancelled context may be at its last step
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		t.Errorf("%d goroutines, want %d", n, goroutines)
	}
}

// slow is a Sink whose first Take waits until it is told to end.
type slow struct {
	collect
	entered chan func()   // goOn of the first Take
	release chan struct{} // ends it
	left    chan struct{} // closed then
}

func (s *slow) Take(batch []Piece, goOn func()) {
	s.collect.Take(batch, nil)
	if len(s.batches) == 1 {
		s.entered <- goOn
		<-s.release
		close(s.left)
	}
}

func TestPumpGoesOnWithoutASlowTake(t *testing.T) {
	for _, end := range []string{"end of file", "cancelled"} {
		t.Run(end, func(t *testing.T) {
			outR, outW := pipe(t)
			errR, errW := pipe(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s := &slow{entered: make(chan func()), release: make(chan struct{}), left: make(chan struct{})}
			ended := make(chan error, 1)
			write(t, outW, "a\nb")
			Start(ctx, 0, s, func(err error) { ended <- err }, Input{File: outR, Stream: Stdout}, Input{File: errR, Stream: Stderr})
			goOn := <-s.entered
			write(t, outW, "c\nd")
			goOn()
			var want error
			if end == "cancelled" {
				cancel()
				want = context.Canceled
			} else {
				outW.Close()
				errW.Close()
			}
			if err := <-ended; err != want {
				t.Errorf("ended with %v, want %v", err, want)
			}
			wantBatches(t, &s.collect, "stdout:a", "stdout:bc", "stdout:d+")
			close(s.release)
			<-s.left
		})
	}
}
