package capture

import (
	"context"
	"encoding/binary"
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FuzzHold opens memory in which somebody has written what he liked, with anything
// in the pipe, and goes on with it.
func FuzzHold(f *testing.F) {
	f.Add([]byte{}, []byte{}, uint16(0), uint16(0))
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9}, []byte("one\ntwo"), uint16(3), uint16(5))
	for _, s := range []scenario{scenarios["disk late"], scenarios["in parts"]} {
		for _, death := range []int{20, 50, 100, 150} {
			memory, pipe := leftBy(f, &s, death)
			f.Add(memory, pipe, uint16(4), uint16(9))
		}
	}
	f.Fuzz(func(t *testing.T, memory, pipe []byte, have, next uint16) {
		hold, err := NewHold()
		if err != nil {
			t.Fatal(err)
		}
		defer closeFiles(hold)
		if err := unix.SetNonblock(int(hold[2].Fd()), true); err != nil {
			t.Fatal(err)
		}
		_, _ = unix.Write(int(hold[2].Fd()), pipe)
		writeNote(hold[0], memory)
		Waiting(hold, nil)
		h, err := OpenHold([]*os.File{dup(t, hold[0]), dup(t, hold[1]), dup(t, hold[2])})
		if err != nil {
			return
		}
		defer h.Close()
		h.Unstored()
		h.Recover(uint64(have), max(uint64(have), uint64(next)))
		h.Starting(1, 1)
		h.Begin(StartMark, 1000, 1001, nil)
		goOnWith(t, h)
	})
}

// writeNote makes a note of words that are mostly small, or near something that
// matters.
func writeNote(f *os.File, b []byte) {
	words := make([]byte, 0, unsafe.Sizeof(note{}))
	for len(b) >= 2 && len(words) < cap(words) {
		v := uint64(binary.LittleEndian.Uint16(b))
		switch {
		case v >= 0xfff0:
			v = ^uint64(0) - 0xffff + v
		case v >= 0xff00:
			v = maxNumber + v - 0xff80
		case v >= 0xfe00:
			v = holdRoom + v - 0xfe80
		}
		words = binary.LittleEndian.AppendUint64(words, v)
		b = b[2:]
	}
	_, _ = f.WriteAt([]byte(holdMagic), 0)
	_, _ = f.WriteAt(words, noteAt)
}

// goOnWith writes to both inputs and has them end.
func goOnWith(t testing.TB, h *Hold) {
	var inputs []Input
	for s := Stdout; s <= Stderr; s++ {
		r, w := pipe(t)
		write(t, w, "a\nlonger than eight\nb")
		w.Close()
		inputs = append(inputs, Input{File: r, Stream: s, Hold: h})
	}
	next := uint64(1001)
	sink := sinkFunc(func(batch []Piece) {
		for len(batch) > 0 {
			n := (len(batch) + 1) / 2
			h.Begin(Doing(batch[0].Stream), next, next+uint64(n), batch[n:])
			batch = batch[n:]
			if next += uint64(n); next%3 == 0 {
				h.Stored(next)
			}
		}
	})
	_ = Pump(context.Background(), 8, sink, inputs...)
	h.Begin(ExitMark, next, next+1, nil)
	h.cool()
}

// leftBy is what a process leaves that dies after so many steps, as words that
// writeNote makes the same note of.
func leftBy(t testing.TB, s *scenario, death int) (memory, pipe []byte) {
	w := newWorld(t, s, []int{death})
	defer w.close()
	p := &process{world: w, death: death}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.live()
	buf := make([]byte, holdHead)
	if _, err := w.hold[0].ReadAt(buf, 0); err != nil {
		t.Fatal(err)
	}
	h := Hold{mem: buf}
	words := unsafe.Slice((*uint64)(unsafe.Pointer(h.slot(h.active().Load()))), unsafe.Sizeof(note{})/8)
	for _, v := range words {
		memory = binary.LittleEndian.AppendUint16(memory, uint16(v))
	}
	pipe = make([]byte, 100)
	n, _ := unix.Read(int(w.hold[1].Fd()), pipe[:min(len(pipe), waitingIn(w.hold[1]))])
	return memory, pipe[:max(n, 0)]
}

func waitingIn(f *os.File) int {
	n, _ := unix.IoctlGetInt(int(f.Fd()), unix.TIOCINQ)
	return n
}
