package rotate

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// failOnce makes the next fsync of each of the given files fail.
func failOnce(fs *faultFS, names ...string) {
	left := map[string]bool{}
	for _, name := range names {
		left[name] = true
	}
	fs.failSyncs(func(name string) bool {
		failed := left[name]
		left[name] = false
		return failed
	})
}

const writtenAgain = "written again"

// TestCurrentIsWrittenAgain fails one fsync of current: its lines are then in
// another file of that name, once, and what comes later goes there.
func TestCurrentIsWrittenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &countLog{}
		d, fs := syncLogdir(t, func(o *Options) { o.Log = slog.New(log) })
		path := filepath.Join(d.opt.Dir, currentName)
		mustAppend(t, d, lines(1, 4), 1, 4, 0)
		r, _ := d.From(1)
		if s, err := r.Next(make([]byte, 70)); err != nil || s.First != 1 {
			t.Fatal(err)
		}
		before, _ := os.Stat(path)
		failOnce(fs, freshName)
		<-time.After(1100 * time.Millisecond)
		synctest.Wait()
		if after, _ := os.Stat(path); os.SameFile(before, after) {
			t.Error("current is the same file")
		}
		if log.count(writtenAgain) != 1 || log.count("lines may be lost") != 0 {
			t.Errorf("log %q", log.buf.String())
		}
		mustAppend(t, d, lines(4, 6), 4, 6, 0)
		if got := readAll(t, r, 1000); len(got) != 1 || got[0].First != 2 || string(got[0].Lines) != lines(2, 6) {
			t.Errorf("the reader got %d segments", len(got))
		}
		if err := d.Sync(); err != nil {
			t.Error(err)
		}
		mustClose(t, d)
		checkFiles(t, d.opt.Dir, lines(1, 6))
	})
}

// TestWritingAgainFails lets it fail for some time: it is said once, tried
// ever more rarely, and succeeds in the end, archives included.
func TestWritingAgainFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &countLog{}
		d, fs := syncLogdir(t, func(o *Options) { o.Log = slog.New(log) })
		fs.failSyncs(func(name string) bool { return name != "." })
		mustAppend(t, d, lines(1, 4), 1, 4, 0)
		if err := d.Rotate(); err != nil {
			t.Fatal(err)
		}
		mustAppend(t, d, lines(4, 6), 4, 6, 0)
		before := fs.synced()
		<-time.After(10 * time.Minute)
		synctest.Wait()
		if n := fs.synced() - before; n < 20 || n > 80 {
			t.Errorf("%d fsyncs in ten minutes of failure", n)
		}
		if log.count("lines may be lost") != 1 || log.count(writtenAgain) != 0 {
			t.Errorf("log %q", log.buf.String())
		}
		fs.failSyncs(nil)
		<-time.After(time.Minute)
		synctest.Wait()
		if log.count("archive "+writtenAgain) != 1 || log.count("current "+writtenAgain) != 1 {
			t.Errorf("log %q", log.buf.String())
		}
		if d.syncer.isRunning() {
			t.Error("the goroutine lives on although nothing is broken")
		}
		if err := d.Sync(); !errors.Is(err, errFault) {
			t.Errorf("Sync: %v, want the error of the background", err)
		}
		mustClose(t, d)
		checkFiles(t, d.opt.Dir, lines(1, 6))
	})
}

// TestLostPages has pages that the page cache has not kept: only who hands in
// the lines can have them written again. The pages hold zeros, or lines of
// something else; some had been fsynced before, or none; and what had been may
// be lost, too.
func TestLostPages(t *testing.T) {
	for _, again := range []string{"none", "right", "short", "refused"} {
		for _, synced := range []bool{true, false} {
			for _, junk := range []string{"\x00", "x\n"} {
				for _, all := range []bool{false, true} {
					synctest.Test(t, func(t *testing.T) { losePages(t, again, junk, synced, all) })
					if t.Failed() {
						t.Fatalf("again %s, synced %v, junk %q, all %v", again, synced, junk, all)
					}
				}
			}
		}
	}
}

func losePages(t *testing.T, again, junk string, synced, all bool) {
	log := &countLog{}
	d, fs := syncLogdir(t, func(o *Options) {
		o.Log = slog.New(log)
		o.Again = func(first, next uint64) ([]byte, bool) {
			switch again {
			case "right":
				return []byte(lines(first, next)), true
			case "short":
				return []byte(lines(first+1, next)), true
			}
			return nil, false
		}
		if again == "none" {
			o.Again = nil
		}
	})
	mustAppend(t, d, lines(1, 4), 1, 4, 0)
	if synced {
		if err := d.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	mustAppend(t, d, lines(4, 8), 4, 8, 0)
	path := filepath.Join(d.opt.Dir, currentName)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lost := b[len(b)-200:]
	if all {
		lost = b
	}
	copy(lost, bytes.Repeat([]byte(junk), len(lost)/len(junk)))
	if err := os.WriteFile(path, b, 0o640); err != nil {
		t.Fatal(err)
	}
	failOnce(fs, freshName)
	err = d.Sync()
	if want := again == "right"; want != (err == nil) || want != (log.count(writtenAgain) == 1) {
		t.Errorf("%v, log %q", err, log.buf.String())
	}
	if again == "right" {
		mustClose(t, d)
		checkFiles(t, d.opt.Dir, lines(1, 8))
		return
	}
	d.Close()
	if after, _ := os.ReadFile(path); !bytes.Equal(after, b) {
		t.Error("current was changed")
	}
}

// TestHeaderIsMadeAgain loses all of a current whose header says that the clock
// had stepped back: it comes again to the byte.
func TestHeaderIsMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, fs := syncLogdir(t, func(o *Options) {
			o.Again = func(first, next uint64) ([]byte, bool) { return []byte(lines(first, next)), true }
		})
		mustAppend(t, d, lines(500, 502)+text(3), 1, 4, 0)
		if err := d.Rotate(); err != nil {
			t.Fatal(err)
		}
		mustAppend(t, d, lines(4, 8), 4, 8, 0)
		path := filepath.Join(d.opt.Dir, currentName)
		want, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, make([]byte, len(want)), 0o640)
		}
		if err != nil {
			t.Fatal(err)
		}
		failOnce(fs, freshName)
		if err := d.Sync(); err != nil {
			t.Error(err)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) || !bytes.Contains(got, []byte(" top=@")) {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
		mustClose(t, d)
	})
}

// TestFailureOfEveryCallOfWritingAgain lets every call fail while current and
// an archive are written again, and the process die there.
func TestFailureOfEveryCallOfWritingAgain(t *testing.T) {
	t.Parallel()
	for _, die := range []bool{false, true} {
		for n := 1; ; n++ {
			dir := t.TempDir()
			fs := newFaultFS(0, 0)
			o := options(dir)
			o.FS = fs
			d := mustOpen(t, o)
			mustAppend(t, d, lines(1, 15), 1, 15, 0)
			left := 2 // the archive and current, both made under that name
			fs.failSyncs(func(name string) bool {
				if name != freshName || left == 0 {
					return false
				}
				left--
				return true
			})
			fs.mu.Lock()
			fs.from, fs.count = fs.calls+n, 1
			if die {
				fs.count = 1 << 30
			}
			fs.mu.Unlock()
			err := d.Sync()
			fs.mu.Lock()
			fired := fs.fired
			fs.from = 0
			fs.mu.Unlock()
			if die {
				crash(d)
				d = mustOpen(t, o)
			} else if err != nil {
				d.Sync()
				if err := d.Sync(); err != nil {
					t.Errorf("call %d: Sync after repair: %v", n, err)
				}
			}
			mustAppend(t, d, lines(15, 18), 15, 18, 0)
			mustClose(t, d)
			checkFiles(t, dir, lines(1, 18))
			if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
				t.Errorf("%q are left", left)
			}
			if t.Failed() {
				t.Fatalf("call %d, die %v", n, die)
			}
			if !fired {
				break
			}
		}
	}
}
