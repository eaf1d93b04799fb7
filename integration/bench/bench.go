package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"time"
)

// options are the flags.
type options struct {
	only    *regexp.Regexp
	runs    int
	size    int           // MiB that a contestant gets in one round
	window  time.Duration // that a contestant is looked at in one round
	dir     string        // for all files
	crowd   int           // a hundredth of the most services and readers: 100 but for --quick
	perf    string        // where profiles of the daemons go; none if empty
	verbose io.Writer
}

// A bench is one run of the command.
type bench struct {
	options
	ctx     context.Context
	dir     string // of this run
	logfs   string // the binary
	results []*result
	dirs    int
	running string // the name of the scenario
}

// A metric is something measured, with its unit.
type metric string

// A sample is what one contestant took in one round.
type sample map[metric]float64

// A result is what one contestant of a scenario came to.
type result struct {
	scenario, contestant string
	samples              []sample // by round
}

// newBench makes the directory and the binary. The caller calls remove.
func newBench(ctx context.Context, o options) (*bench, error) {
	dir, err := os.MkdirTemp(o.dir, "logfs-bench-")
	if err != nil {
		return nil, fmt.Errorf("cannot make a directory: %w", err)
	}
	b := &bench{options: o, ctx: ctx, dir: dir, logfs: filepath.Join(dir, "logfs")}
	if o.perf != "" {
		b.logfs = filepath.Join(o.perf, "logfs") // perf report needs it
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", b.logfs, "logfs/cmd/logfs")
	if said, err := build.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot build logfs: %w\n%s", err, said), b.remove())
	}
	return b, nil
}

func (b *bench) remove() error { return os.RemoveAll(b.dir) }

// newDir makes a directory for one contestant.
func (b *bench) newDir() (string, error) {
	b.dirs++
	dir := filepath.Join(b.dir, fmt.Sprint(b.dirs))
	return dir, os.Mkdir(dir, 0o755)
}

func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.verbose, format+"\n", args...) }

// note keeps what a contestant took in a round.
func (b *bench) note(scenario, contestant string, s sample) {
	i := slices.IndexFunc(b.results, func(r *result) bool { return r.scenario == scenario && r.contestant == contestant })
	if i < 0 {
		i = len(b.results)
		b.results = append(b.results, &result{scenario: scenario, contestant: contestant})
	}
	b.results[i].samples = append(b.results[i].samples, s)
}

// values returns what a contestant has in all rounds, 0 in one without.
func (b *bench) values(scenario, contestant string, m metric) (all []float64) {
	for _, r := range b.results {
		if r.scenario == scenario && r.contestant == contestant {
			all = append(all, r.values(m)...)
		}
	}
	return all
}

// values returns nothing for a metric that no round has.
func (r *result) values(m metric) (all []float64) {
	has := false
	for _, s := range r.samples {
		v, ok := s[m]
		has = has || ok
		all = append(all, v)
	}
	if !has {
		return nil
	}
	return all
}

// rounds calls turn for each contestant in turn, as often as there are runs, each
// round beginning with another one.
func (b *bench) rounds(contestants int, turn func(i int) error) error {
	for round := range b.runs {
		for i := range contestants {
			if err := b.ctx.Err(); err != nil {
				return err
			}
			if err := turn((i + round) % contestants); err != nil {
				return err
			}
		}
	}
	return nil
}

// patience is how long anything may take that is waited for.
const patience = 2 * time.Minute

// await looks again and again whether ok, which costs little.
func (b *bench) await(what string, ok func() (bool, error)) error {
	const often = time.Millisecond
	for late := time.Now().Add(patience); ; time.Sleep(often) {
		is, err := ok()
		switch {
		case is || err != nil:
			return err
		case b.ctx.Err() != nil:
			return b.ctx.Err()
		case time.Now().After(late):
			return fmt.Errorf("gave up after %v waiting for %s", patience, what)
		}
	}
}

// pause waits for d, or until the run is to end.
func (b *bench) pause(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-b.ctx.Done():
		return b.ctx.Err()
	}
}
