package daemon

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"logfs/capture"
	"logfs/cmd/logfs/internal/config"
	"logfs/cmd/logfs/internal/control"
	"logfs/ring/record"
	"logfs/rotate"
)

// The tests here photograph all that outlives a daemon whenever it writes to its
// disk, and begin another one with each picture: that is what a kill there leaves.

// A left is what outlives a daemon: the files, and what the holder has open.
type left struct {
	when   string
	store  string
	memory []byte
	pipe   []byte
	inputs [2][]byte
	fed    int
}

// A life is a daemon with one service, from a left to its end.
type life struct {
	t       *testing.T
	feeds   []string             // "o" or "e" and a text; one is written with each write
	refuses func(write int) bool // what the disk does

	others []bool // runs of somebody else before, and whether a daemon has ended after it

	store   string
	hold    []*os.File
	streams []*os.File
	ends    []*os.File
	writes  int
	resumed bool
	opened  bool
	mu      sync.Mutex // guards the following
	fed     int
	lefts   []left
}

// begin restores what was left, or nothing.
func begin(t *testing.T, l *life, from left) {
	t.Helper()
	l.t, l.store, l.fed, l.resumed = t, filepath.Join(t.TempDir(), "web"), from.fed, from.fed > 0
	if from.store != "" {
		must(t, os.CopyFS(l.store, os.DirFS(from.store)))
	}
	var err error
	l.hold, err = capture.NewHold()
	must(t, err)
	for i := range 2 {
		r, w, err := Pipe()
		must(t, err)
		l.streams, l.ends = append(l.streams, r), append(l.ends, w)
		_, err = w.Write(from.inputs[i])
		must(t, err)
	}
	_, err = l.hold[0].WriteAt(from.memory, 0)
	must(t, err)
	_, err = l.hold[2].Write(from.pipe)
	must(t, err)
}

func (l *life) end() {
	closeAll(l.hold)
	closeAll(l.streams)
	closeAll(l.ends)
}

// live lets a daemon capture the run to its end.
func (l *life) live() {
	l.t.Helper()
	defer l.end()
	w := newWatchdog()
	w.ticking = true // for ever: a busy machine makes no disk late here
	d := newDisk()
	d.onWrite = l.write
	open := func() *Log {
		log, err := OpenLog(LogOptions{
			Rotate:    rotate.Options{Dir: l.store, Service: "web", FS: d, Size: 600, Keep: 100, Sync: time.Hour, SyncBytes: 1 << 40, Boot: "one"},
			LineLimit: 10, Log: new(events).logger(), watchdog: w,
		})
		must(l.t, err)
		return log
	}
	log := open()
	for _, another := range l.others {
		log.BeginRun(nil, 99)
		log.Take(pieces("other"), noStall)
		log.EndRun(nil, record.Exit{})
		if another {
			must(l.t, log.Close())
			log = open()
		}
	}
	l.opened = true
	s := &service{name: "web", log: log, events: new(events).logger(), settings: config.Default().Defaults}
	hold, err := openHold(duplicates(l.t, l.hold))
	must(l.t, err)
	r := (&Daemon{serving: l.t.Context()}).newRun(s, control.Command, duplicates(l.t, l.streams))
	r.hold = hold
	var live sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if l.fed == 0 {
		l.feed()
	}
	r.begin(ctx, &live, 4242)
	if l.resumed || l.refuses != nil {
		// There may not be as many writes as in the first life.
		for l.feed() {
		}
	}
	r.exited(record.Exit{Known: true, Code: 3})
	live.Wait()
	if r.how.Code != 3 {
		l.t.Errorf("ended with %+v, want code 3", r.how)
	}
	for log.settle() != nil { // every attempt is a write, and one of them will do
	}
	must(l.t, log.Close())
}

func duplicates(t *testing.T, files []*os.File) (dups []*os.File) {
	for _, f := range files {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		must(t, err)
		dups = append(dups, os.NewFile(uintptr(fd), f.Name()))
	}
	return dups
}

func (l *life) feed() (more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fed < len(l.feeds) {
		text := l.feeds[l.fed]
		say(l.t, l.ends[strings.Index("oe", text[:1])], text[1:])
		l.fed++
	}
	if l.fed == len(l.feeds) {
		closeAll(l.ends)
	}
	return l.fed < len(l.feeds)
}

// write is what the disk does: a kill may come before it, in its middle, and
// behind it.
func (l *life) write(f *os.File, b []byte) (int, error) {
	if !l.resumed && l.writes == 0 && !l.opened {
		return f.Write(b) // of a log that is made
	}
	l.writes++
	l.photograph("before write %d", l.writes)
	if l.refuses != nil && l.refuses(l.writes) {
		return 0, errDisk
	}
	half := len(b) * 2 / 3
	if _, err := f.Write(b[:half]); err != nil {
		return 0, err
	}
	l.photograph("in write %d", l.writes)
	_, err := f.Write(b[half:])
	l.photograph("after write %d", l.writes)
	l.feed()
	return len(b), err
}

func (l *life) photograph(when string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	pic := left{when: fmt.Sprintf(when, args...), store: filepath.Join(l.t.TempDir(), "web"), fed: l.fed}
	must(l.t, os.CopyFS(pic.store, os.DirFS(l.store)))
	for pic.look(l); ; {
		again := pic
		again.look(l)
		// Capture may go on meanwhile.
		if bytes.Equal(pic.memory, again.memory) && bytes.Equal(pic.pipe, again.pipe) && slices.EqualFunc(pic.inputs[:], again.inputs[:], bytes.Equal) {
			break
		}
		pic = again
	}
	l.lefts = append(l.lefts, pic)
}

func (pic *left) look(l *life) {
	for i, r := range l.streams {
		pic.inputs[i] = peek(l.t, r)
	}
	pic.pipe = peek(l.t, l.hold[1])
	// The rooms are used at their beginnings only.
	pic.memory = make([]byte, 32<<10)
	_, err := l.hold[0].ReadAt(pic.memory, 0)
	must(l.t, err)
	room := make([]byte, 32<<10)
	_, err = l.hold[0].ReadAt(room, 4<<10+1<<20)
	must(l.t, err)
	pic.memory = append(pic.memory, make([]byte, 4<<10+1<<20-len(pic.memory))...)
	pic.memory = append(pic.memory, room...)
}

// peek returns what is in a pipe and leaves it there.
func peek(t *testing.T, pipe *os.File) []byte {
	r, w, err := Pipe()
	must(t, err)
	defer r.Close()
	_, err = unix.Tee(int(pipe.Fd()), int(w.Fd()), 1<<20, unix.SPLICE_F_NONBLOCK)
	w.Close()
	if err != unix.EAGAIN {
		must(t, err)
	}
	text, err := io.ReadAll(r)
	must(t, err)
	return text
}

// check compares the files with what was said.
func (l *life) check(when ...string) {
	l.t.Helper()
	lines := stored(l.t, l.store)
	var got [2]string
	var marks []string
	run := "no run"
	for _, line := range lines {
		kind, text, _ := strings.Cut(line, " ")
		switch {
		case kind == "=":
			marks = append(marks, withoutAfter(line))
			_, run, _ = strings.Cut(line, " pid=")
			continue
		case line == "o other":
			continue
		case run != "4242":
			l.t.Errorf("%q is not in the run", line)
		}
		if !strings.HasSuffix(kind, "+") {
			text += "\n"
		}
		got[strings.Index("oe", kind[:1])] += text
	}
	var want [2]string
	for _, text := range l.feeds {
		want[strings.Index("oe", text[:1])] += text[1:]
	}
	same(l.t, "stdout and stderr", got[:], want[:])
	l.checkMarks(marks)
	if l.t.Failed() {
		l.t.Fatalf("killed %s\n%s", strings.Join(when, ", then "), strings.Join(lines, "\n"))
	}
}

// checkMarks wants one run, or one that was divided by others.
func (l *life) checkMarks(marks []string) {
	l.t.Helper()
	if l.others == nil {
		same(l.t, "marks", marks, []string{"= start run=1 pid=4242", "= exit code=3"})
		return
	}
	exits := 0
	for _, m := range marks {
		if m == "= exit code=3" {
			exits++
		}
	}
	if exits != 1 {
		l.t.Errorf("%d exit marks", exits)
	}
}

func TestKillAtEveryWrite(t *testing.T) {
	feeds := []string{"oone\ntw", "oo\n", "eerror\nthat-goes-on-and-on", "o3\n4\n5\n", "e,and-ends\n", "o6\n7", "o7\n", "e8\n9\nunfinished"}
	for name, refuses := range map[string]func(int) bool{
		"disk on time": nil,
		"disk full":    func(write int) bool { return write > 3 && write < 7 },
	} {
		t.Run(name, func(t *testing.T) {
			var first life
			first.feeds, first.refuses = feeds, refuses
			begin(t, &first, left{})
			first.live()
			first.check("never")
			pictures := len(first.lefts)
			for i, a := range first.lefts {
				second := life{feeds: feeds, refuses: refuses}
				begin(t, &second, a)
				second.live()
				second.check(a.when)
				for j, b := range second.lefts {
					if os.Getenv("LOGFS_LONG") == "" && (i+j)%19 > 0 {
						continue
					}
					third := life{feeds: feeds}
					begin(t, &third, b)
					third.live()
					third.check(a.when, b.when)
					pictures++
				}
			}
			t.Logf("%d kills, %d of them of the second daemon", pictures, pictures-len(first.lefts))
		})
	}
}

// While a run had no daemon, somebody else had its name, also with a daemon that
// did not get it back. No line is lost or repeated, and none is counted to the run
// of the other one.
func TestNameTakenAfterAKill(t *testing.T) {
	feeds := []string{"oone\ntw", "oo\n", "e1\n2\n3\n", "o3\n4\n5\n", "e8\n9\nunfinished"}
	first := life{feeds: feeds}
	begin(t, &first, left{})
	first.live()
	for _, others := range [][]bool{{false}, {true}, {true, false}} {
		for i, a := range first.lefts {
			if os.Getenv("LOGFS_LONG") == "" && i%5 > 0 {
				continue
			}
			second := life{feeds: feeds, others: others}
			begin(t, &second, a)
			second.live()
			second.check(fmt.Sprintf("%s, then others: %v", a.when, others))
		}
	}
}
