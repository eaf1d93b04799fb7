package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"logfs/cmd/logfs/internal/config"
	"logfs/cmd/logfs/internal/daemon"
	"logfs/cmd/logfs/internal/exit"
)

// readiness is how a daemon says that it is up.
type readiness struct{ fd int }

func (r *readiness) add(f *pflag.FlagSet) {
	f.IntVar(&r.fd, "ready-fd", -1, "write a newline to descriptor `N` and close it when everything is up")
	f.Lookup("ready-fd").DefValue = "0" // shown as no default
}

// check looks whether the descriptor given is open, before anything is done.
func (r *readiness) check(f *pflag.FlagSet) error {
	if !f.Changed("ready-fd") {
		return nil
	}
	if _, err := unix.FcntlInt(uintptr(r.fd), unix.F_GETFD, 0); err != nil || r.fd < 0 {
		return exit.Misusef("cannot use --ready-fd %d: want the number of an open descriptor", r.fd)
	}
	return nil
}

func (r *readiness) tell() error {
	notify("READY=1")
	if r.fd < 0 {
		return nil
	}
	f := os.NewFile(uintptr(r.fd), "ready-fd")
	defer f.Close()
	if _, err := f.Write([]byte("\n")); err != nil {
		return fmt.Errorf("cannot say that everything is up: %w", err)
	}
	return nil
}

// serving is a daemon in the foreground.
type serving struct {
	options  daemon.Options
	ready    readiness
	reload   func() (config.Config, error) // the configuration as it is now; nil if HUP ends the daemon
	begun    func(*daemon.Daemon)          // called when everything is up; may be nil
	received chan os.Signal
}

// serve runs the daemon until a signal ends it.
func (s *serving) serve() error {
	prepare()
	closeOnExec()
	s.received = make(chan os.Signal, 16)
	signal.Notify(s.received, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGALRM, unix.SIGUSR1)
	defer signal.Stop(s.received)
	d, err := daemon.Open(s.options)
	if err != nil {
		return err
	}
	d.Start()
	if err := s.ready.tell(); err != nil {
		s.options.Log.Error("not told that everything is up", "err", err)
	}
	if s.begun != nil {
		s.begun(d)
	}
	s.untilEnd(d)
	notify("STOPPING=1")
	return d.Close(s.hurry())
}

// untilEnd answers signals up to the one that ends the daemon.
func (s *serving) untilEnd(d *daemon.Daemon) {
	rotate := errand{do: d.Rotate}
	flush := errand{do: d.Flush}
	reload := s.reloader(d)
	for {
		var sig os.Signal
		select {
		case sig = <-s.received:
		case <-d.Left():
			s.options.Log.Info("leaving everything to another daemon")
			reload.end()
			return
		}
		log := s.options.Log.With("signal", sig)
		switch {
		case sig == unix.SIGALRM:
			rotate.begin(log)
		case sig == unix.SIGUSR1:
			flush.begin(log)
		case sig == unix.SIGHUP && s.reload != nil:
			reload.ask()
		default:
			log.Info("ending")
			reload.end()
			rotate.await()
			flush.await()
			return
		}
	}
}

// An errand is something done to all services that may wait for their disks:
// beside, so that it holds up no other signal.
type errand struct {
	do    func(names []string) error
	ended chan struct{} // of the last one begun
}

// errandPatience is how long the end of the daemon waits for one.
const errandPatience = time.Second

func (e *errand) begin(log *slog.Logger) {
	if e.ended != nil {
		select {
		case <-e.ended:
		default:
			log.Warn("not done once more: a disk is still busy with the last time")
			return
		}
	}
	ended := make(chan struct{})
	e.ended = ended
	go func() {
		defer close(ended)
		if err := e.do(nil); err != nil {
			log.Warn("not done for all services", "err", err)
		}
	}()
}

func (e *errand) await() {
	if e.ended == nil {
		return
	}
	select {
	case <-e.ended:
	case <-time.After(errandPatience):
	}
}

// hurry returns a channel that is closed at the next signal to end.
func (s *serving) hurry() <-chan struct{} {
	again := make(chan struct{})
	go func() {
		for sig := range s.received {
			if sig == unix.SIGTERM || sig == unix.SIGINT {
				close(again)
				return
			}
		}
	}()
	return again
}

// prepare makes the process fit for serving a mount.
// There is nothing to do about RLIMIT_NOFILE: Go raises its soft limit to the
// hard one at start, and gives commands back the old.
func prepare() {
	// Reads of /dev/fuse hold slots of the scheduler, also on two cores.
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(max(4, runtime.GOMAXPROCS(0)))
	}
	// Rings are most of the heap and hold no pointers: collecting often costs
	// little, and what readers leave does not pile up beside them.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	// Who reads our stderr may go away. Caught, not ignored: commands would
	// inherit that.
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)
}

// closeOnExec keeps the descriptors that were left open to us from services.
func closeOnExec() {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return // without /proc, who left them open has to close them
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
}

// newLog is the daemon's own log.
func newLog(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

// plural is "1 service", "2 services".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}
