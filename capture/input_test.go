package capture

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPumpInputKinds(t *testing.T) {
	const text = "one\ntwo\n\nrest"
	for _, tt := range []struct {
		name string
		open func(t *testing.T) *os.File // with text in it, and at its end
		want string
	}{
		{"pipe", func(t *testing.T) *os.File {
			r, w := pipe(t)
			write(t, w, text)
			w.Close()
			return r
		}, text},
		{"pipe in the netpoller", func(t *testing.T) *os.File {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			write(t, w, text)
			w.Close()
			return r
		}, text},
		{"fifo", func(t *testing.T) *os.File {
			path := filepath.Join(t.TempDir(), "fifo")
			if err := unix.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
			w, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			r, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			write(t, w, text)
			w.Close()
			return r
		}, text},
		{"socket", func(t *testing.T) *os.File {
			r, w := socketpair(t)
			write(t, w, text)
			w.Close()
			return r
		}, text},
		{"reset socket", func(t *testing.T) *os.File {
			r, w := socketpair(t)
			write(t, w, text)
			write(t, r, "never read")
			w.Close()
			return r
		}, text},
		{"regular file", func(t *testing.T) *os.File {
			path := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			return f
		}, text},
		{"/dev/null", func(t *testing.T) *os.File {
			f, err := os.Open(os.DevNull)
			if err != nil {
				t.Fatal(err)
			}
			return f
		}, ""},
		{"terminal", func(t *testing.T) *os.File {
			master, slave := terminal(t)
			write(t, slave, text)
			slave.Close()
			return master
		}, "one\r\ntwo\r\n\r\nrest"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c collect
			if err := Pump(t.Context(), 0, &c, Input{File: tt.open(t), Stream: Stderr}); err != nil {
				t.Fatal(err)
			}
			if got := string(c.bytes[Stderr]); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func socketpair(t *testing.T) (a, b *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fds[0]), "a"), os.NewFile(uintptr(fds[1]), "b")
}

func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	master = os.NewFile(uintptr(fd), "/dev/ptmx")
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	return master, slave
}

func TestPumpReadError(t *testing.T) {
	for _, tt := range []struct {
		path string
		want error
	}{
		{"/proc/self", unix.EISDIR},
		{"/proc/self/mem", unix.EIO}, // of a terminal it would be the end
	} {
		t.Run(tt.path, func(t *testing.T) {
			bad, err := os.Open(tt.path)
			if err != nil {
				t.Fatal(err)
			}
			r, w := pipe(t)
			write(t, w, "the other goes on\n")
			w.Close()
			var c collect
			err = Pump(t.Context(), 0, &c, Input{File: bad, Stream: Stdout}, Input{File: r, Stream: Stderr})
			if !errors.Is(err, tt.want) || !strings.HasPrefix(err.Error(), "cannot read stdout: ") {
				t.Errorf("got error %v, want cannot read stdout: %v", err, tt.want)
			}
			wantBatches(t, &c, "stderr:the other goes on")
		})
	}
}

func TestPumpJoinsErrors(t *testing.T) {
	var bad [2]*os.File
	for i, path := range []string{"/proc/self", "/proc/self/mem"} {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		bad[i] = f
	}
	err := Pump(t.Context(), 0, &collect{}, Input{File: bad[0], Stream: Stdout}, Input{File: bad[1], Stream: Stderr})
	if !errors.Is(err, unix.EISDIR) || !errors.Is(err, unix.EIO) {
		t.Errorf("got error %v, want both", err)
	}
	want := "cannot read stdout: is a directory; cannot read stderr: input/output error"
	if err == nil || err.Error() != want {
		t.Errorf("got error %v, want %s", err, want)
	}
}

// An input that cannot be taken over fails the call, and the others are closed.
func TestPumpClosesInputsOnFailure(t *testing.T) {
	closed, _ := pipe(t)
	closed.Close()
	r, w := pipe(t)
	err := Pump(t.Context(), 0, &collect{}, Input{File: closed, Stream: Stdout}, Input{File: r, Stream: Stderr})
	if err == nil || !strings.HasPrefix(err.Error(), "cannot take over stdout: ") {
		t.Errorf("got error %v, want cannot take over stdout", err)
	}
	if _, err := w.WriteString("x"); !errors.Is(err, unix.EPIPE) {
		t.Errorf("writing to the other input: got %v, want EPIPE", err)
	}
}

// The open file may be one that a shell has too: its mode stays, and that it
// stays open elsewhere does not make its end be reported again.
func TestPumpSharedInput(t *testing.T) {
	outR, outW := pipe(t)
	errR, errW := pipe(t)
	other, err := unix.FcntlInt(outR.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(other)
	wantBlocking := func(when string) {
		flags, err := unix.FcntlInt(uintptr(other), unix.F_GETFL, 0)
		if err != nil || flags&unix.O_NONBLOCK != 0 {
			t.Errorf("%s: flags of the input %#x, %v", when, flags, err)
		}
	}
	var c collect
	c.onTake = func() {
		wantBlocking("while read")
		switch len(c.batches) {
		case 1:
			outW.Close()
		case 2:
			write(t, errW, "c\n")
		case 3:
			errW.Close()
		}
	}
	write(t, outW, "a\nb")
	if err := Pump(t.Context(), 0, &c, Input{File: outR, Stream: Stdout}, Input{File: errR, Stream: Stderr}); err != nil {
		t.Fatal(err)
	}
	wantBlocking("in the end")
	wantBatches(t, &c, "stdout:a", "stdout:b+", "stderr:c")
}

// Bytes that another reader of the same pipe took first are not waited for.
func TestSourceReadDoesNotWait(t *testing.T) {
	r, _ := pipe(t)
	s, err := takeOver(Input{File: r, Stream: Stdout}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	n, err := s.readNoWait(make([]byte, 10))
	if err == unix.EOPNOTSUPP {
		t.Skip("this kernel has no RWF_NOWAIT for pipes")
	}
	if err != unix.EAGAIN {
		t.Errorf("reading an empty pipe: got %d, %v, want EAGAIN", n, err)
	}
}

func TestPumpGrowsHotPipes(t *testing.T) {
	size := func(f *os.File) int {
		n, err := unix.FcntlInt(f.Fd(), unix.F_GETPIPE_SZ, 0)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, tt := range []struct {
		name          string
		before, after int
		fill          int
	}{
		{"quiet", 64 << 10, 64 << 10, 4096},
		{"hot", 64 << 10, hotPipe, 64 << 10},
		{"larger already", 1 << 20, 1 << 20, 128 << 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, w := pipe(t)
			if _, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, tt.before); err != nil {
				t.Skipf("cannot set the size of a pipe: %v", err)
			}
			write(t, w, strings.Repeat(strings.Repeat("x", 63)+"\n", tt.fill/64))
			got := 0
			sink := sinkFunc(func([]Piece) { got = size(w); w.Close() })
			if err := Pump(t.Context(), 0, sink, Input{File: r, Stream: Stdout}); err != nil {
				t.Fatal(err)
			}
			if got != tt.after {
				t.Errorf("pipe of %d after a read of %d: got %d, want %d", tt.before, tt.fill, got, tt.after)
			}
		})
	}
}
