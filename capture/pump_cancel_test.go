package capture

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPumpCancelWhileParked(t *testing.T) {
	outR, outW := pipe(t)
	errR, errW := pipe(t)
	ctx, cancel := context.WithCancel(t.Context())
	taken := make(chan struct{}, 1)
	c := collect{onTake: func() { taken <- struct{}{} }}
	done := make(chan error)
	go func() { done <- Pump(ctx, 0, &c, Input{File: outR, Stream: Stdout}, Input{File: errR, Stream: Stderr}) }()
	write(t, outW, "a\nunfinished")
	<-taken
	cancel()
	if err := <-done; err != context.Canceled {
		t.Errorf("got error %v, want %v", err, context.Canceled)
	}
	wantBatches(t, &c, "stdout:a", "stdout:unfinished+")
	for _, w := range []*os.File{outW, errW} {
		if _, err := w.WriteString("x"); !errors.Is(err, unix.EPIPE) {
			t.Errorf("writing after the end: got %v, want EPIPE", err)
		}
	}
}

func TestPumpCancelTakesWhatIsThere(t *testing.T) {
	outR, outW := pipe(t)
	errR, errW := pipe(t)
	ctx, cancel := context.WithCancel(t.Context())
	write(t, outW, "a\n")
	var c collect
	c.onTake = func() {
		if len(c.batches) == 1 {
			write(t, outW, "b\nc")
			write(t, errW, "d\n")
			cancel()
		}
	}
	err := Pump(ctx, 0, &c, Input{File: outR, Stream: Stdout}, Input{File: errR, Stream: Stderr})
	if err != context.Canceled {
		t.Errorf("got error %v, want %v", err, context.Canceled)
	}
	slices.Sort(c.batches[1:])
	wantBatches(t, &c, "stdout:a", "stderr:d", "stdout:b", "stdout:c+")
}

// What was written before the interrupt, and not read yet, is taken after it.
func TestPumpDrainsAfterInterrupt(t *testing.T) {
	outR, outW := pipe(t)
	errR, errW := pipe(t)
	var c collect
	ctx, cancel := context.WithCancel(t.Context())
	var err error
	p := begin(ctx, 0, &c, func(e error) { err = e }, []Input{{File: outR, Stream: Stdout}, {File: errR, Stream: Stderr}})
	if p == nil {
		t.Fatal(err)
	}
	write(t, errW, "a\n")
	write(t, outW, "b\nc")
	cancel()
	p.watcher.interrupt()
	if p.work(0); err != context.Canceled {
		t.Errorf("got error %v, want %v", err, context.Canceled)
	}
	wantBatches(t, &c, "stderr:a", "stdout:b", "stdout:c+")
}

func TestPumpCancelledBefore(t *testing.T) {
	r, w := pipe(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	write(t, w, "a\nb")
	var c collect
	if err := Pump(ctx, 0, &c, Input{File: r, Stream: Stdout}); err != context.Canceled {
		t.Errorf("got error %v, want %v", err, context.Canceled)
	}
	wantBatches(t, &c, "stdout:a", "stdout:b+")
}

// A file without end, or a service that never stops writing, cannot hold up
// the end.
func TestPumpCancelIsBounded(t *testing.T) {
	t.Run("file", func(t *testing.T) {
		zero, err := os.Open("/dev/zero")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		sink := sinkFunc(func([]Piece) { cancel() })
		if err := Pump(ctx, 0, sink, Input{File: zero, Stream: Stdout}); err != context.Canceled {
			t.Errorf("got error %v, want %v", err, context.Canceled)
		}
	})
	t.Run("pipe", func(t *testing.T) {
		r, w := pipe(t)
		lines := strings.Repeat(strings.Repeat("x", 63)+"\n", 512)
		taken := 0
		sink := sinkFunc(func(batch []Piece) {
			taken += 64 * len(batch)
			write(t, w, lines)
		})
		p := begin(t.Context(), 0, sink, func(error) {}, []Input{{File: r, Stream: Stdout}})
		if p == nil {
			t.Fatal("cannot begin")
		}
		p.phase = draining
		write(t, w, lines)
		p.work(0)
		if taken < drainBytes || taken > drainBytes+readSize {
			t.Errorf("took %d bytes, want %d and little more", taken, drainBytes)
		}
		if _, err := w.WriteString("x"); !errors.Is(err, unix.EPIPE) {
			t.Errorf("writing after the drain: got %v, want EPIPE", err)
		}
	})
}
