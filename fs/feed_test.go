package fs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"logfs/ring"
	"logfs/ring/record"

	"golang.org/x/sys/unix"
)

// pread is one pread(2), from a goroutine of its own.
func (r *reader) pread(n int, off int64) <-chan string {
	got := make(chan string, 1)
	go func() {
		b := make([]byte, n)
		n, err := uninterrupted(func() (int, error) { return syscall.Pread(r.fd, b, off) })
		if err != nil {
			got <- err.Error()
			return
		}
		got <- string(b[:n])
	}()
	return got
}

// sayLong says lines that are longer than a view takes those to have been that
// it has not seen.
func (m *mounted) sayLong(from, to int) (said string) {
	var b strings.Builder
	for i := from; i <= to; i++ {
		l := fmt.Sprintf("long %d %s", i, strings.Repeat("z", 300))
		m.say("o " + l)
		b.WriteString(l + "\n")
	}
	return b.String()
}

// Threads that read one file at many places, all of them on disk, do not take
// what was loaded for each other away.
func TestParallelReadsFromDisk(t *testing.T) {
	m := mountWith(t, ring.Limits{Lines: 100, Bytes: 1 << 20}, &files{})
	m.count(1, 1)
	r := m.open(t, "follow", 0)
	r.wants(7, "line 1\n")
	m.count(2, 20_000)
	want := counted(1, 20_000)
	for range 3 {
		var all []<-chan string
		var offs []int64
		for i := range int64(4 * maxPasses) {
			off := 7 + i*9973%int64(len(want)-6000)
			offs, all = append(offs, off), append(all, r.pread(4000, off))
		}
		for i, got := range all {
			s := soon(t, got)
			if s == "" || !strings.HasPrefix(want[offs[i]:], s) {
				t.Fatalf("at %d: %d bytes, %.60q, want %.60q", offs[i], len(s), s, want[offs[i]:])
			}
		}
	}
	differ(t, r.until(4096, "line 20000\n"), want[7:])
}

// Somebody who reads elsewhere does not end the read of one who waits.
func TestReadElsewhereLeavesTheBlockedOneAlone(t *testing.T) {
	m := mountWeb(t, ring.Limits{})
	m.say("o one", "o two")
	r := m.open(t, "stdout/follow", 0)
	r.wants(100, "one\ntwo\n")
	got := r.readAsync(m, 100)
	if s := soon(t, r.pread(4, 0)); s != "one\n" {
		t.Errorf("pread at 0: %q", s)
	}
	m.say("e for others") // he is looked at, and has to wait on
	m.say("o three")
	if s := soon(t, got); s != "three\n" {
		t.Errorf("the blocked read got %q", s)
	}
}

// An event loop never waits in read: not for the disk either.
func TestPollingReaderDoesNotWaitForTheDisk(t *testing.T) {
	for _, edge := range []uint32{0, unix.EPOLLET} {
		stuck := make(chan struct{})
		m := mountWith(t, ring.Limits{Lines: 100, Bytes: 1 << 20}, &files{stuck: stuck})
		m.count(1, 1)
		r := m.open(t, "follow", syscall.O_NONBLOCK)
		ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(ep)
		r.register(ep, unix.EPOLLIN|edge)
		r.wants(100, "line 1\n")
		m.count(2, 3000)
		read := make(chan string, 1)
		go func() {
			_, err := syscall.Read(r.fd, make([]byte, 100))
			read <- fmt.Sprint(err)
		}()
		if got := soon(t, read); got != syscall.EAGAIN.Error() {
			t.Errorf("read while the disk is stuck: %s, want EAGAIN", got)
		}
		if r.ready(t) {
			t.Error("poll says ready while the disk is stuck")
		}
		close(stuck)
		differ(t, r.loop(ep, "line 3000\n"), counted(2, 3000))
		if r.ready(t) {
			t.Error("poll says ready at the end")
		}
		m.say("o live")
		if got := r.loop(ep, "live\n"); got != "live\n" {
			t.Errorf("back in the ring: %q", got)
		}
	}
}

// register is epoll_ctl(2), in which the kernel asks this very process whether
// the file is ready: unlike unix.EpollCtl it lets the runtime go on meanwhile.
func (r *reader) register(ep int, events uint32) {
	r.t.Helper()
	e := unix.EpollEvent{Events: events}
	_, _, errno := unix.Syscall6(unix.SYS_EPOLL_CTL, uintptr(ep), unix.EPOLL_CTL_ADD, uintptr(r.fd), uintptr(unsafe.Pointer(&e)), 0, 0)
	if errno != 0 {
		r.t.Fatal(errno)
	}
}

// loop reads as an event loop does until what was read ends with want: waits
// for an event, and then reads until EAGAIN.
func (r *reader) loop(ep int, want string) (got string) {
	r.t.Helper()
	b := make([]byte, 5000)
	for {
		n, err := syscall.Read(r.fd, b)
		switch {
		case n > 0:
			got += string(b[:n])
		case err != syscall.EAGAIN:
			r.t.Fatalf("read: %d, %v after %d bytes", n, err, len(got))
		case strings.HasSuffix(got, want):
			return got
		default:
			n, err := uninterrupted(func() (int, error) { return unix.EpollWait(ep, make([]unix.EpollEvent, 1), 10_000) })
			if n != 1 {
				r.t.Fatalf("no event within 10 s (%v) after %d bytes", err, len(got))
			}
		}
	}
}

// Who blocks in poll is told when the lines are there, and then read does not
// wait for the disk.
func TestPollWaitsForTheDisk(t *testing.T) {
	stuck := make(chan struct{})
	m := mountWith(t, ring.Limits{Lines: 100, Bytes: 1 << 20}, &files{stuck: stuck})
	m.count(1, 1)
	r := m.open(t, "follow", 0)
	r.wants(100, "line 1\n")
	m.count(2, 3000)
	if r.ready(t) {
		t.Error("poll says ready while the disk is stuck")
	}
	close(stuck)
	fds := []unix.PollFd{{Fd: int32(r.fd), Events: unix.POLLIN}}
	if n, err := uninterrupted(func() (int, error) { return unix.Poll(fds, 10_000) }); n != 1 {
		t.Fatalf("poll: %d, %v", n, err)
	}
	differ(t, r.until(4096, "line 3000\n"), counted(2, 3000))
}

// A service that is removed has an end, which a reader who polls comes to when
// he has read what is on disk, and not before.
func TestPollOfARemovedServiceWaitsForTheDisk(t *testing.T) {
	stuck := make(chan struct{})
	m := mountWith(t, ring.Limits{Lines: 100, Bytes: 1 << 20}, &files{stuck: stuck})
	m.count(1, 1)
	r := m.open(t, "follow", 0)
	r.wants(100, "line 1\n")
	m.count(2, 3000)
	m.s.Remove("web")
	if r.ready(t) {
		t.Error("poll says ready while the disk is stuck")
	}
	close(stuck)
	differ(t, r.until(4096, "line 3000\n"), counted(2, 3000))
	r.wants(100, "")
	if !r.ready(t) {
		t.Error("poll does not see the end")
	}
}

// The numbers of a ring jump where the files it was filled from have a gap.
func TestGapInTheRingIsTold(t *testing.T) {
	m := mountWeb(t, ring.Limits{})
	m.say("= start run=1 pid=7", "o two")
	r := m.open(t, "follow", 0)
	b := m.ring.Begin()
	b.Skip(m.stamp+1, 10, 3)
	b.Commit()
	m.stamp += 2
	m.say("o ten")
	want := "two\n-- web lost 7 lines 3-9 --\nten\n"
	if got := r.until(4096, "ten\n"); !strings.HasSuffix(got, want) {
		t.Errorf("follow: %q, want it to end in %q", got, want)
	}
	if got := m.cat("current"); !strings.HasSuffix(got, want) {
		t.Errorf("current: %q, want it to end in %q", got, want)
	}
	if got := m.cat("seq"); !strings.Contains(got, ",web,3,3-9,=;lost lines=7\n") || !strings.Contains(got, ",web,3,10,o;ten\n") {
		t.Errorf("seq: %q", got)
	}
	if got := m.cat("stdout/current"); got != "two\nten\n" {
		t.Errorf("stdout/current: %q", got)
	}
}

// What a reader was told in the middle of a line stays at its place.
func TestReadingAgainOverWhatWasTold(t *testing.T) {
	var events bytes.Buffer
	m := mountLog(t, ring.Limits{Lines: 100, Bytes: 1 << 20}, &files{}, slog.New(slog.NewTextHandler(&events, nil)))
	m.count(1, 3)
	r := m.open(t, "follow", 0)
	got := r.read(3) // of a line
	m.count(4, 5000)
	m.files.fail(errors.New("the disk is ill"))
	got += r.read(4096)
	m.files.fail(nil)
	if !strings.HasPrefix(got, "lin\n-- web lost ") {
		t.Fatalf("got %q", got)
	}
	for off := range 40 {
		if again := soon(t, r.pread(30, int64(off))); again == "" || !strings.HasPrefix(got[off:], again) {
			t.Errorf("pread at %d: %q, want a part of %q", off, again, got[off:off+30])
		}
	}
}

// The view of a service that nobody looked at for a while guesses how long its
// lines were. No offset of a reader gets other bytes for that.
func TestReadingAgainWhatTheViewHasGuessed(t *testing.T) {
	m := mountWith(t, ring.Limits{Lines: 100, Bytes: 1 << 20}, &files{})
	want := m.sayLong(1, 1)
	r := m.open(t, "follow", 0)
	got := r.read(1000)
	want += m.sayLong(2, 2000)
	differ(t, got+r.until(50_000, want[len(want)-400:]), want)
	rnd := rand.New(rand.NewSource(1))
	for range 100 {
		off := rnd.Intn(len(want) - 1000)
		if got := soon(t, r.pread(1000, int64(off))); got == "" || !strings.HasPrefix(want[off:], got) {
			t.Fatalf("pread at %d: %.60q, want %.60q", off, got, want[off:])
		}
	}
	m.say("o end")
	r.wants(100, "end\n")
}

// Who looks back at what is gone is told so, and goes on where he was.
func TestLookingBackAtWhatIsGone(t *testing.T) {
	m := mountWeb(t, ring.Limits{Lines: 100, Bytes: 1 << 20})
	m.count(1, 50)
	r := m.open(t, "follow", 0)
	r.until(4096, "line 50\n")
	m.count(51, 60)
	r.until(4096, "line 60\n")
	for i := range 60 { // read by a reader who keeps up
		m.count(61+50*i, 110+50*i)
		r.until(4096, fmt.Sprintf("line %d\n", 110+50*i))
	}
	if s := soon(t, r.pread(4096, 0)); !strings.HasPrefix(s, "-- web lost ") {
		t.Fatalf("pread at 0: %.60q", s)
	}
	m.count(3061, 3062)
	r.wants(4096, "line 3061\nline 3062\n")
}

// SEEK_END of a reader who was fed from disk is behind all that he has read.
func TestSeekEndAfterBeingFed(t *testing.T) {
	m := mountWith(t, ring.Limits{Lines: 100, Bytes: 1 << 20}, &files{})
	m.sayLong(1, 1)
	r := m.open(t, "follow", 0)
	size := int64(len(r.read(1000)))
	want := m.sayLong(2, 2000)
	m.sayLong(2001, 2090) // he is not in the ring yet
	for got := ""; len(got) < len(want)/2; got = want[:size-int64(len(want)/1999)] {
		size += int64(len(r.read(50_000)))
	}
	end, err := syscall.Seek(r.fd, 0, io.SeekEnd)
	if err != nil || end < size {
		t.Errorf("the end is at %d (%v), and %d bytes were read", end, err, size)
	}
	r.wants(1000, "")
	m.say("o news")
	r.wants(1000, "news\n")
}

// A file that takes its time to close holds up nobody who reads lines.
func TestNothingWaitsForAClose(t *testing.T) {
	shut := make(chan struct{})
	defer close(shut)
	m := mountWith(t, ring.Limits{Lines: 100, Bytes: 1 << 20}, &files{shut: shut})
	m.count(1, 1)
	r := m.open(t, "follow", 0)
	r.wants(7, "line 1\n")
	m.count(2, 1000)
	done := make(chan string, 1)
	go func() { done <- r.until(4096, "line 1000\n") }() // and back in the ring
	differ(t, soon(t, done), counted(2, 1000))
	got := r.readAsync(m, 100)
	m.count(1001, 1001)
	if s := soon(t, got); s != "line 1001\n" {
		t.Errorf("got %q", s)
	}
}

// gateLog is a log that waits, as one whose file is on the same disk would.
type gateLog struct {
	open chan struct{}
	once sync.Once
	came chan struct{} // closed with the first message
}

func (g *gateLog) Write(b []byte) (int, error) {
	g.once.Do(func() { close(g.came) })
	<-g.open
	return len(b), nil
}

func TestNothingWaitsForAWarning(t *testing.T) {
	g := &gateLog{open: make(chan struct{}), came: make(chan struct{})}
	defer close(g.open)
	m := mountLog(t, ring.Limits{Lines: 100, Bytes: 1 << 20}, &files{err: errors.New("the disk is ill")},
		slog.New(slog.NewTextHandler(g, nil)))
	m.count(1, 1)
	r := m.open(t, "follow", 0)
	r.wants(7, "line 1\n")
	m.count(2, 1000)
	done := make(chan string, 1)
	go func() { done <- r.read(4096) }()
	if s := soon(t, done); !strings.HasPrefix(s, "-- web lost ") || !strings.HasSuffix(s, "line 1000\n") {
		t.Errorf("got %.100q", s)
	}
	<-g.came
}

// A record that a reader has read a part of can turn into a mark that it is
// lost: the disk has not taken it. The mark is whole, on a line of its own.
func TestHalfReadLineThatIsLost(t *testing.T) {
	m := mountWith(t, ring.Limits{Lines: 100, Bytes: 1 << 20}, &files{})
	m.say("o " + strings.Repeat("a", 100))
	r := m.open(t, "follow", 0)
	r.wants(50, strings.Repeat("a", 50))
	for range 300 {
		m.say("o later")
	}
	m.files.mu.Lock()
	m.files.lines[0].line = record.Append(nil, 7, record.Mark, false, record.AppendLost(nil, 1))
	m.files.mu.Unlock()
	if got := r.until(4096, "later\n"); !strings.HasPrefix(got, "\n-- web lost 1 lines 1-1 --\nlater\n") {
		t.Errorf("got %.80q", got)
	}
}

// A file that is closed while its lines are on their way leaves nothing.
func TestCloseWhileLinesAreLoaded(t *testing.T) {
	stuck := make(chan struct{})
	m := mountWith(t, ring.Limits{Lines: 100, Bytes: 1 << 20}, &files{stuck: stuck})
	m.count(1, 1)
	fd, err := syscall.Open(m.path("follow"), syscall.O_RDONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{t, fd}
	r.ready(t)
	r.wants(100, "line 1\n")
	m.count(2, 3000)
	if _, err := syscall.Read(fd, make([]byte, 10)); err != syscall.EAGAIN {
		t.Fatalf("read: %v, want EAGAIN", err)
	}
	syscall.Close(fd)
	if err := m.s.Close(); err != nil {
		t.Fatal(err)
	}
	close(stuck)
	m.files.awaitClosed()
	if n := m.e.count.Load(); n != 0 {
		t.Errorf("%d waiters are left", n)
	}
}

// Somebody else unmounts, while files of the tree are open and stay so.
func TestCloseAfterADetachFromOutside(t *testing.T) {
	m := mountWeb(t, ring.Limits{})
	m.say("o one")
	r := m.open(t, "current", 0)
	if err := syscall.Unmount(m.s.dir, syscall.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	other := mountAt(t, m.s.dir)
	if err := m.s.Close(); err != nil {
		t.Errorf("Close: %v; the mount was gone, and is no business of ours", err)
	}
	if !other.mounted() {
		t.Error("what is mounted there now was unmounted")
	}
	r.wants(10, "one\n")
}

// mountAt mounts one more tree.
func mountAt(t *testing.T, dir string) *Server {
	t.Helper()
	s, err := Mount(Options{Dir: dir, Log: testLog(t), Status: func(io.Writer) {}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
