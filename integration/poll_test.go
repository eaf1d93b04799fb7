package integration

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A waiter is one way to ask whether a descriptor is readable.
type waiter struct {
	name string
	// wait returns whether fd is readable, at most ms later; -1 is for ever.
	wait func(t *testing.T, fd, ms int) bool
}

var waiters = []waiter{
	{"poll", func(t *testing.T, fd, ms int) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		return retry(t, func() (int, error) { return unix.Poll(fds, ms) }) > 0 && fds[0].Revents&unix.POLLIN != 0
	}},
	{"select", func(t *testing.T, fd, ms int) bool {
		var timeout *unix.Timeval
		if ms >= 0 {
			tv := unix.NsecToTimeval(int64(ms) * int64(time.Millisecond))
			timeout = &tv
		}
		return retry(t, func() (int, error) {
			var set unix.FdSet
			set.Set(fd)
			return unix.Select(fd+1, &set, nil, nil, timeout)
		}) > 0
	}},
	{"epoll", func(t *testing.T, fd, ms int) bool {
		ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		must(t, err)
		defer unix.Close(ep)
		must(t, unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}))
		events := make([]unix.EpollEvent, 1)
		return retry(t, func() (int, error) { return unix.EpollWait(ep, events, ms) }) > 0
	}},
}

func retry(t *testing.T, call func() (int, error)) int {
	t.Helper()
	for {
		n, err := call()
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			t.Error(err)
			return 0
		}
		return n
	}
}

// follow is readable when there is something to read, and not before.
func TestReadiness(t *testing.T) {
	for _, w := range waiters {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			d := startDaemon(t, smallRing)
			f := d.feed("web")
			f.upTo(3)
			old := d.read("web", "current")
			fd := open(t, d.path("web", "follow"), unix.O_NONBLOCK)
			if !w.wait(t, fd, 0) {
				t.Error("not readable with three lines to read")
			}
			got := ""
			for len(got) < len(old) {
				got += readSome(t, fd, 4096)
			}
			equal(t, "follow", got, old)
			for round := range 3 {
				quietUntil(t, w, f, fd, round)
			}
		})
	}
}

// quietUntil wants fd not readable while nothing is said, a read refused with
// EAGAIN, and a waiter woken by the next line.
func quietUntil(t *testing.T, w waiter, f *feed, fd, round int) {
	t.Helper()
	if w.wait(t, fd, 0) || w.wait(t, fd, 20) {
		t.Errorf("round %d: readable at the end", round)
	}
	buf := make([]byte, 4096)
	if n, err := unix.Read(fd, buf); err != unix.EAGAIN {
		t.Errorf("round %d: a read at the end gave %d bytes, %v; want EAGAIN", round, n, err)
	}
	woken := make(chan bool, 1)
	go func() { woken <- w.wait(t, fd, int(patience/time.Millisecond)) }()
	f.upTo(f.n + 1)
	if !<-woken {
		t.Fatalf("round %d: not woken by a line", round)
	}
	equal(t, "the line", readSome(t, fd, 4096), numbered(f.n)+"\n")
}

// A waiter that registered once is told of every line, without spinning.
func TestReadinessOfOneEpoll(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, smallRing)
	f := d.feed("web")
	f.upTo(3)
	fd := open(t, d.path("web", "follow"), unix.O_NONBLOCK)
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	must(t, err)
	defer unix.Close(ep)
	const edge = unix.EPOLLIN | unix.EPOLLET
	must(t, unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: edge, Fd: int32(fd)}))
	events := make([]unix.EpollEvent, 4)
	wait := func(ms int) int {
		return retry(t, func() (int, error) { return unix.EpollWait(ep, events, ms) })
	}
	buf := make([]byte, 64<<10)
	for range 20 {
		if wait(int(patience/time.Millisecond)) == 0 {
			t.Fatal("an edge was missed")
		}
		for {
			if _, err := unix.Read(fd, buf); err == unix.EAGAIN {
				break
			} else if err != nil && err != unix.EINTR {
				t.Fatal(err)
			}
		}
		if n := wait(0); n != 0 {
			t.Error("an edge without news")
		}
		f.upTo(f.n + 1)
	}
}

// Without ever asking for readiness, a reader that does not want to wait gets
// end of file: that is how grep -r comes to an end.
func TestNonblockingWithoutPoll(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, smallRing)
	f := d.feed("web")
	f.upTo(3)
	old := d.read("web", "current")
	fd := open(t, d.path("web", "follow"), unix.O_NONBLOCK)
	equal(t, "follow", readSome(t, fd, 4096), old)
	equal(t, "at the end", readSome(t, fd, 4096), "")
	f.upTo(4)
	equal(t, "after a line more", readSome(t, fd, 4096), numbered(4)+"\n")
}

// A reader that has asked for the end, as tail does, is never blocked there.
func TestSeekEndNeverBlocks(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, smallRing)
	f := d.feed("web")
	f.upTo(3)
	fd := open(t, d.path("web", "follow"), 0)
	if _, err := unix.Seek(fd, 0, unix.SEEK_END); err != nil {
		t.Fatal(err)
	}
	equal(t, "at the end", readSome(t, fd, 4096), "")
	f.upTo(4)
	equal(t, "after a line more", readSome(t, fd, 4096), numbered(4)+"\n")
	equal(t, "at the end again", readSome(t, fd, 4096), "")
}
