package fs

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"logfs/ring"

	"golang.org/x/sys/unix"
)

// reader is a file opened without Go's poller: its reads are read(2).
type reader struct {
	t  *testing.T
	fd int
}

func (m *mounted) open(t *testing.T, name string, flags int) *reader {
	t.Helper()
	fd, err := syscall.Open(m.path(name), syscall.O_RDONLY|syscall.O_CLOEXEC|flags, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	return &reader{t, fd}
}

// read is one read(2) of at most n bytes.
func (r *reader) read(n int) string {
	r.t.Helper()
	b := make([]byte, n)
	n, err := uninterrupted(func() (int, error) { return syscall.Read(r.fd, b) })
	if err != nil {
		r.t.Fatalf("read: %v", err)
	}
	return string(b[:n])
}

// uninterrupted calls again what Go's scheduler has interrupted with a signal.
func uninterrupted(call func() (int, error)) (n int, err error) {
	for n, err = call(); err == syscall.EINTR; n, err = call() {
	}
	return n, err
}

func (r *reader) wants(n int, want string) {
	r.t.Helper()
	if got := r.read(n); got != want {
		r.t.Errorf("read(%d) = %q, want %q", n, got, want)
	}
}

// readAsync starts a read and returns when it is parked.
func (r *reader) readAsync(m *mounted, n int) <-chan string {
	select {
	case <-m.parks: // an earlier one
	default:
	}
	got := make(chan string, 1)
	go func() { got <- r.read(n) }()
	<-m.parks
	return got
}

func soon(t *testing.T, got <-chan string) string {
	t.Helper()
	select {
	case s := <-got:
		return s
	case <-time.After(10 * time.Second):
		t.Fatal("a blocked read was not answered")
		return ""
	}
}

func TestFollowWaits(t *testing.T) {
	m := mountWeb(t, ring.Limits{})
	m.say("o one", "o two")
	r := m.open(t, "follow", 0)
	r.wants(4096, "one\ntwo\n")
	got := r.readAsync(m, 4096)
	m.say("e three")
	if s := soon(t, got); s != "three\n" {
		t.Errorf("the blocked read got %q", s)
	}
	err, out := m.open(t, "stderr/follow", 0), m.open(t, "stdout/follow", 0)
	err.wants(4096, "three\n")
	out.wants(3, "one")
	out.wants(4096, "\ntwo\n")
	got = err.readAsync(m, 4096)
	m.say("o not for stderr")
	m.say("e four")
	if s := soon(t, got); s != "four\n" {
		t.Errorf("the blocked read of stderr got %q", s)
	}
}

func TestFollowEndsReadsAtLineEnds(t *testing.T) {
	m := mountWeb(t, ring.Limits{})
	m.say("o 1234567", "o 1234567", "o 1234567")
	r := m.open(t, "follow", 0)
	r.wants(20, "1234567\n1234567\n")
	r.wants(20, "1234567\n")
	long := strings.Repeat("x", maxPayload)
	m.say("o+ "+long[:len(long)/2], "o "+long[len(long)/2:])
	if got := r.read(2 * maxPayload); len(got) >= maxPayload {
		t.Errorf("%d bytes: a full request would make the kernel wait for more", len(got))
	}
}

// tar opens with O_NONBLOCK and takes a short read for a file that shrank.
func TestNonblockingReadsAreFull(t *testing.T) {
	m := mountWeb(t, ring.Limits{})
	m.say("o 1234567", "o 1234567", "o 1234567")
	m.open(t, "follow", syscall.O_NONBLOCK).wants(20, "1234567\n1234567\n1234")
	m.open(t, "current", 0).wants(20, "1234567\n1234567\n1234")
}

func TestOvertakenReaderIsTold(t *testing.T) {
	m := mountWeb(t, ring.Limits{Lines: 100, Bytes: 1 << 20})
	m.say("o line 1", "o line 2")
	r := m.open(t, "follow", 0)
	r.wants(9, "line 1\n")
	for i := 3; i <= 1000; i++ {
		m.say(fmt.Sprintf("o line %d", i))
	}
	got := strings.SplitAfter(r.read(4096), "\n")
	var lost, first, last, next int
	if _, err := fmt.Sscanf(got[0], "-- web lost %d lines %d-%d --", &lost, &first, &last); err != nil {
		t.Fatalf("no mark: %q", got[0])
	}
	if _, err := fmt.Sscanf(got[1], "line %d", &next); err != nil {
		t.Fatalf("the mark came without lines: %q", got)
	}
	if first != 2 || next != last+1 || lost != last-first+1 || next < 901+25 {
		t.Errorf("%q, and then line %d: want 2-N, N+1 at least a quarter of the ring ahead", got[0], next)
	}
	if int(m.e.ReaderLost()) != lost {
		t.Errorf("%d lines counted as lost, want %d", m.e.ReaderLost(), lost)
	}
	seen := int64(0)
	for _, l := range got[1 : len(got)-1] {
		if l != fmt.Sprintf("line %d\n", next) {
			t.Fatalf("got %q, want line %d", l, next)
		}
		next++
		seen++
	}
	if next != 1001 {
		t.Errorf("the read ended before line %d", next)
	}
}

func TestOvertakenInTheMiddleOfALine(t *testing.T) {
	m := mountWeb(t, ring.Limits{Lines: 4, Bytes: 1 << 20})
	m.say("o abcdef")
	r := m.open(t, "follow", 0)
	r.wants(3, "abc")
	m.say("o 2", "o 3", "o 4", "o 5", "o 6", "o 7", "o 8")
	for range 3000 { // until the block is gone too
		m.say("o 9")
	}
	got := r.read(1)
	for !strings.HasSuffix(got, "--\n") { // a byte at a time, as dash reads
		got += r.read(1)
	}
	if !strings.HasPrefix(got, "\n-- web lost ") || !strings.Contains(got, " lines 1-") {
		t.Errorf("got %q, want the half line ended and the mark whole", got)
	}
	r.wants(2, "9\n")
}

func TestSeekEndNeverBlocks(t *testing.T) {
	m := mountWeb(t, ring.Limits{})
	m.say("o one")
	r := m.open(t, "follow", 0)
	end, err := syscall.Seek(r.fd, 0, io.SeekEnd)
	if err != nil || end != 4 {
		t.Fatalf("the end is at %d (%v), want 4", end, err)
	}
	r.wants(4096, "")
	m.say("o two")
	r.wants(4096, "two\n")
	r.wants(4096, "")
}

// tail asks for as many bytes as the size has grown by, which after a loss
// can end anywhere. It must not get half a line that then is overtaken.
func TestPollerWhoLostLinesGetsNoHalfLine(t *testing.T) {
	m := mountWeb(t, ring.Limits{Lines: 100, Bytes: 1 << 20})
	m.say("o line 0")
	r := m.open(t, "follow", syscall.O_NONBLOCK) // as GNU tail
	syscall.Seek(r.fd, 0, io.SeekEnd)
	flood := func() {
		for range 3000 {
			m.say("o line x")
		}
	}
	flood()
	r.wants(5, "") // not even half a mark
	flood()
	got := r.read(60)
	if lines := strings.SplitAfter(got, "\n"); !strings.HasPrefix(got, "-- web lost ") || lines[len(lines)-1] != "" {
		t.Fatalf("got %q, want one mark and whole lines", got)
	}
	var lost, first, last int
	if fmt.Sscanf(got, "-- web lost %d lines %d-%d --", &lost, &first, &last); first != 2 || lost != last-1 || int(m.e.ReaderLost()) != lost {
		t.Errorf("%q, counted %d: want one mark from number 2 on", got, m.e.ReaderLost())
	}
	r.wants(3, "")
	flood()
	if got := r.read(4096); !strings.HasPrefix(got, "-- web lost ") {
		t.Errorf("got %q, want a mark at the start of a line", got)
	}
}

// A mark that is read byte by byte while the ring goes on is finished first.
func TestOvertakenInTheMiddleOfAMark(t *testing.T) {
	m := mountWeb(t, ring.Limits{Lines: 100, Bytes: 1 << 20})
	m.say("o line 0")
	r := m.open(t, "follow", 0)
	r.wants(100, "line 0\n")
	got := ""
	for range 60 {
		for range 300 {
			m.say("o line x")
		}
		got += r.read(5)
	}
	next := 2
	for _, l := range strings.SplitAfter(got, "\n") {
		var lost, first, last int
		if n, _ := fmt.Sscanf(l, "-- web lost %d lines %d-%d --", &lost, &first, &last); n == 3 && strings.HasSuffix(l, " --\n") {
			if first != next || lost != last-first+1 {
				t.Fatalf("mark %q, want one from %d on, in\n%s", l, next, got)
			}
			next = last + 1
		}
	}
	if next < 1000 {
		t.Errorf("only told up to %d:\n%s", next, got)
	}
}

func TestReadsThatAreNotSequentialDoNotBlock(t *testing.T) {
	m := mountWeb(t, ring.Limits{})
	m.say("o one")
	r := m.open(t, "follow", 0)
	b := make([]byte, 10)
	if n, err := syscall.Pread(r.fd, b, 4); n != 0 || err != nil {
		t.Errorf("pread at the end: %d, %v", n, err)
	}
	if n, _ := syscall.Pread(r.fd, b, 1); string(b[:n]) != "ne\n" {
		t.Errorf("pread at 1: %q", b[:n])
	}
}

func TestNonblock(t *testing.T) {
	m := mountWeb(t, ring.Limits{})
	m.say("o one")
	r := m.open(t, "follow", syscall.O_NONBLOCK)
	r.wants(4096, "one\n")
	r.wants(4096, "") // grep -r goes on to the next file
	if r.ready(t) {
		t.Error("poll says a read at the end would not block")
	}
	if _, err := syscall.Read(r.fd, make([]byte, 10)); err != syscall.EAGAIN {
		t.Errorf("read after poll: %v, want EAGAIN", err)
	}
	m.say("o two")
	if !r.ready(t) {
		t.Error("poll does not see the new line")
	}
	r.wants(4096, "two\n")
}

func (r *reader) ready(t *testing.T) bool {
	t.Helper()
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(r.fd), Events: unix.POLLIN}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return n > 0
}

// TestMain is also readers with Go's poller, processes of their own: see
// readFile for why they must be.
func TestMain(m *testing.M) {
	if path := os.Getenv("READ_WITH_DEADLINES"); path != "" {
		readWithDeadlines(path)
	}
	if path := os.Getenv("READ_EDGE_TRIGGERED"); path != "" {
		f, err := os.Open(path)
		if err == nil {
			_, err = io.Copy(os.Stdout, f)
		}
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// readWithDeadlines lets a deadline pass, says so, and reads one line.
func readWithDeadlines(path string) {
	f, err := os.Open(path)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	b := make([]byte, 100)
	f.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	_, err = f.Read(b)
	fmt.Println(err)
	f.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, err := f.Read(b)
	fmt.Print(string(b[:n]), err)
	os.Exit(0)
}

// Go's own poller: a deadline, then a line.
func TestGoReaderWithDeadlines(t *testing.T) {
	m := mountWeb(t, ring.Limits{})
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "READ_WITH_DEADLINES="+m.path("follow"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewReader(out)
	if line, _ := said.ReadString('\n'); !strings.Contains(line, "timeout") {
		t.Errorf("the first read: %q, want a timeout", line)
	}
	m.say("o one")
	if rest, _ := io.ReadAll(said); string(rest) != "one\n<nil>" {
		t.Errorf("the second read: %q", rest)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// Who waits with edge-triggered epoll reads until EAGAIN and polls no more.
func TestEdgeTriggeredReaderIsToldOfEveryLine(t *testing.T) {
	m := mountWeb(t, ring.Limits{})
	m.say("o line 0")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "READ_EDGE_TRIGGERED="+m.path("follow"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewReader(out)
	for i := range 50 {
		if line, _ := said.ReadString('\n'); line != fmt.Sprintf("line %d\n", i) {
			t.Fatalf("got %q, want line %d", line, i)
		}
		m.say(fmt.Sprintf("o line %d", i+1))
	}
	cmd.Process.Kill()
	cmd.Wait()
}

// A descriptor that was closed may be somebody's file by the time a line comes.
func TestNothingIsWrittenAfterTheMountIsGone(t *testing.T) {
	m := mountWeb(t, ring.Limits{})
	cat := exec.Command("cat", m.path("follow"))
	if err := cat.Start(); err != nil {
		t.Fatal(err)
	}
	defer cat.Wait()
	for m.e.count.Load() == 0 {
		m.cat("current")
	}
	for _, how := range []int{syscall.MNT_FORCE, syscall.MNT_DETACH} {
		syscall.Unmount(m.s.dir, how)
	}
	<-m.s.Done()
	dir := t.TempDir()
	for i := range 20 {
		f, err := os.OpenFile(fmt.Sprintf("%s/%d", dir, i), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
	}
	m.say("o secret")
	for i := range 20 {
		if b, _ := os.ReadFile(fmt.Sprintf("%s/%d", dir, i)); len(b) > 0 {
			t.Errorf("a file that is not ours got %q", b)
		}
	}
	if n := m.e.count.Load(); n != 0 {
		t.Errorf("%d readers are waited for that nobody can answer", n)
	}
}

func TestCloseEndsFollowers(t *testing.T) {
	m := mountWeb(t, ring.Limits{})
	r := m.open(t, "follow", 0)
	got := r.readAsync(m, 100)
	if err := m.s.Close(); err != nil {
		t.Error(err)
	}
	if s := soon(t, got); s != "" {
		t.Errorf("got %q, want the end of the file", s)
	}
}

func TestRemoveEndsFollowers(t *testing.T) {
	m := mountWeb(t, ring.Limits{})
	m.say("o last words")
	r, s := m.open(t, "follow", 0), m.open(t, "follow", 0)
	s.wants(100, "last words\n")
	got := s.readAsync(m, 100)
	m.s.Remove("web")
	if s := soon(t, got); s != "" {
		t.Errorf("got %q, want the end of the file", s)
	}
	r.wants(100, "last words\n")
	r.wants(100, "")
	if _, err := os.Stat(m.path("current")); !os.IsNotExist(err) {
		t.Errorf("stat: %v, want that it does not exist", err)
	}
}

func TestCurrentIsOneStatePerPass(t *testing.T) {
	m := mountWeb(t, ring.Limits{Lines: 100, Bytes: 64 << 10})
	var want strings.Builder
	for i := range 100 {
		fmt.Fprintf(&want, "line %d\n", i)
		m.say(fmt.Sprintf("o line %d", i))
	}
	r := m.open(t, "current", 0)
	for i := 100; i < 150; i++ {
		m.say(fmt.Sprintf("o line %d", i))
	}
	got := r.read(100)
	for range 5000 { // the ring drops all that the reader is about to read
		m.say("o later")
	}
	for s := r.read(333); s != ""; s = r.read(333) {
		got += s
	}
	if got != want.String() {
		t.Errorf("one pass over current saw\n%q, want\n%q", got, want.String())
	}
}

func TestCurrentGrowsAfterItsEnd(t *testing.T) {
	m := mountWeb(t, ring.Limits{})
	m.say("o one")
	r := m.open(t, "current", 0)
	r.wants(100, "one\n")
	r.wants(100, "")
	m.say("o two")
	r.wants(100, "two\n")
	var st syscall.Stat_t
	m.say("o three")
	if err := syscall.Fstat(r.fd, &st); err != nil || st.Size != 14 {
		t.Errorf("size %d (%v), want 14", st.Size, err)
	}
	r.wants(100, "three\n")
}

func TestPinsAreBoundedAndReleased(t *testing.T) {
	m := mountWeb(t, ring.Limits{Lines: 1000, Bytes: 64 << 10})
	flood := func() {
		for range 2000 {
			m.say("o " + strings.Repeat("x", 60))
		}
	}
	var open []int
	for range 20 {
		flood()
		fd, err := syscall.Open(m.path("current"), syscall.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, fd)
	}
	flood()
	if got := m.ring.Stats().PinnedBytes; got > (pinLimit+2)*64<<10 {
		t.Errorf("20 readers pin %d bytes of a ring of 64 KiB", got)
	}
	for _, fd := range open {
		syscall.Close(fd)
	}
	if err := m.s.Close(); err != nil { // releases have all been seen then
		t.Fatal(err)
	}
	if got := m.ring.Stats().PinnedBytes; got != 0 {
		t.Errorf("%d bytes are pinned by nobody", got)
	}
}

func TestNothingIsLeftOfClosedFiles(t *testing.T) {
	m := mountWeb(t, ring.Limits{})
	m.say("o one")
	for range 100 {
		m.cat("current")
		os.Stat(m.path("seq"))
		os.ReadDir(m.dir)
	}
	if err := m.s.Close(); err != nil {
		t.Fatal(err)
	}
	tr := m.s.tree
	if len(tr.handles) != 0 || m.e.count.Load() != 0 {
		t.Errorf("%d handles, %d waiters are left", len(tr.handles), m.e.count.Load())
	}
}

func TestStatusAndIgnore(t *testing.T) {
	m := mountWeb(t, ring.Limits{})
	for name, want := range map[string]string{"status": "all is well\n", ".ignore": ignoreText} {
		b, err := readFile(m.s.dir + "/" + name)
		if err != nil || b != want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	all, err := os.ReadDir(m.s.dir)
	if err != nil || fmt.Sprint(all) != "[- .ignore d all/ - status d web/]" {
		t.Errorf("listing: %v, %v", all, err)
	}
}

func TestChangesAreRefused(t *testing.T) {
	m := mountWeb(t, ring.Limits{})
	m.say("o one")
	for what, err := range map[string]error{
		"open for writing": os.WriteFile(m.path("current"), []byte("x"), 0o600),
		"create":           os.WriteFile(m.path("new"), []byte("x"), 0o600),
		"unlink":           os.Remove(m.path("current")),
		"rmdir":            syscall.Rmdir(m.dir),
		"mkdir":            os.Mkdir(m.path("x"), 0o700),
		"rename":           os.Rename(m.path("current"), m.path("x")),
		"truncate":         os.Truncate(m.path("current"), 0),
		"chmod":            os.Chmod(m.path("current"), 0o600),
		"symlink":          os.Symlink("x", m.path("x")),
		"link":             os.Link(m.path("current"), m.path("x")),
	} {
		if !os.IsPermission(err) {
			t.Errorf("%s: %v, want permission denied", what, err)
		}
	}
	if got := m.cat("current"); got != "one\n" {
		t.Errorf("current is %q", got)
	}
}
