package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"logfs/cmd/logfs/internal/config"
	"logfs/cmd/logfs/internal/control"
	"logfs/cmd/logfs/internal/exit"
	"logfs/ring"
	"logfs/ring/record"
)

// sleeper is a service that says hi and stays until it is told to go.
func sleeper(name string) config.Service {
	return shell(name, "exec 2>/dev/null; trap 'echo bye; exit 0' TERM; echo hi; while :; do sleep 0.01; done")
}

// inRing is texts without what the ring has given up of its oldest block.
func inRing(l *Log) []string {
	recs, all := held(l), texts(l)
	first, _ := l.Ring().Bounds()
	for len(recs) > 0 && recs[0].Seq < first {
		recs, all = recs[1:], all[1:]
	}
	return all
}

// with is the configuration of a daemon with other services.
func (dt *daemonTest) with(t *testing.T, services ...config.Service) config.Config {
	c := dt.o.Config
	c.Services = newOptions(t, services...).Config.Services
	return c
}

// lives waits until a service runs and has said something, and returns its pid
// and run.
func (dt *daemonTest) lives(t *testing.T, name string, run uint64) (pid int) {
	t.Helper()
	deadline := time.After(patience)
	for {
		if s := dt.find(name); s != nil {
			state, pid, _ := s.snapshot()
			if all := texts(s.log); state == Running && s.log.Ring().Run() == run && len(all) > 0 && all[len(all)-1] == "o hi" {
				return pid
			}
		}
		select {
		case <-deadline:
			t.Fatalf("%s does not run", name)
		case <-time.After(time.Millisecond):
		}
	}
}

func TestReloadAddsAndRemoves(t *testing.T) {
	dt := openDaemon(t, newOptions(t, sleeper("stays"), sleeper("goes"), config.Service{Name: "idle"}))
	dt.Start()
	stays := dt.lives(t, "stays", 1)
	dt.lives(t, "goes", 1)
	log := dt.find("stays").log

	must(t, dt.Reload(dt.with(t, sleeper("stays"), sleeper("new"), config.Service{Name: "quiet"})))
	dt.lives(t, "new", 1)
	for name, shown := range map[string]bool{"stays": true, "goes": false, "idle": false, "new": true, "quiet": true} {
		if _, ok := dt.tree.service(name); ok != shown || (dt.find(name) != nil) != shown {
			t.Errorf("%s is shown: %v, known: %v; want %v", name, ok, dt.find(name) != nil, shown)
		}
	}
	same(t, "stored of what is removed", dt.stored(t, "goes"), []string{"= start run=1", "o hi", "o bye", "= exit code=0"})
	if pid := dt.lives(t, "stays", 1); pid != stays || dt.find("stays").log != log {
		t.Errorf("the service that stays has pid %d, had %d", pid, stays)
	}

	// What comes again goes on where it was.
	must(t, dt.Reload(dt.with(t, sleeper("goes"))))
	dt.lives(t, "goes", 2)
	if dt.find("stays") != nil || dt.find("quiet") != nil || len(dt.list()) != 1 {
		t.Errorf("%d services, want one", len(dt.list()))
	}
}

// A retired logdir is closed when nobody reads it any more.
func TestReloadLeavesNothingOpen(t *testing.T) {
	dt := openDaemon(t, newOptions(t, config.Service{Name: "web"}))
	dir := filepath.Join(dt.o.Config.Store, "web")
	open := func() (n int) {
		fds, err := filepath.Glob("/proc/self/fd/*")
		must(t, err)
		for _, fd := range fds {
			if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, dir) {
				n++
			}
		}
		return n
	}
	if open() == 0 {
		t.Fatal("nothing is open: nothing is tested")
	}
	must(t, dt.Reload(dt.with(t)))
	deadline := time.After(patience)
	for open() > 0 {
		runtime.GC()
		select {
		case <-deadline:
			t.Fatalf("%d descriptors are left", open())
		case <-time.After(time.Millisecond):
		}
	}
}

func TestReloadRestartsForTheCommandAlone(t *testing.T) {
	base := sleeper("web")
	for _, tt := range []struct {
		name    string
		change  func(*config.Service)
		restart bool
	}{
		{"nothing", func(*config.Service) {}, false},
		{"ring, files, looks, backoff", func(s *config.Service) {
			s.RingLines, s.RingBytes, s.Size, s.Rotate, s.Keep = 10, 1<<20, 1<<16, config.Hourly, 3
			s.Total, s.Age, s.Min, s.Compress, s.Full = 1<<20, time.Hour, 1, config.Zstd, config.Block
			s.LineLimit, s.Sync, s.Marks, s.Owner, s.Group, s.Mode = 200, time.Minute, false, "4711", "root", 0o700
			s.Backoff, s.BackoffMax = time.Minute, time.Hour
		}, false},
		{"command", func(s *config.Service) { s.Command = append(s.Command, "x") }, true},
		{"dir", func(s *config.Service) { s.Dir = "/" }, true},
		{"env", func(s *config.Service) { s.Env = []string{"A=1"} }, true},
		{"user", func(s *config.Service) { s.User = "root" }, true},
		{"restart", func(s *config.Service) { s.Restart = config.Always }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "user" && os.Geteuid() != 0 {
				base.User = "" // only root can: it stays what it is
				return
			}
			dt := openDaemon(t, newOptions(t, base))
			dt.Start()
			pid, run := dt.lives(t, "web", 1), uint64(1)
			c := dt.with(t, base)
			tt.change(&c.Services[0])
			must(t, dt.Reload(c))
			if tt.restart {
				run = 2
			}
			if now := dt.lives(t, "web", run); (now != pid) != tt.restart {
				t.Errorf("pid %d, was %d", now, pid)
			}
		})
	}
}

func TestReloadChangesSettings(t *testing.T) {
	dt := openDaemon(t, newOptions(t, config.Service{Name: "web"}))
	r, ends := dt.attach(t, "web", control.Command)
	must(t, r.Start(1))
	other, otherEnds := dt.attach(t, "other", control.Pipe) // not in the configuration
	must(t, other.Start(1))

	c := dt.with(t, config.Service{Name: "web"})
	c.ListFollow = true
	c.Defaults.RingLines = 3
	s := &c.Services[0]
	s.RingLines, s.LineLimit, s.Marks, s.Owner, s.Group, s.Mode = 4, 128, false, "4711", "4712", 0o711
	must(t, dt.Reload(c))

	text := strings.Repeat("x", 130)
	say(t, ends[0], "a\nb\nc\nd\n"+text+"\n")
	say(t, otherEnds[0], "a\nb\nc\nd\n")
	closeAll(ends)
	closeAll(otherEnds)
	must(t, r.Exit(record.Exit{Known: true}))
	must(t, wait(t, r))
	must(t, wait(t, other))
	same(t, "held of web", withoutTimes(inRing(dt.find("web").log)), []string{"o d", "o " + text[:128], "o xx", "= exit code=0"})
	same(t, "held of other", withoutTimes(inRing(dt.find("other").log)), []string{"o c", "o d", "= exit"})
	shown, _ := dt.tree.service("web")
	if l := shown.Looks; l.Marks || l.Uid != 4711 || l.Gid != 4712 || l.Mode != 0o711 || !dt.tree.listFollow {
		t.Errorf("shown as %+v, follow listed %v", l, dt.tree.listFollow)
	}
	if shown, _ := dt.tree.service("other"); !shown.Marks || shown.Mode != 0o750 {
		t.Errorf("the other is shown as %+v", shown.Looks)
	}
}

func withoutTimes(lines []string) []string {
	for i, l := range lines {
		lines[i] = withoutAfter(l)
	}
	return lines
}

// What cannot be done is refused as a whole.
func TestReloadRefused(t *testing.T) {
	dt := openDaemon(t, newOptions(t, sleeper("web")))
	dt.Start()
	pid := dt.lives(t, "web", 1)
	must(t, os.WriteFile(filepath.Join(dt.o.Config.Store, "file"), nil, 0o644))

	blocked := dt.with(t, config.Service{Name: "added"}, config.Service{Name: "file"})
	blocked.Defaults.Keep, blocked.ListFollow = 77, false
	moved := dt.with(t, config.Service{Name: "added"})
	moved.Mount, moved.Store = moved.Mount+"2", moved.Store+"2"
	for _, tt := range []struct {
		name   string
		c      config.Config
		status int
		want   string
	}{
		{"a log that cannot be opened", blocked, exit.Refused, `cannot open the log of service "file"`},
		{"other places", moved, exit.Misuse, "store: cannot change from"},
	} {
		err := dt.Reload(tt.c)
		if exit.Status(err) != tt.status || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
		if dt.lives(t, "web", 1) != pid || len(dt.list()) != 1 || len(dt.tree.shown) != 1 || dt.defaults.Keep != 10 {
			t.Errorf("%s: something has changed: %d services", tt.name, len(dt.list()))
		}
	}
	// What was opened in vain is closed.
	must(t, dt.Reload(dt.with(t, sleeper("web"), config.Service{Name: "added"})))
}

// A run of a client's goes on, whatever the configuration says of its service.
func TestReloadLeavesClientsAlone(t *testing.T) {
	dt := openDaemon(t, newOptions(t, config.Service{Name: "configured"}))
	var runs []control.Run
	var ends []*os.File
	for _, name := range []string{"configured", "free"} {
		r, e := dt.attach(t, name, control.Command)
		must(t, r.Start(1))
		runs, ends = append(runs, r), append(ends, e...)
	}
	c := dt.with(t)
	c.Defaults.RingLines = 2
	must(t, dt.Reload(c))
	for i, name := range []string{"configured", "free"} {
		say(t, ends[2*i], "a\nb\nc\n")
		closeAll(ends[2*i : 2*i+2])
		must(t, runs[i].Exit(record.Exit{Known: true}))
		must(t, wait(t, runs[i]))
		same(t, "stored of "+name, dt.stored(t, name), []string{"= start run=1", "o a", "o b", "o c", "= exit code=0"})
		if n := len(inRing(dt.find(name).log)); n != 2 {
			t.Errorf("%s holds %d lines, want 2 by the new defaults", name, n)
		}
	}
}

// A command for a service that a client has waits for the client's run to end.
func TestReloadCommandWaitsForAClient(t *testing.T) {
	dt := openDaemon(t, newOptions(t))
	r, ends := dt.attach(t, "web", control.Command)
	must(t, r.Start(1))
	must(t, dt.Reload(dt.with(t, sleeper("web"))))
	if _, err := dt.Attach(control.Attach{Name: "web"}); exit.Status(err) != exit.Misuse {
		t.Errorf("another client: %v, want misuse", err)
	}
	closeAll(ends)
	must(t, r.Exit(record.Exit{Known: true}))
	must(t, wait(t, r))
	dt.lives(t, "web", 2)

	// And without a command it is free again.
	must(t, dt.Reload(dt.with(t, config.Service{Name: "web"})))
	again, ends := dt.attach(t, "web", control.Pipe)
	must(t, again.Start(1))
	closeAll(ends)
	must(t, wait(t, again))
	got := dt.stored(t, "web")
	same(t, "stored", got, []string{"= start run=1", "= exit code=0",
		"= start run=2", "o hi", "o bye", "= exit code=0", "= start run=3", "= exit"})
}

// A service is in nobody's way while it is removed, and its log is closed.
func TestReloadRemovesWhatDoesNotWantToGo(t *testing.T) {
	dt := openDaemon(t, newOptions(t, shell("web", "trap '' TERM; (trap '' TERM; exec sleep 1000) & echo hi; wait; wait; sleep 1000")))
	dt.Start()
	dt.lives(t, "web", 1)
	reloaded := make(chan error, 1)
	go func() { reloaded <- dt.Reload(dt.with(t)) }()
	for leaving := false; !leaving; {
		if _, err := dt.Attach(control.Attach{Name: "web"}); exit.Status(err) == exit.Refused {
			leaving = strings.Contains(err.Error(), "is being removed")
		}
		time.Sleep(time.Millisecond)
	}
	must(t, dt.Flush(nil))
	must(t, <-reloaded)
	same(t, "stored", dt.stored(t, "web"), []string{"= start run=1", "o hi", "= exit signal=KILL"})
	r, _ := dt.attach(t, "web", control.Pipe)
	r.Detach()
}

// The end of the daemon does not wait for a reload, nor a reload for ever.
func TestCloseDuringReload(t *testing.T) {
	dt := openDaemon(t, newOptions(t, shell("web", "trap '' TERM; echo hi; while :; do sleep 0.01; done")))
	dt.Start()
	dt.lives(t, "web", 1)
	var reloads sync.WaitGroup
	for _, name := range []string{"a", "b", "c"} {
		reloads.Go(func() {
			if err := dt.Reload(dt.with(t, sleeper(name))); err != nil && !errors.Is(err, errStopping) {
				t.Errorf("Reload: %v", err)
			}
		})
	}
	hurry := make(chan struct{})
	close(hurry)
	dt.end(t, hurry)
	reloads.Wait()
	if err := dt.Reload(dt.o.Config); !errors.Is(err, errStopping) {
		t.Errorf("Reload after the end: %v", err)
	}
}

// While lines wait for the disk, the ring gets greater but not smaller.
func TestResizeWhileLate(t *testing.T) {
	onBadDisk(t, "drop", ring.Limits{Lines: 10}, false, func(t *testing.T, l *logTest) {
		l.take(1, 1)
		l.disk.room.Store(0)
		l.take(2, 12)
		l.resize(ring.Limits{Lines: 3, Bytes: 1 << 20}, false)
		l.resize(ring.Limits{Lines: 2, Bytes: 8 << 20}, false)
		if limits := l.Ring().Limits(); limits.Lines != 10 || limits.Bytes != 8<<20 {
			t.Errorf("while lines wait: %+v", limits)
		}
		l.disk.room.Store(-1)
		must(t, l.Sync())
		same(t, "stored", stored(t, l.dir), want(1, 12))
		same(t, "held", inRing(l.Log), want(11, 12))
		l.resize(ring.Limits{Lines: 5, Bytes: 1 << 20}, false)
		l.take(13, 20)
		same(t, "held", inRing(l.Log), want(16, 20))
	})
}

// From block to drop, and back, while the disk is full: nobody waits any more,
// and what then is lost is told.
func TestFullChangesWhileLate(t *testing.T) {
	onBadDisk(t, "block", ring.Limits{Lines: 5}, true, func(t *testing.T, l *logTest) {
		l.disk.room.Store(0)
		l.take(1, 1)
		taken := make(chan struct{})
		go func() { l.take(2, 20); close(taken) }()
		l.resize(ring.Limits{Lines: 5}, false)
		<-taken
		same(t, "held", inRing(l.Log), want(16, 20))
		if l.Lost() != 14 {
			t.Errorf("lost %d, want 14", l.Lost())
		}
		l.resize(ring.Limits{Lines: 5}, true)
		taken = make(chan struct{})
		go func() { l.take(21, 23); close(taken) }()
		synctest.Wait()
		same(t, "held by who waits", inRing(l.Log), want(16, 20))
		l.disk.room.Store(-1)
		must(t, l.Sync())
		<-taken
		same(t, "stored", stored(t, l.dir), append([]string{"o line 1", "= lost lines=14"}, want(16, 23)...))
		if l.Lost() != 14 {
			t.Errorf("lost %d, want 14", l.Lost())
		}
	})
}
