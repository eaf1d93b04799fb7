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
	cmd *exec.Cmd
	in  *os.File
	out io.ReadCloser
}

// tailAll starts a tail on a file of each service, and returns when each has shown
// the line that is written to its service first.
func (s *seat) tailAll(file func(i int) string) (all []*tailed, err error) {
	for i, in := range s.ins {
		if err := write(int(in.Fd()), []byte("begin\n")); err != nil {
			return all, err
		}
		if err := errors.Join(s.drained(), s.quiet()); err != nil {
			return all, err
		}
		t := &tailed{cmd: exec.Command("tail", "-f", file(i)), in: in}
		if t.out, err = t.cmd.StdoutPipe(); err != nil {
			return all, err
		}
		if err := t.cmd.Start(); err != nil {
			return all, fmt.Errorf("cannot start tail: %w", err)
		}
		all = append(all, t)
		if err := t.await("begin\n"); err != nil {
			return all, err
		}
	}
	return all, nil
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

// first returns how long the first line after a silence takes, in µs.
func (t *tailed) first(silence time.Duration) (float64, error) {
	time.Sleep(silence)
	sent := now()
	if err := write(int(t.in.Fd()), []byte("news\n")); err != nil {
		return 0, err
	}
	err := t.await("news\n")
	return float64(now()-sent) / 1000, err
}

func endTails(all []*tailed) {
	for _, t := range all {
		_ = t.cmd.Process.Kill()
		_ = t.cmd.Wait()
	}
}

// seatWithTails has a tail on each service of a logger.
func (b *bench) seatWithTails(l logger) (s *seat, all []*tailed, err error) {
	from := b.dirs
	if s, err = b.sit(l, tails, ""); err != nil {
		return s, nil, err
	}
	file := func(i int) string { return filepath.Join(b.dir, fmt.Sprint(from+1+i), "current") }
	if s.d != nil {
		file = func(i int) string { return s.d.path(i, "follow") }
	}
	all, err = s.tailAll(file)
	return s, all, err
}

// firstLine measures the first line after a silence of one to two seconds.
func firstLine(b *bench, name string) error {
	there := b.installed(name, []logger{logfs, multilog})
	return b.rounds(len(there), func(i int) error {
		times, err := b.firstLines(there[i])
		if err == nil {
			b.note(name, there[i].name, sample{p50: percentile(times, 50), p99: percentile(times, 99)})
		}
		return err
	})
}

func (b *bench) firstLines(l logger) (times []float64, err error) {
	s, all, err := b.seatWithTails(l)
	if s != nil {
		defer func() { endTails(all); err = errors.Join(err, s.end()) }()
	}
	if err != nil {
		return nil, err
	}
	type answer struct {
		took float64
		err  error
	}
	answers := make(chan answer)
	for _, t := range all {
		go func() {
			took, err := t.first(time.Second + rand.N(time.Second))
			answers <- answer{took, err}
		}()
	}
	for range all {
		a := <-answers
		times, err = append(times, a.took), errors.Join(err, a.err)
	}
	slices.Sort(times)
	return times, err
}

// polling measures what the questions of tail cost the daemon, those of ten tails
// a second, and each of them when they come one after the other.
func polling(b *bench, name string) (err error) {
	s, all, err := b.seatWithTails(logfs)
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
