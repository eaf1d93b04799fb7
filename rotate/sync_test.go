package rotate

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// syncLogdir is a logdir whose fsyncs are counted, opened and at rest.
func syncLogdir(t *testing.T, change func(*Options)) (*Logdir, *faultFS) {
	t.Helper()
	fs := newFaultFS(0, 0)
	o := options(t.TempDir())
	o.FS, o.Sync, o.SyncBytes, o.Size = fs, time.Second, 10_000, 1<<20
	if change != nil {
		change(&o)
	}
	d := mustOpen(t, o)
	if err := d.Sync(); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	return d, fs
}

func (s *syncer) isRunning() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running
}

func TestSyncAfterInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, fs := syncLogdir(t, nil)
		defer d.Close()
		before := fs.synced()
		mustAppend(t, d, text(1), 1, 2, 0)
		<-time.After(600 * time.Millisecond)
		mustAppend(t, d, text(2), 2, 3, 0)
		<-time.After(399 * time.Millisecond)
		synctest.Wait()
		if fs.synced() != before {
			t.Fatal("fsync before the interval had passed")
		}
		<-time.After(2 * time.Millisecond)
		synctest.Wait()
		if got := fs.synced() - before; got != 1 {
			t.Errorf("%d fsyncs after the interval, want 1", got)
		}
		if d.syncer.isRunning() {
			t.Error("the goroutine lives on although nothing is dirty")
		}
		<-time.After(time.Hour)
		if got := fs.synced() - before; got != 1 {
			t.Errorf("%d fsyncs in an idle hour", got-1)
		}
		mustAppend(t, d, text(3), 3, 4, 0)
		<-time.After(1001 * time.Millisecond)
		synctest.Wait()
		if got := fs.synced() - before; got != 2 {
			t.Errorf("%d fsyncs after the second interval, want 2", got)
		}
	})
}

func TestSyncAfterBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, fs := syncLogdir(t, nil)
		defer d.Close()
		before, began := fs.synced(), time.Now()
		mustAppend(t, d, lines(1, 100), 1, 100, 0)
		synctest.Wait()
		if fs.synced() != before {
			t.Fatal("fsync below the number of bytes")
		}
		mustAppend(t, d, lines(100, 200), 100, 200, 0)
		synctest.Wait()
		if fs.synced()-before != 1 || time.Since(began) != 0 {
			t.Errorf("%d fsyncs after %v, want 1 at once", fs.synced()-before, time.Since(began))
		}
	})
}

func TestSyncAfterRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, fs := syncLogdir(t, nil)
		defer d.Close()
		mustAppend(t, d, text(1), 1, 2, 0)
		at := len(fs.logged(0))
		if err := d.Rotate(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		want := []string{
			"open .current.new", "chmod .current.new", "write .current.new", "link current", "rename .current.new",
			"fsync .current.new", "fsync .",
		}
		// The first file was made under that name, too; its run is read.
		got := slices.DeleteFunc(fs.logged(at), func(s string) bool { return strings.HasPrefix(s, "read ") })
		if !slices.Equal(got, want) {
			t.Errorf("calls %q, want %q", got, want)
		}
	})
}

// TestSyncSkipsDeletedFiles rotates while an fsync hangs: of the files that
// retention deletes meanwhile none is fsynced.
func TestSyncSkipsDeletedFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, fs := syncLogdir(t, func(o *Options) { o.Keep = 2 })
		entered, resume := make(chan struct{}), make(chan struct{})
		before := fs.synced()
		d.syncer.flushing.Lock() // as a flush that hangs does
		go func() {
			close(entered)
			<-resume
			d.syncer.flushing.Unlock()
		}()
		<-entered
		for n := uint64(1); n <= 20; n++ {
			mustAppend(t, d, text(n), n, n+1, 0)
			if err := d.Rotate(); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(d.syncer.finished); n != 2 {
			t.Errorf("%d files wait for their fsync, want the 2 that are kept", n)
		}
		close(resume)
		synctest.Wait()
		if got := fs.synced() - before; got != 3 {
			t.Errorf("%d fsyncs, want 3: two archives and the directory", got)
		}
		mustClose(t, d)
		checkFiles(t, d.opt.Dir, lines(19, 21))
	})
}

func TestSyncErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &countLog{}
		d, fs := syncLogdir(t, func(o *Options) { o.Log = slog.New(log) })
		const warning = "lines may be lost at power failure"
		fs.failSyncs(func(string) bool { return true })
		for n := uint64(1); n < 5; n++ {
			mustAppend(t, d, text(n), n, n+1, 0)
			<-time.After(2 * time.Second)
		}
		synctest.Wait()
		if n := log.count(warning); n != 1 {
			t.Errorf("%d warnings of four errors in a row, want 1", n)
		}
		fs.failSyncs(nil)
		if err := d.Sync(); !errors.Is(err, errFault) {
			t.Errorf("Sync: %v, want the error of the background", err)
		}
		mustAppend(t, d, text(5), 5, 6, 0)
		if err := d.Sync(); err != nil {
			t.Errorf("Sync again: %v", err)
		}
		mustAppend(t, d, text(6), 6, 7, 0)
		fs.failSyncs(func(name string) bool { return name != "." })
		if err := d.Close(); !errors.Is(err, errFault) {
			t.Errorf("Close: %v", err)
		}
		if n := log.count(warning); n != 2 {
			t.Errorf("%d warnings, want one more after a success", n)
		}
		if m := modeOf(t, d.opt.Dir); m != fileMode {
			t.Errorf("current has mode %o after a Close that failed, want %o", m, fileMode)
		}
	})
}

func TestCloseSyncsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, fs := syncLogdir(t, nil)
		mustAppend(t, d, text(1), 1, 2, 0)
		at := len(fs.logged(0))
		mustClose(t, d)
		name := d.cur.(*faultFile).name
		want := []string{"fsync " + name, "chmod " + name, "fsync " + name}
		if got := fs.logged(at); !slices.Equal(got, want) {
			t.Errorf("calls %q, want %q", got, want)
		}
	})
}
