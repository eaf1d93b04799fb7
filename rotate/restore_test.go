package rotate

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// deleted is a logdir with the records 1 to 6, seen at its path, and then deleted
// with its parent. In force is run 7.
func deleted(t *testing.T, change func(*Options)) (d *Logdir, log *countLog) {
	t.Helper()
	log = &countLog{}
	o := options(filepath.Join(t.TempDir(), "store", "web"))
	o.Log = slog.New(log)
	change(&o)
	d = mustOpen(t, o)
	mustAppend(t, d, start(1, 7)+lines(2, 7), 1, 7, 0)
	must(t, d.Sync())
	d.syncer.stop() // it looks when the test says so
	must(t, os.RemoveAll(filepath.Dir(o.Dir)))
	return d, log
}

// TestDeletedLogdir finds out that its directory is gone at an fsync, or when
// it rotates. All that came after it was seen last is in the files again, and
// numbers and runs go on.
func TestDeletedLogdir(t *testing.T) {
	for _, found := range []string{"sync", "full", "rotate"} {
		d, log := deleted(t, func(*Options) {})
		mustAppend(t, d, lines(7, 9), 7, 9, 7)
		next := uint64(9)
		switch found {
		case "sync":
			must(t, d.Sync())
		case "full":
			mustAppend(t, d, lines(9, 30), 9, 30, 7)
			next = 30
		case "rotate":
			must(t, d.Rotate())
		}
		r, err := d.From(7)
		must(t, err)
		mustAppend(t, d, lines(next, 40), next, 40, 7)
		var read strings.Builder
		for _, s := range readAll(t, r, 1000) {
			if s.Run != 7 {
				t.Errorf("%s: run %d, want 7", found, s.Run)
			}
			read.Write(s.Lines)
		}
		r.Close()
		if read.String() != lines(7, 40) {
			t.Errorf("%s: a reader gets\n%s", found, read.String())
		}
		mustClose(t, d)
		checkFiles(t, d.opt.Dir, lines(7, 40))
		if log.count("is there again") != 1 || log.count("\n") != 1 {
			t.Errorf("%s: log %q", found, log.buf.String())
		}
		d = mustOpen(t, d.opt)
		if s := d.State(); s.Next != 40 || s.Run != 7 || !s.Clean {
			t.Errorf("%s: opened again as %+v", found, s)
		}
		mustClose(t, d)
	}
}

// TestDeletedLogdirAndEveryFailure lets every call fail while the directory is
// made again.
func TestDeletedLogdirAndEveryFailure(t *testing.T) {
	t.Parallel()
	for _, count := range []int{1, 3} {
		for n := 1; ; n++ {
			fs := newFaultFS(0, 0)
			d, _ := deleted(t, func(o *Options) { o.FS = fs })
			fs.from, fs.count = fs.calls+n, count
			w := &writer{t: t, opt: d.opt, d: d, next: 7}
			w.appendRun(40, 7)
			if err := d.Close(); err != nil && !errors.Is(err, errFault) {
				t.Error(err)
			}
			checkFiles(t, d.opt.Dir, lines(7, 40))
			if t.Failed() {
				t.Fatalf("%d calls fail from %d (%s) on", count, n, fs.log[fs.from-1])
			}
			if !fs.fired {
				break
			}
		}
	}
}

// appendRun is appendTo in a run.
func (w *writer) appendRun(end, run uint64) {
	w.t.Helper()
	for w.next < end {
		w.retry(func() error {
			written, err := w.d.Append([]byte(lines(w.next, end)), w.next, end, run)
			w.next = written
			return err
		})
	}
}

// TestLogdirReplacedByLink does not follow the link, says so, and comes back
// when it is gone.
func TestLogdirReplacedByLink(t *testing.T) {
	d, log := deleted(t, func(*Options) {})
	elsewhere := t.TempDir()
	must(t, os.Mkdir(filepath.Dir(d.opt.Dir), 0o755))
	must(t, os.Symlink(elsewhere, d.opt.Dir))
	for range 3 {
		must(t, d.Sync())
		mustAppend(t, d, lines(d.next, d.next+1), d.next, d.next+1, 7)
	}
	next, err := d.Append([]byte(lines(10, 30)), 10, 30, 7)
	if !errors.Is(err, errLink) {
		t.Errorf("written up to %d, error %v, want that there is a link", next, err)
	}
	if entries, _ := os.ReadDir(elsewhere); len(entries) > 0 {
		t.Errorf("the link was followed: %v", entries)
	}
	if log.count("cannot be made again") != 1 || log.count("\n") != 1 {
		t.Errorf("log %q", log.buf.String())
	}
	must(t, os.Remove(d.opt.Dir))
	mustAppend(t, d, lines(next, 30), next, 30, 7)
	mustClose(t, d)
	checkFiles(t, d.opt.Dir, lines(7, 30))
}

// TestMovedLogdir writes on where the directory has gone, and says so.
func TestMovedLogdir(t *testing.T) {
	log := &countLog{}
	o := options(filepath.Join(t.TempDir(), "web"))
	o.Log = slog.New(log)
	d := mustOpen(t, o)
	mustAppend(t, d, lines(1, 5), 1, 5, 0)
	d.syncer.stop()
	must(t, os.Rename(o.Dir, o.Dir+".moved"))
	must(t, os.Symlink(t.TempDir(), o.Dir))
	must(t, d.Sync())
	mustAppend(t, d, lines(5, 30), 5, 30, 0)
	must(t, d.Sync())
	if log.count("not at its path") != 1 || log.count("\n") != 1 {
		t.Errorf("log %q", log.buf.String())
	}
	mustClose(t, d)
	checkFiles(t, o.Dir+".moved", lines(1, 30))
}

// TestDiskMountedAgain has a disk that dies and is mounted again in the state
// of its last fsync. What is missing comes from the former current, or from
// whoever has it.
func TestDiskMountedAgain(t *testing.T) {
	for _, readable := range []bool{true, false} {
		fs := newFaultFS(0, 0)
		o := options(filepath.Join(t.TempDir(), "web"))
		o.FS = fs
		o.Again = func(first, next uint64) ([]byte, bool) { return []byte(lines(first, next)), true }
		d := mustOpen(t, o)
		mustAppend(t, d, lines(1, 14), 1, 14, 0)
		saved := t.TempDir()
		must(t, os.CopyFS(saved, os.DirFS(o.Dir)))
		mustAppend(t, d, lines(14, 17), 14, 17, 0)
		must(t, os.Rename(o.Dir, o.Dir+".dead"))
		fs.full = true
		if next, err := d.Append([]byte(lines(17, 18)), 17, 18, 0); next != 17 || err == nil {
			t.Fatalf("written up to %d on a dead disk, error %v", next, err)
		}
		if _, err := os.Stat(o.Dir); err == nil {
			t.Error("a directory was made where the disk had been")
		}
		must(t, os.Rename(saved, o.Dir))
		if !readable {
			must(t, os.Truncate(filepath.Join(o.Dir+".dead", currentName), 100))
		}
		fs.full = false
		fs.from, fs.count = fs.calls+1, 1 // the last that the dead disk answers
		mustAppend(t, d, lines(17, 40), 17, 40, 0)
		mustClose(t, d)
		checkFiles(t, o.Dir, lines(1, 40))
	}
}
