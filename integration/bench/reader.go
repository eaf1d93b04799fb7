package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// readSize is what cat asks for.
const readSize = 128 << 10

// openFile is open(2) without Go's poller, so that reads of the file block.
func openFile(path string) (int, error) {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("cannot open %q: %w", path, err)
	}
	return fd, nil
}

// warmUp is how many lines each reader hears first that are not counted.
const warmUp = 20

// hear listens to the plain pipe that is its standard input and with so many
// readers to a file, until each has heard so many pings, and reports how long they
// took. Each reader is a thread that blocks in read(2).
func hear(o order) (report, error) {
	runtime.GOMAXPROCS(o.Readers + 4) // who returns from read(2) finds a processor
	fds := []int{0}
	for range o.Readers {
		fd, err := openFile(o.Path)
		if err != nil {
			return report{}, err
		}
		fds = append(fds, fd)
	}
	times, errs := make([][]float64, len(fds)), make([]error, len(fds))
	var all sync.WaitGroup
	for i, fd := range fds {
		all.Go(func() { times[i], errs[i] = hearPings(fd, o.Lines) })
	}
	all.Wait()
	r := report{Times: map[string][]float64{"pipe": times[0], "follow": slices.Concat(times[1:]...)}}
	for _, t := range r.Times {
		slices.Sort(t)
	}
	return r, firstOf(errs)
}

func firstOf(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// hearPings reads until it has heard so many pings, and returns the times between
// the write of each and the return of the read that brought it.
func hearPings(fd, lines int) ([]float64, error) {
	times := make([]float64, 0, lines)
	buf := make([]byte, 16<<10)
	for len(times) < lines {
		n, err := readSome(fd, buf)
		at := now()
		if n <= 0 {
			return nil, fmt.Errorf("a reader has heard %d of %d lines: %v", len(times), lines, err)
		}
		for line := range bytes.Lines(buf[:n]) {
			if sent, ok := pinged(line); ok {
				times = append(times, float64(at-sent)/1000)
			}
		}
	}
	return times[min(warmUp, lines/2):], nil
}

// pinged returns when a ping was written, and whether the line is one.
func pinged(line []byte) (sent int64, ok bool) {
	const head = "sent "
	if len(line) != pingLen || !bytes.HasPrefix(line, []byte(head)) {
		return 0, false
	}
	sent, err := strconv.ParseInt(string(line[len(head):len(head)+19]), 10, 64)
	return sent, err == nil
}

// heard is what the readers of listen have had so far.
type heard struct{ bytes, satisfied atomic.Int64 }

// listen reads a file with so many threads, each blocked in read(2), until its
// standard input ends. It reports what they had, and before that when each of them has
// read so many bytes, if that is asked.
func listen(o order) (report, error) {
	debug.SetMaxThreads(o.Readers + 1000)
	var h heard
	done := make(chan struct{})
	buf := make([]byte, readSize) // for all of them: nobody looks at it
	for range o.Readers {
		fd, err := openFile(o.Path)
		if err != nil {
			return report{}, err
		}
		go func() {
			if h.listen(fd, o.Bytes, buf) == int64(o.Readers) {
				close(done)
			}
			for h.take(fd, buf) > 0 {
			}
		}()
	}
	go func() {
		if <-done; o.Bytes == 0 {
			return
		}
		_ = json.NewEncoder(os.Stdout).Encode(h.report()) // who does not hear it sees the end
	}()
	_, err := io.Copy(io.Discard, os.Stdin)
	return h.report(), err
}

// listen returns when one reader has read so many bytes, and how many readers have.
func (h *heard) listen(fd, want int, buf []byte) int64 {
	for got := 0; got < want; {
		n := h.take(fd, buf)
		if n <= 0 {
			return 0
		}
		got += n
	}
	return h.satisfied.Add(1)
}

// take is one read(2), as the kernel has it: for the race detector it would matter
// that all readers have the same buffer.
func (h *heard) take(fd int, buf []byte) int {
	for {
		n, _, err := syscall.Syscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)))
		if err == syscall.EINTR {
			continue
		}
		if err != 0 {
			return 0 // an end, which is seen by what is missing
		}
		h.bytes.Add(int64(n))
		return int(n)
	}
}

func (h *heard) report() report {
	return report{Bytes: int(h.bytes.Load()), CPU: used()}
}

// copyAll reads a file from start to end, so many times.
func copyAll(o order) (report, error) {
	buf := make([]byte, readSize)
	return measured(func(r *report) error {
		for range o.Files {
			fd, err := openFile(o.Path)
			if err != nil {
				return err
			}
			for {
				n, err := readSome(fd, buf)
				if err != nil {
					return fmt.Errorf("cannot read %q: %w", o.Path, err)
				}
				if r.Bytes += n; n == 0 {
					break
				}
			}
			syscall.Close(fd)
		}
		return nil
	})
}

// fstats asks so many times for the attributes of a file, as tail -f does.
func fstats(o order) (report, error) {
	fd, err := openFile(o.Path)
	if err != nil {
		return report{}, err
	}
	return measured(func(r *report) error {
		var st syscall.Stat_t
		for ; r.Lines < o.Lines; r.Lines++ {
			if err := syscall.Fstat(fd, &st); err != nil {
				return fmt.Errorf("cannot stat: %w", err)
			}
		}
		return nil
	})
}
