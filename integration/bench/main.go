package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

func main() {
	if role := os.Getenv(roleEnv); role != "" {
		exit(play(role))
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	exit(run(ctx, os.Args[1:]))
}

func exit(err error) {
	if err != nil && !errors.Is(err, pflag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

const usage = `Usage: go run ./integration/bench [flags]

Measures logfs beside other loggers and plain files, prints tables, and with --out
writes them as bench.md, with a plot, bench.svg. It takes 15 to 20 minutes, best on
a machine that does nothing else. Nothing is left behind.

`

// run is the command with its arguments.
func run(ctx context.Context, args []string) (err error) {
	o, out, err := parse(args)
	if err != nil {
		return err
	}
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.remove()) }()
	m := newMachine(b.dir)
	if err := b.all(); err != nil {
		return err
	}
	if len(b.results) == 0 {
		return fmt.Errorf("no scenario matches %q", o.only)
	}
	m.end()
	text := b.text(m)
	fmt.Print(text)
	if out == "" {
		return nil
	}
	return errors.Join(os.MkdirAll(out, 0o755),
		os.WriteFile(filepath.Join(out, "bench.md"), []byte(text), 0o644),
		os.WriteFile(filepath.Join(out, "bench.svg"), b.plot(), 0o644))
}

func parse(args []string) (o options, out string, err error) {
	f := pflag.NewFlagSet("bench", pflag.ContinueOnError)
	f.SortFlags = false
	quick := f.Bool("quick", false, "little of everything, once: to see that it works; the figures are worth nothing")
	only := f.String("only", "", "only the scenarios whose section and name, as \"Capture/100 B, bulk\", `REGEXP` matches")
	f.IntVar(&o.runs, "runs", 5, "take `N` rounds")
	f.IntVar(&o.size, "size", 128, "give each contestant `MIB` in a round")
	f.DurationVar(&o.window, "window", 2*time.Second, "look at each contestant for `TIME` in a round")
	f.StringVar(&o.dir, "dir", "", "keep the files of the run under `DIR`; its file system matters (default: that of the system for temporary files)")
	f.StringVar(&o.perf, "perf", "", "have perf(1) look at each daemon, and keep what it sees in `DIR`; figures are not what they are without")
	f.StringVar(&out, "out", "", "write bench.md and bench.svg to `DIR`, docs for instance")
	f.Usage = func() { fmt.Fprint(os.Stderr, usage, f.FlagUsages()) }
	if err := f.Parse(args); err != nil {
		return o, "", err
	}
	o.crowd, o.verbose = 100, os.Stderr
	if *quick {
		o.runs, o.size, o.window, o.crowd = 1, 4, 200*time.Millisecond, 2
	}
	if f.NArg() > 0 || o.runs < 1 || o.size < 1 || o.window < time.Millisecond {
		return o, "", fmt.Errorf("want flags only, and at least one run of 1 MiB and 1ms; see --help")
	}
	o.only, err = regexp.Compile(*only)
	return o, out, err
}

// all runs the scenarios that are wanted.
func (b *bench) all() error {
	for _, s := range sections {
		for _, c := range s.scenarios {
			name := s.title + "/" + c.name
			if !b.only.MatchString(name) {
				continue
			}
			began := time.Now()
			b.running = name
			if err := c.run(b, name); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			b.say("%s: %v", name, time.Since(began).Round(time.Second/10))
		}
	}
	return nil
}
