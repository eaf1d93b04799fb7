package capture

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// newFifo is a FIFO and its path.
func newFifo(t *testing.T) (*Fifo, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f, err := NewFifo(os.NewFile(uintptr(fd), path))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, path
}

func writer(t *testing.T, path string) *os.File {
	t.Helper()
	w, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// take reads the FIFO until its last writer has gone.
func take(t *testing.T, f *Fifo) []string {
	t.Helper()
	in, err := f.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var c collect
	if err := Pump(t.Context(), 0, &c, Input{File: in, Stream: Stdout}); err != nil {
		t.Fatal(err)
	}
	return c.batches
}

// An input ends when the last writer has gone, also one that had gone before
// the input was made, and the next one begins with what comes then.
func TestFifo(t *testing.T) {
	f, path := newFifo(t)
	w := writer(t, path)
	write(t, w, "one\nunfin")
	w.Close()
	first := take(t, f)

	a, b := writer(t, path), writer(t, path)
	write(t, a, "two\n")
	a.Close()
	in, err := f.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var c collect
	c.onTake = func() {
		if len(c.batches) == 1 {
			write(t, b, "three")
			b.Close()
		}
	}
	if err := Pump(t.Context(), 0, &c, Input{File: in, Stream: Stdout}); err != nil {
		t.Fatal(err)
	}
	got := slices.Concat(first, c.batches)
	want := []string{"stdout:one", "stdout:unfin+", "stdout:two", "stdout:three+"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Who opens the FIFO and says nothing is no input.
func TestFifoWaits(t *testing.T) {
	f, path := newFifo(t)
	type answer struct {
		in  *os.File
		err error
	}
	answers := make(chan answer)
	go func() {
		in, err := f.Next(t.Context())
		answers <- answer{in, err}
	}()
	for range 100 {
		writer(t, path).Close()
	}
	silent := writer(t, path)
	defer silent.Close()
	w := writer(t, path)
	write(t, w, "word\n")
	a := <-answers
	if a.err != nil {
		t.Fatal(a.err)
	}
	defer a.in.Close()
	buf := make([]byte, 10)
	if n, err := unix.Read(int(a.in.Fd()), buf); string(buf[:max(n, 0)]) != "word\n" {
		t.Errorf("read %q, %v", buf[:max(n, 0)], err)
	}
}

// When the time is over, what is there is still given out, and nothing is waited
// for.
func TestFifoEnds(t *testing.T) {
	f, path := newFifo(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan *os.File)
	go func() {
		in, _ := f.Next(ctx)
		ended <- in
	}()
	cancel()
	if in := <-ended; in != nil {
		t.Fatal("an input of nothing")
	}
	w := writer(t, path)
	write(t, w, "last\n")
	w.Close()
	in, err := f.Next(ctx)
	if err != nil || in == nil {
		t.Fatalf("got %v, %v; want what is there", in, err)
	}
	in.Close()
}

func TestFifoIsNothingElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewFifo(file); err == nil || !strings.Contains(err.Error(), "is no FIFO") {
		t.Errorf("got %v", err)
	}
}
