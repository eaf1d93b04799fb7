package fs

import (
	"bytes"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"logfs/ring"
	"logfs/ring/record"
)

// files is a History in memory.
type files struct {
	mu    sync.Mutex
	lines []stored
	gone  uint64          // numbers up to this one have been deleted
	stuck <-chan struct{} // what Next waits for, if anything
	shut  <-chan struct{} // likewise, Close
	err   error           // what Next returns, if not nil
	open  int
	ended sync.Cond // told when open is less
}

// awaitClosed waits until no reader is open.
func (f *files) awaitClosed() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended.L = &f.mu
	for f.open > 0 {
		f.ended.Wait()
	}
}

// fail makes Next return err from now on.
func (f *files) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

type stored struct {
	seq, run uint64
	line     []byte
}

func (f *files) write(first, run uint64, lines []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := record.Scanner{Buf: bytes.Clone(lines), Seq: first, Run: run}
	for {
		before := s
		rec, ok := s.Next()
		if !ok {
			return
		}
		f.lines = append(f.lines, stored{rec.Seq, before.Run, before.Buf[:len(before.Buf)-len(s.Buf)]})
	}
}

// keep forgets all but the first n lines.
func (f *files) keep(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lines = f.lines[:n]
}

// deleteTo deletes the numbers up to seq.
func (f *files) deleteTo(seq uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gone = seq
}

func (f *files) From(seq uint64) (HistoryReader, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open++
	return &filesReader{f: f, seq: seq}, nil
}

type filesReader struct {
	f   *files
	seq uint64
}

func (r *filesReader) Next(buf []byte) (first, run uint64, lines []byte, err error) {
	if r.f.stuck != nil {
		<-r.f.stuck
	}
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	if r.f.err != nil {
		return 0, 0, nil, r.f.err
	}
	lines = buf[:0]
	for _, l := range r.f.lines {
		if l.seq < r.seq || l.seq <= r.f.gone {
			continue
		}
		if first == 0 {
			first, run = l.seq, l.run
		}
		if len(lines) > 0 && len(lines)+len(l.line) > len(buf) {
			break
		}
		lines = append(lines, l.line...)
		r.seq = l.seq + 1
	}
	if len(lines) == 0 {
		return 0, 0, nil, io.EOF
	}
	return first, run, lines, nil
}

func (r *filesReader) Rest() {}

func (r *filesReader) Close() error {
	if r.f.shut != nil {
		<-r.f.shut
	}
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	r.f.open--
	r.f.ended.Broadcast()
	return nil
}

func (m *mounted) count(from, to int) {
	for i := from; i <= to; i++ {
		m.say(fmt.Sprintf("o line %d", i))
	}
}

func counted(from, to int) string {
	var b strings.Builder
	for i := from; i <= to; i++ {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	return b.String()
}

// until reads until what was read ends with want.
func (r *reader) until(n int, want string) string {
	r.t.Helper()
	got := ""
	for !strings.HasSuffix(got, want) {
		s := r.read(n)
		if s == "" {
			r.t.Fatalf("the end of the file after %q", got)
		}
		got += s
	}
	return got
}

// differ shows where got is not want.
func differ(t *testing.T, got, want string) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Fatalf("at byte %d:\n got %.90q\nwant %.90q", i, got[max(0, i-30):], want[max(0, i-30):])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("got %d bytes, want %d", len(got), len(want))
	}
}

func TestOvertakenReaderIsFedFromDisk(t *testing.T) {
	for _, size := range []int{1, 100, 4096, maxPayload} {
		m := mountWith(t, ring.Limits{Lines: 100, Bytes: 1 << 20}, &files{})
		m.count(1, 10)
		r := m.open(t, "follow", 0)
		r.wants(14, "line 1\nline 2\n")
		m.count(11, 5000)
		differ(t, r.until(size, "line 5000\n"), counted(3, 5000))
		got := r.readAsync(m, 100)
		m.count(5001, 5001)
		if s := soon(t, got); s != "line 5001\n" {
			t.Errorf("back in the ring: %q", s)
		}
		if n := m.e.ReaderLost(); n != 0 {
			t.Errorf("%d lines counted as lost", n)
		}
		m.files.awaitClosed()
	}
}

// A reader who is slower than the service goes between disk and ring.
func TestSlowReaderBetweenDiskAndRing(t *testing.T) {
	m := mountWith(t, ring.Limits{Lines: 60, Bytes: 1 << 20}, &files{})
	m.count(1, 1)
	r := m.open(t, "follow", 0)
	got, said := "", 1
	for i := range 400 {
		m.count(said+1, said+i%90)
		said += i % 90
		got += r.read(600)
	}
	m.count(said+1, said+1)
	differ(t, got+r.until(4096, fmt.Sprintf("line %d\n", said+1)), counted(1, said+1))
}

func TestSeqIsFedFromDiskToo(t *testing.T) {
	m := mountWith(t, ring.Limits{Lines: 100, Bytes: 1 << 20}, &files{})
	m.say("= start run=1 pid=7")
	r := m.open(t, "seq", 0)
	first := r.read(4096)
	m.count(2, 3000)
	m.say("= start run=2 pid=8")
	m.count(3002, 6000)
	r.wants(4096, "") // the end of the pass
	got := first + r.until(4096, ",o;line 6000\n")
	next := uint64(1)
	for line := range strings.Lines(got) {
		f := strings.SplitN(line, ",", 5)
		want := fmt.Sprintf("%d,%d,", 1+next/3001, next)
		if next == 3001 {
			want = "2,3001,"
		}
		if f[2]+","+f[3]+"," != want {
			t.Fatalf("%q, want run and number %s", line, want)
		}
		next++
	}
	if next != 6001 {
		t.Errorf("the last number is %d", next-1)
	}
}

// GNU tail asks for the size, and reads what it has grown by. What it is told
// must let it read all that comes from disk, and then what comes live.
func TestPollerCatchesUpFromDisk(t *testing.T) {
	m := mountWith(t, ring.Limits{Lines: 100, Bytes: 1 << 20}, &files{})
	m.say("o first")
	r := m.open(t, "follow", syscall.O_NONBLOCK)
	size, err := syscall.Seek(r.fd, 0, io.SeekEnd)
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for i := range 2000 {
		l := fmt.Sprintf("%s %d", strings.Repeat("y", 300), i)
		want.WriteString(l + "\n")
		m.say("o " + l)
	}
	got := ""
	poll := func() {
		var st syscall.Stat_t
		if err := syscall.Fstat(r.fd, &st); err != nil {
			t.Fatal(err)
		}
		for s := ""; size < st.Size; size += int64(len(s)) {
			if s = r.read(int(min(st.Size-size, 8192))); s == "" {
				return
			}
			got += s
		}
	}
	for i := range 40 {
		if i >= 20 {
			want.WriteString(fmt.Sprintf("tick %d\n", i))
			m.say(fmt.Sprintf("o tick %d", i))
		}
		poll()
	}
	differ(t, got, want.String())
}

// Nobody asks for what is beyond all offsets but to see what happens.
func TestOffsetsNearTheEnd(t *testing.T) {
	m := mountWith(t, ring.Limits{Lines: 100, Bytes: 1 << 20}, &files{})
	m.count(1, 5000)
	for _, name := range []string{"current", "follow", "seq"} {
		r := m.open(t, name, 0)
		for _, off := range []int64{1 << 40, 1<<62 - 1, 1<<62 + 1, 1<<63 - 4096} {
			if n, err := syscall.Pread(r.fd, make([]byte, 10), off); n != 0 || err != nil {
				t.Errorf("%s: pread at %d: %d, %v", name, off, n, err)
			}
		}
		r.until(4096, "line 5000\n")
	}
}

func TestDeletedLinesAreTold(t *testing.T) {
	m := mountWith(t, ring.Limits{Lines: 100, Bytes: 1 << 20}, &files{})
	m.count(1, 1)
	r := m.open(t, "follow", 0)
	r.wants(100, "line 1\n")
	m.count(2, 2000)
	m.files.deleteTo(700)
	differ(t, r.until(1000, "line 2000\n"), "-- web lost 699 lines 2-700 --\n"+counted(701, 2000))
	if m.e.ReaderLost() != 699 {
		t.Errorf("%d lines counted as lost", m.e.ReaderLost())
	}
}

// The disk refused lines: neither it nor the ring has them.
func TestLinesThatAreNowhereAreTold(t *testing.T) {
	m := mountWith(t, ring.Limits{Lines: 100, Bytes: 1 << 20}, &files{})
	m.count(1, 500)
	r := m.open(t, "follow", 0)
	r.wants(9, "line 401\n")
	m.count(501, 600)
	m.files.keep(450)
	m.count(601, 1000)
	m.files.keep(450)
	got := r.until(4096, "line 1000\n")
	var lost, first, last int
	_, rest, found := strings.Cut(got, counted(402, 450))
	fmt.Sscanf(rest, "-- web lost %d lines %d-%d --", &lost, &first, &last)
	if !found || first != 451 || lost != last-first+1 || !strings.HasSuffix(rest, "--\n"+counted(last+1, 1000)) {
		t.Errorf("got %q", got)
	}
}

func TestReadingBackwardsAfterBeingOvertaken(t *testing.T) {
	m := mountWith(t, ring.Limits{Lines: 100, Bytes: 1 << 20}, &files{})
	m.count(1, 10)
	r := m.open(t, "follow", 0)
	r.wants(7, "line 1\n")
	m.count(11, 3000)
	got := "line 1\n" + r.until(4096, "line 3000\n")
	for _, off := range []int{0, 7, 100, 5000, len(got) - 200} {
		b := make([]byte, 150)
		n, err := syscall.Pread(r.fd, b, int64(off))
		if err != nil || string(b[:n]) != got[off:off+n] || n == 0 {
			t.Errorf("pread at %d: %q (%v), want %q", off, b[:n], err, got[off:off+150])
		}
	}
}

// A disk that does not answer holds up nobody but its reader, and not even
// him if he is to die.
func TestStuckDisk(t *testing.T) {
	stuck := make(chan struct{})
	defer close(stuck)
	m := mountWith(t, ring.Limits{Lines: 100, Bytes: 1 << 20}, &files{stuck: stuck})
	m.count(1, 1)
	var cats []*exec.Cmd
	for range 2 * maxJobs {
		cat := exec.Command("sh", "-c", "exec <"+m.path("follow")+"; read -r line; kill -STOP $$; exec cat")
		if err := cat.Start(); err != nil {
			t.Fatal(err)
		}
		var st syscall.WaitStatus
		for !st.Stopped() {
			if _, err := syscall.Wait4(cat.Process.Pid, &st, syscall.WUNTRACED, nil); err != nil && err != syscall.EINTR {
				t.Fatal(err)
			}
		}
		cats = append(cats, cat)
	}
	m.count(2, 1000)
	for m.e.count.Load() < int64(len(cats)) {
		for _, cat := range cats {
			cat.Process.Signal(syscall.SIGCONT) // once more, for who had not stopped yet
		}
		if got := m.cat("current"); got != counted(901, 1000) { // the mount answers meanwhile
			t.Fatalf("current is %.100q", got)
		}
	}
	for _, cat := range cats {
		cat.Process.Kill()
		cat.Wait()
	}
}
