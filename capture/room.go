package capture

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

func (h *Hold) room(s Stream) []byte {
	from := holdHead + int(s-1)*holdRoom
	return h.mem[from : from+holdRoom]
}

// errNoSplice says that an input cannot be moved, only read.
var errNoSplice = errors.New("cannot splice")

// errFull cannot happen while lines are taken before more is read.
var errFull = errors.New("no room to hold lines")

// read moves what fd holds into the room of s, and copies it to buf: the other
// process can change what is in the room. No bytes are the end of the input; the
// error is unix.EAGAIN if there is nothing.
func (h *Hold) read(s Stream, fd int, buf []byte) (int, error) {
	h.begin(s)
	room := min(h.makeRoom(s), len(buf))
	if room == 0 {
		return 0, errFull
	}
	n, err := unix.Splice(fd, nil, h.w, nil, room, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return 0, h.nothing()
	case err != nil:
		return 0, errNoSplice
	case n == 0:
		return 0, nil
	}
	h.step("moved")
	h.mu.Lock()
	defer h.mu.Unlock()
	span := &h.note.Spans[s-1]
	from := span.End
	span.Expect = span.End + uint64(n)
	h.flip()
	if err := h.drain(s); err != nil {
		return 0, err
	}
	return copy(buf, h.room(s)[from:span.End]), nil
}

// nothing is the error when nothing could be moved.
func (h *Hold) nothing() error {
	if left, err := unix.IoctlGetInt(h.r, unix.TIOCINQ); err == nil && left > 0 {
		return errors.New("somebody else writes to the pipe that holds lines")
	}
	return unix.EAGAIN
}

// begin notes whose bytes the pipe gets, and that those before have been read from
// it: else what a dead process leaves there would be taken for these.
func (h *Hold) begin(s Stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.note.Mover != uint64(s) || h.note.Spans[s-1].End != h.noted[s-1] {
		h.note.Mover = uint64(s)
		h.flip()
	}
}

// drain reads the pipe up to what is expected.
func (h *Hold) drain(s Stream) error {
	span := &h.note.Spans[s-1]
	for span.End < span.Expect {
		n, err := unix.Read(h.r, h.room(s)[span.End:span.Expect])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("cannot read the pipe that holds lines: %w", err)
		case n <= 0:
			return errors.New("cannot read the pipe that holds lines: it is empty")
		default:
			span.End += uint64(n)
			h.step("drained")
		}
	}
	return nil
}

// makeRoom moves what is needed to the front, where that overwrites nothing, and
// returns how much may be read. When the room is full of lines that wait for a
// disk, the oldest are given up here.
func (h *Hold) makeRoom(s Stream) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	span := &h.note.Spans[s-1]
	for {
		n := span.End - span.Start
		if n == 0 || span.End > holdWarm && n <= span.Start {
			h.toFront(s)
		}
		room := holdRoom - int(span.End)
		if room >= readSize/4 || !h.giveUp(s) {
			return min(readSize, room)
		}
		h.flip()
	}
}

func (h *Hold) toFront(s Stream) {
	span := &h.note.Spans[s-1]
	if span.Start == 0 {
		return
	}
	room := h.room(s)
	back := span.Start
	copy(room, room[back:span.End])
	h.step("copied")
	span.Start, span.End, span.Expect = 0, span.End-back, span.End-back
	for i, b := range h.batches() {
		if b.Doing == Doing(s) {
			h.note.Batches[i].Taken -= back
		}
	}
	h.flip()
}

// add takes bytes, at most as many as makeRoom has said, that were read without
// the pipe.
func (h *Hold) add(s Stream, text []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	span := &h.note.Spans[s-1]
	span.End += uint64(copy(h.room(s)[span.End:], text))
	span.Expect = span.End
	h.flip()
}

// grow gives the pipe the size of a hot input.
func (h *Hold) grow() {
	if h.lock() {
		unix.FcntlInt(uintptr(h.w), unix.F_SETPIPE_SZ, hotPipe)
		h.mu.Unlock()
	}
}

// cool gives memory back that only a busy stream needs.
func (h *Hold) cool() {
	if !h.lock() {
		return
	}
	defer h.mu.Unlock()
	for i := range h.note.Spans {
		span := &h.note.Spans[i]
		if span.End <= holdWarm || span.Start < span.End {
			continue
		}
		room := h.room(Stream(i + 1))
		h.toFront(Stream(i + 1))
		_ = unix.Madvise(room[holdWarm:], unix.MADV_REMOVE) // costs memory only
	}
}
