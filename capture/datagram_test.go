package capture

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// datagrams is a socket as a service reads it, and the ends of two senders.
func datagrams(t testing.TB) (r, w *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	r, w = os.NewFile(uintptr(fds[0]), "socket"), os.NewFile(uintptr(fds[1]), "sender")
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

func shutdown(t testing.TB, f *os.File) {
	t.Helper()
	if err := unix.Shutdown(int(f.Fd()), unix.SHUT_RD); err != nil {
		t.Fatal(err)
	}
}

// Each message is a line, whatever is in it, and all that was sent before the
// socket is shut down is taken.
func TestPumpMessages(t *testing.T) {
	r, w := datagrams(t)
	keep, err := own(r)
	if err != nil {
		t.Fatal(err)
	}
	kept := os.NewFile(uintptr(keep), "kept")
	defer kept.Close()
	long := strings.Repeat("x", 25)
	for _, m := range []string{"<13>a", "", "b\n", "c\x00", "d\n\x00\n", "\n", "e\nf\n\ng\n", "h\x00i", long, "after"} {
		if _, err := unix.Write(int(w.Fd()), []byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	shutdown(t, kept)
	var c collect
	if err := Pump(t.Context(), 10, &c, Input{File: r, Stream: Stdout}); err != nil {
		t.Fatal(err)
	}
	want := "<13>a\n\nb\nc\nd\n\ne\\x0af\\x0a\\x0ag\nh\x00i\n" + long + "\nafter\n"
	if got := string(c.bytes[Stdout]); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	wantBatches(t, &c, c.batches[0]) // one, since all was there
	if !strings.Contains(c.batches[0], "stdout:xxxxxxxxxx+ stdout:xxxxxxxxxx+ stdout:xxxxx ") {
		t.Errorf("a message over the limit is not in pieces: %s", c.batches[0])
	}
}

// A message may be longer than what is read at once.
func TestPumpLongMessages(t *testing.T) {
	r, w := datagrams(t)
	keep, err := own(r)
	if err != nil {
		t.Fatal(err)
	}
	kept := os.NewFile(uintptr(keep), "kept")
	defer kept.Close()
	if err := unix.SetsockoptInt(int(w.Fd()), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 4<<20); err != nil {
		t.Logf("only messages of the usual size: %v", err)
	}
	long := strings.Repeat("0123456789", 20_000)
	if size, _ := unix.GetsockoptInt(int(w.Fd()), unix.SOL_SOCKET, unix.SO_SNDBUF); size > 4<<20 {
		long = strings.Repeat(long, 10) // 2 MB
	}
	for _, m := range []string{"short", long, "short", strings.Repeat("\n", 100_000) + "end"} {
		write(t, w, m)
	}
	shutdown(t, kept)
	var c collect
	if err := Pump(t.Context(), 0, &c, Input{File: r, Stream: Stdout}); err != nil {
		t.Fatal(err)
	}
	want := "short\n" + long + "\nshort\n" + strings.Repeat(`\x0a`, 100_000) + "end\n"
	if got := string(c.bytes[Stdout]); got != want {
		t.Errorf("got %d bytes, want %d", len(got), len(want))
	}
}

// An open descriptor that is sent along must not stay open here.
func TestPumpTakesNoDescriptors(t *testing.T) {
	r, w := datagrams(t)
	pr, pw := pipe(t)
	rights := unix.UnixRights(int(pw.Fd()))
	if err := unix.Sendmsg(int(w.Fd()), []byte("with a descriptor"), rights, nil, 0); err != nil {
		t.Fatal(err)
	}
	pw.Close()
	var c collect
	c.onTake = func() {
		// The end of the pipe says that nobody has its write end.
		if n, err := pr.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("read %d, %v; want the end", n, err)
		}
		shutdown(t, r)
	}
	fd, err := own(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := Pump(t.Context(), 0, &c, Input{File: os.NewFile(uintptr(fd), "socket"), Stream: Stdout}); err != nil {
		t.Fatal(err)
	}
	wantBatches(t, &c, "stdout:with a descriptor")
}

func TestMessagesAllocateNothing(t *testing.T) {
	r, w := datagrams(t)
	s := source{stream: Stdout, fd: int(r.Fd())}
	var scratch scratch
	text := []byte("<13>Nov 21 10:00:00 web: GET /health 200")
	n := testing.AllocsPerRun(100, func() {
		for range 5 {
			if _, err := unix.Write(int(w.Fd()), text); err != nil {
				t.Fatal(err)
			}
		}
		if lines, err := s.receiveMessages(&scratch); err != nil || len(lines) != 5*(len(text)+1) {
			t.Fatalf("%d bytes, %v", len(lines), err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations for five messages", n)
	}
}
