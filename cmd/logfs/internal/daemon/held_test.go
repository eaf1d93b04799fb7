package daemon

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"logfs/capture"
	"logfs/cmd/logfs/internal/control"
	"logfs/cmd/logfs/internal/exit"
	"logfs/ring/record"
)

// A holder is a client that brings the same run to one daemon after the other.
type holder struct {
	name    string
	streams []*os.File
	ends    []*os.File
	hold    []*os.File
}

func newHolder(t *testing.T, name string) *holder {
	t.Helper()
	h := &holder{name: name}
	for range 2 {
		r, w, err := Pipe()
		must(t, err)
		h.streams, h.ends = append(h.streams, r), append(h.ends, w)
	}
	var err error
	h.hold, err = capture.NewHold()
	must(t, err)
	t.Cleanup(func() {
		closeAll(h.streams)
		closeAll(h.ends)
		closeAll(h.hold)
	})
	return h
}

func (h *holder) attach(t *testing.T, dt *daemonTest) (control.Run, error) {
	return dt.Attach(control.Attach{Name: h.name, Kind: control.Command,
		Streams: duplicates(t, h.streams), Hold: duplicates(t, h.hold)})
}

func (h *holder) bring(t *testing.T, dt *daemonTest) control.Run {
	t.Helper()
	r, err := h.attach(t, dt)
	must(t, err)
	must(t, r.Start(4242))
	return r
}

// next is the daemon after this one.
func (dt *daemonTest) next(t *testing.T) *daemonTest {
	t.Helper()
	dt.end(t, nil)
	return openDaemon(t, dt.o)
}

func TestRunGoesOnWithTheNextDaemon(t *testing.T) {
	dt := openDaemon(t, newOptions(t))
	h := newHolder(t, "web")
	first := h.bring(t, dt)
	say(t, h.ends[0], "one\ntw")
	say(t, h.ends[1], "error\n")
	dt = dt.next(t)
	if err := wait(t, first); !errors.Is(err, control.ErrLeft) {
		t.Errorf("Wait: %v, want %v", err, control.ErrLeft)
	}
	second := h.bring(t, dt)
	say(t, h.ends[0], "o\nunfin")
	closeAll(h.ends)
	must(t, second.Exit(record.Exit{Known: true}))
	must(t, wait(t, second))
	got := dt.stored(t, "web")
	same(t, "stored", sorted(got[1:len(got)-1]), []string{"e error", "o one", "o two", "o+ unfin"})
	same(t, "marks", []string{got[0], got[len(got)-1]}, []string{"= start run=1", "= exit code=0"})
}

// A daemon that was killed when the exit mark was in has captured what the
// children of the command still wrote; so does the next. How the command has
// ended, it is told once more.
func TestGrandchildOfARunThatWasOver(t *testing.T) {
	dt := openDaemon(t, newOptions(t))
	h := newHolder(t, "web")
	r := h.bring(t, dt)
	must(t, r.Exit(record.Exit{Known: true, Code: 7}))
	must(t, wait(t, r))
	dt = dt.next(t)
	again, err := h.attach(t, dt)
	must(t, err)
	must(t, again.Start(4242))
	must(t, again.Exit(record.Exit{Known: true, Code: 7}))
	must(t, wait(t, again))
	if how := again.(*attached).how; how.Code != 7 {
		t.Errorf("ended with %+v, want code 7", how)
	}
	if state, _, _ := dt.find("web").snapshot(); state != Failed {
		t.Errorf("state %s, want %s", state, Failed)
	}
	say(t, h.ends[0], "late\n")
	closeAll(h.ends)
	dt.end(t, nil)
	same(t, "stored", dt.stored(t, "web"), []string{"= start run=1", "= exit code=7", "o late"})
}

func photograph(t *testing.T, hold []*os.File) []byte {
	memory := make([]byte, 32<<10)
	_, err := hold[0].ReadAt(memory, 0)
	must(t, err)
	return memory
}

// A daemon that ends refuses a run without a look into its Hold: the one before
// may still have that open.
func TestRefusedHoldIsLeftAlone(t *testing.T) {
	dt := openDaemon(t, newOptions(t))
	h := newHolder(t, "web")
	dt.end(t, nil)
	if _, err := h.attach(t, dt); !errors.Is(err, errStopping) {
		t.Errorf("Attach after Close: %v, want %v", err, errStopping)
	}
	if memory := photograph(t, h.hold); strings.Trim(string(memory), "\x00") != "" {
		t.Errorf("the Hold has been written to: %q", strings.Trim(string(memory[:4096]), "\x00"))
	}
}

// A name is free again when its Hold cannot be used.
func TestForeignHoldGivesTheNameBack(t *testing.T) {
	dt := openDaemon(t, newOptions(t))
	h := newHolder(t, "web")
	_, err := h.hold[0].WriteAt([]byte("something"), 0)
	must(t, err)
	if _, err := h.attach(t, dt); exit.Status(err) != exit.Misuse {
		t.Errorf("Attach with a foreign Hold: %v, want misuse", err)
	}
	r, _ := dt.attach(t, "web", control.Command)
	r.Detach()
}

// The daemon ends the process groups of its own commands: it must not be told of
// one that is none.
func TestOwnRunOfNoCommand(t *testing.T) {
	dt := openDaemon(t, newOptions(t, shell("web", "exit 0")))
	for _, pid := range []int{1, 0, -2} {
		h := newHolder(t, "web")
		r, err := dt.Attach(control.Attach{Name: "web", Kind: control.Command, Service: true,
			Streams: duplicates(t, h.streams), Hold: duplicates(t, h.hold)})
		must(t, err)
		if err := r.Start(pid); exit.Status(err) != exit.Misuse {
			t.Errorf("Start with process %d: %v, want misuse", pid, err)
		}
		r.Detach()
	}
}

// The holder that an earlier daemon has left need not come: it may look elsewhere.
// That does not keep this one from ending, nor does it start the command again.
func TestHolderThatDoesNotCome(t *testing.T) {
	o := newOptions(t, shell("web", "true"))
	o.Holder = "/bin/false"
	must(t, os.MkdirAll(filepath.Join(o.Config.Store, locksDir), 0o700))
	lock, err := os.Create(filepath.Join(o.Config.Store, locksDir, "web"))
	must(t, err)
	defer lock.Close()
	must(t, unix.Flock(int(lock.Fd()), unix.LOCK_EX))
	dt := openDaemon(t, o)
	dt.Start()
	for !strings.Contains(dt.events.String(), "waiting for its holder") {
		runtime.Gosched()
	}
	hurry := make(chan struct{})
	close(hurry)
	dt.end(t, hurry)
	if said := dt.events.String(); strings.Contains(said, "cannot start") {
		t.Errorf("a holder was started: %s", said)
	}
}

// No run leaves a descriptor open, or memory mapped, however it ends.
func TestRunsLeaveNoDescriptors(t *testing.T) {
	dt := openDaemon(t, newOptions(t))
	for _, tt := range []struct {
		name string
		run  func(h *holder)
	}{
		{"ended", func(h *holder) {
			r := h.bring(t, dt)
			say(t, h.ends[0], "x\n")
			closeAll(h.ends)
			must(t, r.Exit(record.Exit{Known: true}))
			must(t, wait(t, r))
			r.Detach()
			<-r.(*attached).drained
		}},
		{"ended, and brought again", func(h *holder) {
			closeAll(h.ends)
			for range 2 {
				r := h.bring(t, dt)
				must(t, r.Exit(record.Exit{Known: true}))
				must(t, wait(t, r))
				r.Detach()
				<-r.(*attached).drained
			}
		}},
		{"never started", func(h *holder) {
			r, err := h.attach(t, dt)
			must(t, err)
			r.Detach()
		}},
		{"refused", func(h *holder) {
			h.name = "no/name"
			if _, err := h.attach(t, dt); err == nil {
				t.Error("not refused")
			}
		}},
		{"with a foreign Hold", func(h *holder) {
			h.hold[0].WriteAt([]byte("foreign"), 0)
			if _, err := h.attach(t, dt); err == nil {
				t.Error("not refused")
			}
		}},
		{"that writes to the mount", func(h *holder) {
			_, err := dt.Attach(control.Attach{Name: "web", Kind: control.Written, Hold: duplicates(t, h.hold)})
			if exit.Status(err) != exit.Misuse {
				t.Errorf("Attach of a run that writes to the mount, with a Hold: %v, want misuse", err)
			}
		}},
		{"with two descriptors for a Hold", func(h *holder) {
			h.hold[0].Close()
			h.hold = h.hold[1:]
			if _, err := h.attach(t, dt); err == nil {
				t.Error("not refused")
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			open, mapped := 0, 0
			for i := range 12 {
				t.Run("", func(t *testing.T) { tt.run(newHolder(t, "web")) })
				o, m := opened(t)
				if i == 2 { // the runtime has what it needs
					open, mapped = o, m
				} else if i > 2 && (o > open || m > mapped) {
					t.Fatalf("after %d runs %d descriptors are open and %d Holds mapped, after the third %d and %d", i, o, m, open, mapped)
				}
			}
		})
	}
}

// opened counts the descriptors of this process, and the Holds it has mapped.
func opened(t *testing.T) (descriptors, mapped int) {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	maps, err := os.ReadFile("/proc/self/maps")
	must(t, err)
	return len(all), strings.Count(string(maps), "logfs-hold")
}

// A daemon that ends while its disk takes nothing leaves the lines that wait, and
// the exit mark behind them, to the next: the holder has them.
func TestLinesThatWaitAreLeft(t *testing.T) {
	lt := newLogTest(t)
	h := newHolder(t, "web")
	begin := func(ctx context.Context, live *sync.WaitGroup) *run {
		s := &service{name: "web", log: lt.Log, events: lt.events.logger()}
		r := (&Daemon{serving: t.Context()}).newRun(s, control.Command, duplicates(t, h.streams))
		var err error
		r.hold, err = openHold(duplicates(t, h.hold))
		must(t, err)
		r.begin(ctx, live, 42)
		return r
	}
	lt.disk.room.Store(0)
	var live sync.WaitGroup
	ctx, end := context.WithCancel(t.Context())
	r := begin(ctx, &live)
	say(t, h.ends[0], "one\ntwo\n")
	r.exited(record.Exit{Known: true, Code: 3})
	for len(r.words) > 0 {
		runtime.Gosched()
	}
	end() // while the exit mark waits for the end of the pipes
	live.Wait()
	closeAll(h.ends)
	if r.err != control.ErrLeft {
		t.Errorf("the run ended with %v, want that it is left", r.err)
	}
	if err := lt.Close(); err == nil {
		t.Error("the disk has taken something")
	}
	lt.disk.room.Store(-1)
	lt.open(t)
	r = begin(t.Context(), &live)
	r.exited(record.Exit{Known: true, Code: 3})
	live.Wait()
	got := stored(t, lt.dir)
	for i := range got {
		got[i] = withoutAfter(got[i])
	}
	same(t, "stored", got, []string{"= start run=1 pid=42", "o one", "o two", "= exit code=3"})
}
