package capture

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"testing"
)

// A fast writer of short lines is read every now and then, and all of it; when it
// falls silent its input is watched again, so that the next line comes at once.
func TestHotInputIsReadNowAndThen(t *testing.T) {
	r, w := pipe(t)
	var got bytes.Buffer
	var batches atomic.Int64
	news := make(chan int, 1<<16)
	sink := sinkFunc(func(batch []Piece) {
		batches.Add(1)
		for _, p := range batch {
			fmt.Fprintf(&got, "%s\n", p.Text)
		}
		news <- got.Len()
	})
	done := make(chan error)
	go func() { done <- Pump(t.Context(), 0, sink, Input{File: r, Stream: Stdout}) }()
	var want bytes.Buffer
	const lines = 20_000
	for i := range lines {
		line := fmt.Sprintf("line %d\n", i)
		want.WriteString(line)
		write(t, w, line)
	}
	for n := range news {
		if n == want.Len() {
			break
		}
	}
	hot := batches.Load()
	for i := range 3 { // cold again, whatever it takes to become so
		line := fmt.Sprintf("late %d\n", i)
		want.WriteString(line)
		write(t, w, line)
		<-news
	}
	w.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got.String() != want.String() {
		t.Error("lines differ")
	}
	if hot > lines/4 {
		t.Errorf("%d lines came in %d batches", lines, hot)
	}
	t.Logf("%d lines in %d batches", lines, hot)
}

// A hot input does not keep a cancelled Pump: it takes what is there, and ends.
func TestHotInputIsDrained(t *testing.T) {
	r, w := pipe(t)
	defer r.Close()
	kept := dup(t, r) // so that the writer gets no error
	defer kept.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	lines := 0
	sink := sinkFunc(func(batch []Piece) { lines += len(batch) })
	done := make(chan error, 1)
	go func() { done <- Pump(ctx, 0, sink, Input{File: r, Stream: Stdout}) }()
	const all = 5000
	for range all {
		write(t, w, "line\n")
	}
	cancel()
	if err := <-done; err != context.Canceled {
		t.Error(err)
	}
	if lines != all {
		t.Errorf("%d lines taken, want %d", lines, all)
	}
}
