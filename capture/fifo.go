package capture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A Fifo is a FIFO that stays open for reading, so that writers come and go and
// none finds nobody there: what they have written waits in it.
//
// The kernel shows the end of the last writer to a descriptor that has known a
// writer, and from then on for ever. So there is one descriptor that only stays,
// one that waits for the next bytes, and for each time that somebody writes one
// whose end is that of the last writer.
type Fifo struct {
	kept *os.File // not in the netpoller: who does not read is not to be woken
}

// NewFifo keeps f open, which it owns from now on. f must be open for reading.
func NewFifo(f *os.File) (*Fifo, error) {
	var st unix.Stat_t
	err := unix.Fstat(int(f.Fd()), &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFIFO {
		err = errors.New("it is no FIFO")
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot read %q as a FIFO: %w", f.Name(), err)
	}
	return &Fifo{f}, nil
}

// Close lets writers find nobody there.
func (f *Fifo) Close() error { return f.kept.Close() }

// Next waits until something was written and returns the input to read it from,
// which ends when it is read empty and nobody has the FIFO open for writing.
// When ctx is done it does not wait, and returns nil if there is nothing.
func (f *Fifo) Next(ctx context.Context) (*os.File, error) {
	for {
		switch something, err := f.await(ctx); {
		case err != nil:
			return nil, err
		case something:
			return f.input()
		case ctx.Err() != nil:
			return nil, nil
		}
	}
}

// await returns true if there is something to read, and false if ctx is done, or
// somebody has come and gone without a word.
func (f *Fifo) await(ctx context.Context) (something bool, err error) {
	fd, err := f.open(unix.O_RDONLY)
	if err != nil {
		return false, err
	}
	waiting := os.NewFile(uintptr(fd), f.kept.Name())
	defer waiting.Close()
	conn, err := waiting.SyscallConn()
	if err != nil {
		return false, err
	}
	defer context.AfterFunc(ctx, func() { waiting.SetReadDeadline(time.Unix(1, 0)) })()
	look := func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, 0); err != nil {
			return false
		}
		something = fds[0].Revents&unix.POLLIN != 0
		return fds[0].Revents != 0
	}
	err = conn.Read(look)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = conn.Control(func(fd uintptr) { look(fd) })
	}
	return something, err
}

// input opens the FIFO in such a way that the end of its last writer is seen: one
// that was there before this one would not count. So there is one meanwhile.
func (f *Fifo) input() (*os.File, error) {
	w, err := f.open(unix.O_WRONLY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(w)
	r, err := f.open(unix.O_RDONLY)
	if err == nil {
		err = unix.SetNonblock(r, false)
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(r), f.kept.Name()), nil
}

// open opens the same FIFO once more, whatever has its name now.
func (f *Fifo) open(how int) (int, error) {
	same := fmt.Sprintf("/proc/self/fd/%d", f.kept.Fd())
	fd, err := unix.Open(same, how|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("cannot open FIFO %q once more: %w", f.kept.Name(), err)
	}
	return fd, nil
}
