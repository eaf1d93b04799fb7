package daemon

import (
	"context"
	"syscall"
	"testing"
	"testing/synctest"

	"logfs/capture"
	"logfs/cmd/logfs/internal/config"
	"logfs/fs"
	"logfs/ring"
)

func TestWritersAreLimited(t *testing.T) {
	dt := openDaemon(t, newOptions(t, config.Service{Name: "web"}))
	web, _ := dt.tree.service("web")
	var open []fs.Writer
	for {
		w, err := web.Sink.Open(fs.Opening{Append: true, Pid: 1})
		if err == syscall.ENFILE {
			break
		}
		must(t, err)
		open = append(open, w)
	}
	if len(open) != maxWriters {
		t.Errorf("%d files are open for writing, want %d", len(open), maxWriters)
	}
	open[0].Close()
	w, err := web.Sink.Open(fs.Opening{Append: true, Pid: 1})
	must(t, err)
	for _, w := range append(open[1:], w) {
		w.Close()
	}
	if n := dt.writing.Load(); n != 0 {
		t.Errorf("%d files are counted as open when all are closed", n)
	}
	dt.end(t, nil)
}

// A write that cannot wait, or is interrupted while it does, has taken nothing.
func TestTextThatWaits(t *testing.T) {
	onBadDisk(t, "block", ring.Limits{}, true, func(t *testing.T, l *logTest) {
		x := &text{splitter: capture.NewSplitter(capture.Stdout, 0)}
		l.disk.room.Store(0)
		l.take(1, 1) // shown, and in hand
		if done, err := l.takeText(nil, x, []byte("lost\n"), noStall); done || err != nil {
			t.Errorf("a write that must not wait: %v, %v", done, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error)
		go func() { _, err := l.takeText(ctx, x, []byte("lost\n"), noStall); result <- err }()
		synctest.Wait()
		cancel()
		if err := <-result; err != syscall.EINTR {
			t.Errorf("an interrupted write: %v, want EINTR", err)
		}
		go func() { _, err := l.takeText(t.Context(), x, []byte("line\nhalf"), noStall); result <- err }()
		synctest.Wait()
		l.disk.room.Store(-1)
		must(t, <-result)
		l.endText(x, syscall.EBADF)
		if _, err := l.takeText(nil, x, []byte("late\n"), noStall); err != syscall.EBADF {
			t.Errorf("a write to what is closed: %v, want EBADF", err)
		}
		must(t, l.Sync())
		same(t, "stored", stored(t, l.dir), append(want(1, 1), "o line", "o+ half"))
	})
}
