package fs

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"logfs/ring"
	"logfs/ring/record"
)

// slowFiles take their time to find a moment.
type slowFiles struct {
	*files
	asked, answer chan struct{}
}

func (f *slowFiles) Find(t record.Stamp) (uint64, bool, error) {
	f.asked <- struct{}{}
	<-f.answer
	return f.files.Find(t)
}

// threadState is that of a thread of this process, as ps has it.
func threadState(t *testing.T, tid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/stat", tid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return rest[:1]
}

// Who is interrupted while he waits for a file to be found gets it all the same:
// nobody expects EINTR from stat. Only what ends him ends that.
func TestSignalsWhileAFileIsFound(t *testing.T) {
	disk := &slowFiles{&files{}, make(chan struct{}), make(chan struct{})}
	m := mountService(t, Options{}, Service{Ring: ring.New(ring.Limits{Lines: 10}), History: disk})
	m.files = disk.files
	m.count(1, 100)

	tids, done := make(chan int, 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		tids <- unix.Gettid()
		var st syscall.Stat_t
		done <- syscall.Stat(m.path("since/10m/current"), &st)
	}()
	tid := <-tids
	<-disk.asked
	if err := unix.Tgkill(os.Getpid(), tid, unix.SIGURG); err != nil { // which Go catches
		t.Fatal(err)
	}
	for threadState(t, tid) != "D" && len(done) == 0 { // the kernel has told of the signal
		runtime.Gosched()
	}
	m.cat("current")
	disk.answer <- struct{}{}
	if err := <-done; err != nil {
		t.Errorf("stat: %v", err)
	}

	cmd := exec.Command("stat", m.path("since/10m/current"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-disk.asked
	_ = cmd.Process.Kill()
	if err := cmd.Wait(); cmd.ProcessState.Exited() {
		t.Errorf("stat ended with %v, want that it is killed", err)
	}
	disk.answer <- struct{}{}
}

// Reads of follow that are out of order, as those of tail and tac are, or do not
// wait, as those of tar, are full also where one load is not enough.
func TestFullReadsOfFollowFromDisk(t *testing.T) {
	m := mountWith(t, ring.Limits{Lines: 30}, &files{})
	m.say("= start run=1 pid=7")
	for range 2000 {
		m.say("e to be passed over", "o said")
	}
	m.say("= start run=2 pid=7")
	m.count(1, 50)
	for _, name := range []string{"run/1/follow", "run/1/stdout/follow", "since/start/stdout/follow"} {
		want := m.cat(strings.Replace(name, "follow", "current", 1))
		fd, err := syscall.Open(m.path(name), syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 8<<10)
		for off := int64(len(want) - len(b)); off > 0; off -= 1000 {
			if n, err := syscall.Pread(fd, b, off); err != nil || string(b[:max(n, 0)]) != want[off:off+int64(len(b))] {
				t.Fatalf("%s at %d: %d bytes, %v, want %d", name, off, n, err, len(b))
			}
		}
		syscall.Close(fd)
		if fd, err = syscall.Open(m.path(name), syscall.O_RDONLY|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0); err != nil {
			t.Fatal(err)
		}
		if n, err := syscall.Read(fd, b); err != nil || n != len(b) || string(b) != want[:n] {
			t.Errorf("%s without waiting: %d bytes, %v, want %d", name, n, err, len(b))
		}
		syscall.Close(fd)
	}
}

// What retention has deleted, and the ring still holds, is in the past, too.
func TestTheRingReachesFurtherThanTheFiles(t *testing.T) {
	m := mountWith(t, ring.Limits{Lines: 1000}, &files{})
	for run := 1; run <= 5; run++ {
		m.say(fmt.Sprintf("= start run=%d pid=7", run))
		m.count(1, 20)
	}
	whole := m.cat("seq")
	from := m.stamp - 90
	m.files.deleteTo(60)
	for _, name := range []string{"since/2026-01-01/seq", "since/start/seq", "since/1/seq"} {
		if got := m.cat(name); got != whole {
			t.Errorf("%s has %d lines, want %d: it begins with %.80q", name, strings.Count(got, "\n"), strings.Count(whole, "\n"), got)
		}
	}
	label := string(record.AppendStamp(nil, from))
	if got := m.cat("since/" + label + "/seq"); !strings.HasPrefix(got, label) || !strings.HasSuffix(whole, got) {
		t.Errorf("since/%s begins with %.80q", label, got)
	}
	for run := 1; run <= 5; run++ {
		if n := strings.Count(m.cat(fmt.Sprintf("run/%d/seq", run)), "\n"); n != 21 {
			t.Errorf("run %d has %d lines, want 21", run, n)
		}
	}
	runs, err := m.e.allRuns()
	if err != nil || len(runs) != 5 || runs[0].First != 1 || runs[2].First != 43 || runs[2].Last != 63 {
		t.Errorf("the runs are %v, %v", runs, err)
	}
}

// Who follows all services is not shown one that comes later and that he may not
// read.
func TestWhoMayNotReadAServiceIsNotShownIt(t *testing.T) {
	m := mountService(t, Options{AllowOther: true}, Service{Ring: ring.New(ring.Limits{})})
	m.e.Configure(Looks{Marks: true, Mode: 0o755})
	m.say("o one")
	mount := filepath.Dir(m.dir)
	if err := os.Chmod(filepath.Dir(mount), 0o755); err != nil {
		t.Fatal(err)
	}
	all := filepath.Join(mount, "all", "follow")
	follow := func(uid uint32) *bufio.Reader {
		cmd := exec.Command("cat", all)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return bufio.NewReader(out)
	}
	wants := func(r *bufio.Reader, want string) {
		t.Helper()
		if line, err := r.ReadString('\n'); line != want+"\n" {
			t.Errorf("got %q, %v, want %q", line, err, want)
		}
	}
	anybody, root := follow(65534), follow(0)
	wants(anybody, "web | one")
	wants(root, "web | one")

	add := func(name string, mode uint32) *mounted {
		o := &mounted{t: t, s: m.s, ring: ring.New(ring.Limits{}), stamp: m.stamp}
		var err error
		if o.e, err = m.s.Add(Service{Name: name, Ring: o.ring, Looks: Looks{Mode: mode}}); err != nil {
			t.Fatal(err)
		}
		return o
	}
	add("mine", 0o750).say("o secret")
	wants(root, "mine | secret")
	add("ours", 0o755).say("o public")
	wants(root, "ours | public")
	wants(anybody, "ours | public")
	if _, err := exec.Command("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat", all).Output(); err == nil {
		t.Error("anybody may open it still")
	}
}
