package daemon

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"logfs/capture"
	"logfs/cmd/logfs/internal/control"
	"logfs/ring/record"
)

// A client that brings a run to the next daemon does not know yet that its exit
// mark is in the files, and may say that it has ended.
func TestRunThatWasOverIsEnded(t *testing.T) {
	dt := openDaemon(t, newOptions(t))
	kept, err := capture.NewHold()
	must(t, err)
	t.Cleanup(func() { closeAll(kept) })
	bring := func(text string) control.Run {
		var hold []*os.File
		for _, f := range kept {
			fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
			must(t, err)
			hold = append(hold, os.NewFile(uintptr(fd), "hold"))
		}
		r, w, err := os.Pipe()
		must(t, err)
		say(t, w, text)
		w.Close()
		run, err := dt.Attach(control.Attach{Name: "web", Kind: control.Pipe, Streams: []*os.File{r}, Hold: hold})
		must(t, err)
		must(t, run.Start(0))
		return run
	}
	must(t, wait(t, bring("one\n")))
	again := bring("")
	must(t, again.Exit(record.Exit{}))
	must(t, wait(t, again))
	dt.end(t, nil)
	same(t, "stored", dt.stored(t, "web"), []string{"= start run=1", "o one", "= exit"})
}
