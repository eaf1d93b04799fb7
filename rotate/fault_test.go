package rotate

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// writer plays the daemon: it appends numbered lines in batches, goes on
// after errors where Append says, and checks what Append says.
type writer struct {
	t        *testing.T
	opt      Options
	d        *Logdir
	next     uint64 // everything before it has been reported written
	reopen   bool   // answer an error with a crash and a new Open
	failures int
}

// retry runs step until it succeeds, as a daemon would later.
func (w *writer) retry(step func() error) {
	w.t.Helper()
	for range 30 {
		err := step()
		if err == nil {
			return
		}
		w.failures++
		if !errors.Is(err, errFault) {
			w.t.Fatalf("unexpected error: %v", err)
		}
		if w.reopen && w.d != nil {
			crash(w.d)
			w.d = nil
			w.retry(w.open)
		}
	}
	w.t.Fatal("no success after 30 attempts")
}

func (w *writer) open() error {
	d, err := Open(w.opt)
	if err != nil {
		return err
	}
	if got := d.State().Next; got != w.next {
		w.t.Errorf("opened with next number %d, Append has reported %d", got, w.next)
	}
	w.d = d
	return nil
}

func (w *writer) appendTo(end, batch uint64) {
	w.t.Helper()
	for w.next < end {
		w.retry(func() error {
			first, next := w.next, min(w.next+batch, end)
			written, err := w.d.Append([]byte(lines(first, next)), first, next, 0)
			if written < first || written > next || err == nil && written != next {
				w.t.Fatalf("Append %d to %d: written %d, error %v", first, next, written, err)
			}
			w.next = written
			return err
		})
	}
}

// tear leaves current as a crash within a write does.
func (w *writer) tear() {
	f, err := os.OpenFile(filepath.Join(w.opt.Dir, currentName), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text(w.next)[:40]); err != nil {
		w.t.Fatal(err)
	}
}

// script goes through everything that a logdir does: it begins one, rotates
// twice and trims, dies with a torn line, recovers, rotates on demand, closes,
// continues, closes.
func (w *writer) script() {
	w.t.Helper()
	w.retry(w.open)
	w.appendTo(30, 7)
	crash(w.d)
	w.tear()
	w.d = nil
	w.retry(w.open)
	w.appendTo(40, 4)
	w.retry(func() error { return w.d.Rotate() })
	w.appendTo(45, 20)
	w.retry(func() error { return w.close() })
	w.retry(w.open)
	w.appendTo(60, 3)
	w.retry(func() error { return w.close() })
}

func (w *writer) close() error {
	d := w.d
	if d == nil { // an attempt to close has failed; that ended it
		return nil
	}
	err := d.Close()
	if err != nil && !errors.Is(err, errFault) {
		return err
	}
	w.d = nil
	return nil
}

// TestFailureOfEveryCall lets call n fail, for every n, alone and with the
// calls after it, and goes on: in the same Logdir, or by dying and opening
// again. Each line must then be in the files once, in order, none torn; with
// retention, each from the first that is kept.
func TestFailureOfEveryCall(t *testing.T) {
	t.Parallel()
	for _, keep := range []int{1000, 2} {
		for _, count := range []int{1, 2, 4} {
			failEveryCall(t, keep, count, false)
			failEveryCall(t, keep, count, true)
		}
	}
}

func failEveryCall(t *testing.T, keep, count int, reopen bool) {
	for n := 1; ; n++ {
		dir := filepath.Join(t.TempDir(), "web")
		fs := newFaultFS(n, count)
		w := &writer{t: t, opt: options(dir), next: 1, reopen: reopen}
		w.opt.FS, w.opt.Keep = fs, keep
		w.script()
		checkFiles(t, dir, lines(w.oldest(), 60))
		if t.Failed() {
			t.Fatalf("keep %d, %d calls fail from %d (%s) on, reopen %v", keep, count, n, fs.log[n-1], reopen)
		}
		if !fs.fired {
			if n < 80 {
				t.Errorf("the script has only %d calls", n)
			}
			return
		}
	}
}

// oldest is the first number that should still be there: without retention
// the first of all, else that of the oldest archive, of which at most one is
// there in excess, because its removal was made to fail.
func (w *writer) oldest() uint64 {
	w.t.Helper()
	names, content := files(w.t, w.opt.Dir)
	if w.opt.Keep >= 1000 {
		return 1
	}
	if len(names) > w.opt.Keep+2 {
		w.t.Errorf("%d files, want %d archives at most", len(names), w.opt.Keep+1)
	}
	h, _, _ := readHeader(strings.NewReader(content[names[0]]))
	return h.First
}

// TestDeathAtEveryCall lets all calls from call n on fail, the first of them
// having written half, as if the process had been killed there.
func TestDeathAtEveryCall(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		dir := filepath.Join(t.TempDir(), "web")
		fs := newFaultFS(n, 1<<30)
		w := &writer{t: t, opt: options(dir), next: 1}
		w.opt.FS = fs
		killed := w.untilDeath()
		w.opt.FS = osFS{}
		w.retry(w.open)
		w.appendTo(60, 7)
		if err := w.d.Close(); err != nil {
			t.Fatal(err)
		}
		checkFiles(t, dir, lines(1, 60))
		if t.Failed() {
			t.Fatalf("death at call %d (%s)", n, fs.log[n-1])
		}
		if !killed {
			return
		}
	}
}

// untilDeath goes through a life of two rotations and retention.
func (w *writer) untilDeath() (killed bool) {
	if err := w.open(); err != nil {
		return true
	}
	for w.next < 40 {
		next := min(w.next+7, 40)
		written, err := w.d.Append([]byte(lines(w.next, next)), w.next, next, 0)
		w.next = written
		if err != nil {
			crash(w.d)
			return true
		}
	}
	return w.d.Close() != nil
}

// TestTornLineIsCutBeforeAnythingElse fails a write in the middle of a line
// and then the truncation: until that has succeeded nothing is written.
func TestTornLineIsCutBeforeAnythingElse(t *testing.T) {
	dir := t.TempDir()
	fs := newFaultFS(0, 0)
	o := options(dir)
	o.FS = fs
	d := mustOpen(t, o)
	mustAppend(t, d, lines(1, 3), 1, 3, 0)
	fs.from, fs.count = fs.calls+1, 3 // write, fstat; then fstat again
	written, err := d.Append([]byte(lines(3, 8)), 3, 8, 0)
	if written != 5 || !errors.Is(err, errFault) {
		t.Fatalf("written %d, error %v; want 5 and a fault", written, err)
	}
	if written, err = d.Append([]byte(lines(5, 8)), 5, 8, 0); written != 5 || err == nil {
		t.Fatalf("written %d, error %v; want 5 and a fault", written, err)
	}
	mustAppend(t, d, lines(5, 8), 5, 8, 0)
	mustClose(t, d)
	checkFiles(t, dir, lines(1, 8))
}

// TestFullDisk fills a file system, sees that what was reported written is
// there and nothing else, makes room, and goes on behind a lost mark.
func TestFullDisk(t *testing.T) {
	mount := filepath.Join(t.TempDir(), "small")
	if err := os.Mkdir(mount, 0o700); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() != 0 {
		t.Skip("FULL DISK NOT TESTED: mounting a small tmpfs needs root")
	}
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=128k"); err != nil {
		t.Skipf("FULL DISK NOT TESTED: cannot mount a tmpfs: %v", err)
	}
	defer func() {
		if err := unix.Unmount(mount, 0); err != nil {
			t.Errorf("mount left behind: %v", err)
		}
	}()
	ballast := filepath.Join(mount, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 32<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(mount, "web")
	o := options(dir)
	o.Size, o.Min = 10_000, 1000
	d := mustOpen(t, o)
	next, err := fill(d)
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("error %v, want ENOSPC", err)
	}
	if again, err := d.Append([]byte(lines(next, next+50)), next, next+50, 0); again != next || err == nil {
		t.Errorf("on the full disk: written %d, error %v", again, err)
	}
	checkFiles(t, dir, lines(1, next))
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	more := lost(next, 10) + lines(next+10, next+20)
	mustAppend(t, d, more, next, next+20, 0)
	checkFiles(t, dir, lines(1, next)+more)

	next, err = fill(d)
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("error %v, want ENOSPC", err)
	}
	crash(d)
	d = mustOpen(t, o)
	if d.State().Next != next {
		t.Errorf("opened with next %d, want %d", d.State().Next, next)
	}
	if _, err := d.Tail(10, 0); err != nil {
		t.Error(err)
	}
	for _, a := range d.archives[:5] {
		if err := os.Remove(filepath.Join(dir, a.name)); err != nil {
			t.Fatal(err)
		}
	}
	mustAppend(t, d, text(next), next, next+1, 0)
	givesUpArchives(t, d, o, next+1)
}

// givesUpArchives goes on writing on the full disk, once archives may go.
func givesUpArchives(t *testing.T, d *Logdir, o Options, next uint64) {
	t.Helper()
	log, room := &countLog{}, 0
	o.Min, o.Room = 3, func() { room++ }
	mustClose(t, d)
	o.Log = slog.New(log)
	d = mustOpen(t, o)
	for end := next + 5000; next < end; next += 33 {
		mustAppend(t, d, lines(next, next+33), next, next+33, 0)
	}
	if n := log.count("oldest archives given up"); n == 0 || n != room {
		t.Errorf("%d warnings, Room called %d times", n, room)
	}
	mustClose(t, d)
	checkFiles(t, o.Dir, lines(d.archives[0].first, next))
}

// TestFullDiskGivesUpOldestFirst has room for nothing: archives go down to
// Min, one for each attempt, and it is said once.
func TestFullDiskGivesUpOldestFirst(t *testing.T) {
	for _, c := range []struct{ min, want int }{{0, 2}, {-1, 0}, {3, 3}, {100, 5}} {
		log := &countLog{}
		fs := newFaultFS(0, 0)
		o := options(t.TempDir())
		o.FS, o.Log, o.Min = fs, slog.New(log), c.min
		d := mustOpen(t, o)
		mustAppend(t, d, lines(1, 56), 1, 56, 0) // five archives
		at := len(fs.logged(0))
		fs.full = true
		if written, err := d.Append([]byte(lines(56, 59)), 56, 59, 0); written != 56 || !errors.Is(err, unix.ENOSPC) {
			t.Errorf("min %d: written %d, error %v", c.min, written, err)
		}
		removed := 0
		for _, call := range fs.logged(at) {
			if strings.HasPrefix(call, "remove @") {
				removed++
			}
		}
		if len(d.archives) != c.want || removed != 5-c.want || log.count("given up") != min(removed, 1) {
			t.Errorf("min %d: %d archives left, %d removed, log %q", c.min, len(d.archives), removed, log.buf.String())
		}
		fs.full = false
		mustAppend(t, d, lines(56, 59), 56, 59, 0)
		checkFiles(t, o.Dir, lines(uint64(10*(5-c.want)+1), 59))
		mustClose(t, d)
	}
}

// TestOpenOnFullDisk has room for the names, but not for a header.
func TestOpenOnFullDisk(t *testing.T) {
	for _, have := range []file{
		{name: currentName, content: header(1, 1) + lines(1, 4)},
		{name: archiveName(base, complete), content: header(1, 1) + lines(1, 4)},
	} {
		dir := t.TempDir()
		lay(t, dir, have)
		fs := newFaultFS(0, 0)
		fs.full = true
		o := options(dir)
		o.FS = fs
		d := mustOpen(t, o)
		if s := d.State(); s.Next != 4 || s.Run != 1 {
			t.Errorf("opened as %+v", s)
		}
		if segments, err := d.Tail(0, 0); err != nil || join(segments) != lines(1, 4) {
			t.Errorf("Tail: %d segments, %v", len(segments), err)
		}
		if written, err := d.Append([]byte(text(4)), 4, 5, 1); written != 4 || !errors.Is(err, unix.ENOSPC) {
			t.Errorf("written %d, error %v", written, err)
		}
		fs.full = false
		mustAppend(t, d, text(4), 4, 5, 1)
		mustClose(t, d)
		checkFiles(t, dir, lines(1, 5))
	}
}

// fill appends until that fails.
func fill(d *Logdir) (next uint64, err error) {
	next = d.next
	for err == nil {
		next, err = d.Append([]byte(lines(next, next+33)), next, next+33, 0)
	}
	return next, err
}
