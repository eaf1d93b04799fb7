package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// tails is how many tails there are at the same time, each of a service of its own.
const tails = 10

// A tailed is a service that is silent but for a line now and then, and a tail.
type tailed struct {
	cmd     *exec.Cmd
	in      *os.File
	out     io.ReadCloser
	started int64
}

// tailAll starts a tail on a file of each service, all at once, when each service
// has said a line. It returns how long each has taken to show that, in µs.
func (s *seat) tailAll(file func(i int) string) (all []*tailed, shown []float64, err error) {
	for _, in := range s.ins {
		if err := write(int(in.Fd()), []byte("begin\n")); err != nil {
			return nil, nil, err
		}
	}
	if err := errors.Join(s.drained(), s.quiet()); err != nil {
		return nil, nil, err
	}
	for i, in := range s.ins {
		t := &tailed{cmd: exec.Command("tail", "-f", file(i)), in: in, started: now()}
		if t.out, err = t.cmd.StdoutPipe(); err != nil {
			return all, nil, err
		}
		if err := t.cmd.Start(); err != nil {
			return all, nil, fmt.Errorf("cannot start tail: %w", err)
		}
		all = append(all, t)
	}
	shown, err = each(all, func(t *tailed) (int64, error) { return t.started, t.await("begin\n") })
	return all, shown, err
}

// each has all of them do something at the same time that begins at some time, and
// returns how long that took, in µs, sorted.
func each(all []*tailed, do func(t *tailed) (began int64, err error)) (times []float64, err error) {
	type answer struct {
		took float64
		err  error
	}
	answers := make(chan answer)
	for _, t := range all {
		go func() {
			began, err := do(t)
			answers <- answer{float64(now()-began) / 1000, err}
		}()
	}
	for range all {
		a := <-answers
		times, err = append(times, a.took), errors.Join(err, a.err)
	}
	slices.Sort(times)
	return times, err
}

// await reads what tail shows until it ends with text.
func (t *tailed) await(text string) error {
	late := time.AfterFunc(patience, func() { _ = t.cmd.Process.Kill() })
	defer late.Stop()
	for shown, buf := "", make([]byte, 4096); len(shown) < len(text) || shown[len(shown)-len(text):] != text; {
		n, err := t.out.Read(buf)
		if shown += string(buf[:n]); err != nil {
			return fmt.Errorf("tail has shown %q: %w", shown, err)
		}
	}
	return nil
}

// first has the service say a line after a silence, and returns when.
func (t *tailed) first(silence time.Duration) (sent int64, err error) {
	time.Sleep(silence)
	sent = now()
	if err := write(int(t.in.Fd()), []byte("news\n")); err != nil {
		return sent, err
	}
	return sent, t.await("news\n")
}

func endTails(all []*tailed) {
	for _, t := range all {
		_ = t.cmd.Process.Kill()
		_ = t.cmd.Wait()
	}
}

// seatWithTails has a tail on each service of a logger.
func (b *bench) seatWithTails(l logger) (s *seat, all []*tailed, shown []float64, err error) {
	from := b.dirs
	if s, err = b.sit(l, tails, ""); err != nil {
		return s, nil, nil, err
	}
	file := func(i int) string { return filepath.Join(b.dir, fmt.Sprint(from+1+i), "current") }
	if s.d != nil {
		file = func(i int) string { return s.d.path(i, "follow") }
	}
	all, shown, err = s.tailAll(file)
	return s, all, shown, err
}

// firstLine measures when tail shows what is there, and the first line after a
// silence of one to two seconds.
func firstLine(b *bench, name string) error {
	there := b.installed(name, []logger{logfs, multilog})
	return b.rounds(len(there), func(i int) error {
		s, err := b.firstLines(there[i])
		if err == nil {
			b.note(name, there[i].name, s)
		}
		return err
	})
}

func (b *bench) firstLines(l logger) (_ sample, err error) {
	s, all, shown, err := b.seatWithTails(l)
	if s != nil {
		defer func() { endTails(all); err = errors.Join(err, s.end()) }()
	}
	if err != nil {
		return nil, err
	}
	times, err := each(all, func(t *tailed) (int64, error) { return t.first(time.Second + rand.N(time.Second)) })
	if err != nil {
		return nil, err
	}
	return sample{p50: percentile(times, 50), p99: percentile(times, 99), atStart: percentile(shown, 50) / 1000}, nil
}

// polling measures what the questions of tail cost the daemon, those of ten tails
// a second, and each of them when they come one after the other.
func polling(b *bench, name string) (err error) {
	s, all, _, err := b.seatWithTails(logfs)
	if s != nil {
		defer func() { endTails(all); err = errors.Join(err, s.end()) }()
	}
	if err != nil {
		return err
	}
	return b.rounds(1, func(int) error {
		began, err := read(s.pids)
		if err != nil {
			return err
		}
		if err := b.pause(b.window); err != nil {
			return err
		}
		waited, err := read(s.pids)
		r, ferr := b.act("fstats", order{Path: s.d.path(0, "current"), Lines: 10_000})
		asked, rerr := read(s.pids)
		b.note(name, fmt.Sprintf("%d tails", tails), sample{
			perSec:   (waited.cpu - began.cpu).Seconds() * 1000 / b.window.Seconds(),
			perCall:  float64(r.Ended-r.Began) / 1000 / float64(max(r.Lines, 1)),
			daemonUS: (asked.cpu - waited.cpu).Seconds() * 1e6 / float64(max(r.Lines, 1)),
		})
		return errors.Join(err, ferr, rerr)
	})
}
