package main

import (
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"

	"logfs/cmd/logfs/internal/config"
	"logfs/cmd/logfs/internal/daemon"
)

// A reloader puts the configuration in force when it is asked to, beside
// everything else the daemon does. Who asks during a reload gets one more.
type reloader struct {
	load  func() (config.Config, error)
	into  func(config.Config) error
	log   *slog.Logger
	asked chan struct{}
}

func (s *serving) reloader(d *daemon.Daemon) *reloader {
	r := &reloader{load: s.reload, into: d.Reload, log: s.options.Log, asked: make(chan struct{}, 1)}
	go r.work()
	return r
}

func (r *reloader) ask() {
	select {
	case r.asked <- struct{}{}:
	default: // one is due, and has not looked yet
	}
}

// end has no reload begun any more. The daemon itself waits for one that is
// under way.
func (r *reloader) end() { close(r.asked) }

func (r *reloader) work() {
	for range r.asked {
		notify("RELOADING=1\n" + monotonic())
		err := r.reload()
		status := "STATUS=configuration reloaded"
		if err != nil {
			status = "STATUS=configuration not reloaded: " + oneLine(err)
		}
		// Also after an error: the daemon serves, with the old settings.
		notify("READY=1\n" + status)
	}
}

func (r *reloader) reload() error {
	c, err := r.load()
	if err == nil {
		err = r.into(c)
	}
	if err == nil {
		return nil
	}
	for _, e := range each(err) {
		r.log.Error("configuration not reloaded, the old settings stay in force", "err", oneLine(e))
	}
	return err
}

// monotonic tells the service manager which of its requests is answered.
func monotonic() string {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil {
		return ""
	}
	return fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/1000)
}
