package fs

import (
	"bytes"
	"strings"
	"syscall"
	"testing"

	"logfs/ring"
	"logfs/ring/record"
)

// A blockedReader reads follow again and again, each time blocked in read(2).
type blockedReader struct {
	m    *mounted
	got  chan int // bytes, of each read
	done chan struct{}
}

func (m *mounted) blockReader(t testing.TB) *blockedReader {
	t.Helper()
	fd, err := syscall.Open(m.path("follow"), syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	r := &blockedReader{m: m, got: make(chan int), done: make(chan struct{})}
	go func() {
		defer close(r.done)
		defer syscall.Close(fd)
		buf := make([]byte, 4096)
		for {
			n, err := syscall.Read(fd, buf)
			if err == syscall.EINTR {
				continue
			}
			if r.got <- n; n <= 0 || err != nil {
				return
			}
		}
	}()
	return r
}

// A line that wakes a follower allocates nothing: neither where it is appended
// and the reader answered, nor where he waits again.
func TestWakingAllocatesNothing(t *testing.T) {
	m := mountWeb(t, ring.Limits{Lines: 100, Bytes: 64 << 10})
	text := bytes.Repeat([]byte{'x'}, 99)
	r := m.blockReader(t)
	<-m.parks
	line := func() {
		b := m.ring.Begin()
		b.Add(m.stamp, record.Out, false, text)
		b.Commit()
		m.e.Wake()
		if n := <-r.got; n != 100 {
			t.Errorf("a blocked read got %d bytes, want 100", n)
		}
		<-m.parks
	}
	for range 150 {
		line()
	}
	if n := testing.AllocsPerRun(300, line); n != 0 {
		t.Errorf("%v allocations for each line that wakes a follower", n)
	}
	m.s.Close()
	if n := <-r.got; n != 0 {
		t.Errorf("the last read got %d bytes, want the end", n)
	}
	<-r.done
}

// BenchmarkRead reads a full ring through the mount, from start to end, 128 KiB at
// once. The time is that of the reader and of the server together.
func BenchmarkRead(b *testing.B) {
	m := mountWeb(b, ring.Limits{Lines: 1 << 20})
	line := "o " + strings.Repeat("x", 99)
	for range ring.DefaultBytes / 100 {
		m.say(line)
	}
	for _, name := range []string{"current", "seq", "stdout/current"} {
		b.Run(name, func(b *testing.B) {
			buf := make([]byte, maxPayload)
			b.SetBytes(int64(m.readThrough(b, name, buf)))
			b.ReportAllocs()
			for b.Loop() {
				m.readThrough(b, name, buf)
			}
		})
	}
}

// readThrough returns how many bytes a file has.
func (m *mounted) readThrough(b *testing.B, name string, buf []byte) (size int) {
	fd, err := syscall.Open(m.path(name), syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer syscall.Close(fd)
	for {
		n, err := uninterrupted(func() (int, error) { return syscall.Read(fd, buf) })
		if err != nil {
			b.Fatal(err)
		}
		if size += n; n == 0 {
			return size
		}
	}
}

// BenchmarkWake is a line on its way to a reader who is blocked, until he has it
// and waits again. Lines come faster than readers are woken at once, so the time
// is mostly a pause; what it allocates counts.
func BenchmarkWake(b *testing.B) {
	m := mountWeb(b, ring.Limits{})
	r := m.blockReader(b)
	<-m.parks
	b.ReportAllocs()
	for b.Loop() {
		m.say("o GET /health 200")
		<-r.got
		<-m.parks
	}
	m.s.Close()
	<-r.got
	<-r.done
}
