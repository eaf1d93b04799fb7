package main

import (
	"bytes"
	"fmt"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// firstFile is the descriptor of the first file that a role is handed.
const firstFile = 3

func rawWrite(fd int, p []byte) (int, syscall.Errno) {
	n, _, err := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	return int(n), err
}

// measured has do run and reports what it took.
func measured(do func(r *report) error) (r report, err error) {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return r, fmt.Errorf("cannot have exact timers: %w", err)
	}
	before := used()
	r.Began = now()
	err = do(&r)
	r.Ended, r.CPU = now(), used()-before
	return r, err
}

// writeBulk writes lines as fast as they are taken, to each file so many bytes.
func writeBulk(o order) (report, error) {
	pieces := o.Load.pieces(block(o.Load.Kind))
	var lines []int
	for _, p := range pieces {
		lines = append(lines, bytes.Count(p, []byte{'\n'}))
	}
	return measured(func(r *report) error {
		for fd := range o.Files {
			left := o.Bytes
			for i := 0; left > 0; i = (i + 1) % len(pieces) {
				if err := write(firstFile+fd, pieces[i]); err != nil {
					return err
				}
				left -= len(pieces[i])
				r.Lines += lines[i]
			}
			r.Bytes += o.Bytes - left
		}
		return nil
	})
}

// writePaced writes lines to all files, each at a rate of its own, one write(2)
// for each line. No two are due at the same time.
func writePaced(o order) (report, error) {
	lines := load{Kind: o.Load.Kind, Each: true}.pieces(block(o.Load.Kind))
	gap := time.Second / time.Duration(o.Rate*o.Files)
	return measured(func(r *report) error {
		for end := now() + int64(o.For); now() < end; r.Lines++ {
			due := r.Began + int64(r.Lines)*int64(gap)
			if err := sleepUntil(due); err != nil {
				return err
			}
			line := lines[r.Lines%len(lines)]
			if err := write(firstFile+r.Lines%o.Files, line); err != nil {
				return err
			}
			r.Bytes += len(line)
		}
		return nil
	})
}

// sleepUntil returns at once when that time is past.
func sleepUntil(due int64) error {
	at := unix.NsecToTimespec(due)
	for {
		err := unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &at, nil)
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return fmt.Errorf("cannot sleep: %w", err)
		}
	}
}

// pingLen is the length of a line that has the time of its writing.
const pingLen = 100

// ping is such a line.
func ping(p []byte, sent int64) []byte {
	p = fmt.Appendf(p[:0], "sent %019d ", sent)
	for len(p) < pingLen-1 {
		p = append(p, 'x')
	}
	return append(p, '\n')
}

// writePings writes lines with the time of their writing, at a rate, to a service
// and half a gap later to a plain pipe.
func writePings(o order) (report, error) {
	gap := int64(time.Second) / int64(o.Rate)
	var line [pingLen]byte
	return measured(func(r *report) error {
		for ; r.Lines < o.Lines; r.Lines++ {
			for i := range int64(2) {
				if err := sleepUntil(r.Began + int64(r.Lines)*gap + i*gap/2); err != nil {
					return err
				}
				if err := write(firstFile+int(i), ping(line[:], now())); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
