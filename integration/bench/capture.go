package main

import (
	"errors"
	"time"
)

// capture has each logger in turn take a load.
func (b *bench) capture(name string, l load) error {
	there := b.installed(name, everybody)
	return b.rounds(len(there), func(i int) error {
		s, err := b.flood(there[i], l, b.size<<20, 0)
		if err == nil {
			b.note(name, there[i].name, s)
		}
		return err
	})
}

// installed leaves out the loggers that are not there, and says so.
func (b *bench) installed(scenario string, loggers []logger) (there []logger) {
	for _, l := range loggers {
		if _, ok := l.find(b); ok {
			there = append(there, l)
		} else {
			b.results = append(b.results, &result{scenario: scenario, contestant: l.name})
		}
	}
	return there
}

// flood measures how a logger that is started for it takes so many bytes, with so
// many followers if it is logfs.
func (b *bench) flood(l logger, lines load, bytes, readers int) (s sample, err error) {
	seat, err := b.sit(l, 1, "")
	if seat != nil {
		defer func() { err = errors.Join(err, seat.end()) }()
	}
	if err != nil {
		return nil, err
	}
	if readers > 0 {
		crowd, err := seat.crowd(readers, 0)
		if err != nil {
			return nil, err
		}
		defer func() {
			r, rerr := crowd.report()
			err = errors.Join(err, rerr)
			if s != nil {
				s[got] = 100 * float64(r.Bytes) / float64(bytes*readers)
			}
		}()
	}
	return seat.take(lines, bytes)
}

// take measures how the logger takes so many bytes.
func (s *seat) take(l load, bytes int) (sample, error) {
	began, err := read(s.pids)
	if err != nil {
		return nil, err
	}
	r, err := s.b.act("write", order{Load: l, Bytes: bytes, Files: 1}, s.ins[0])
	if err == nil {
		err = s.drained()
	}
	took := time.Duration(now() - r.Began)
	if err == nil {
		err = s.settle()
	}
	ended, rerr := read(s.pids)
	most, perr := peak(s.main)
	all, merr := share(s.pids)
	if err := errors.Join(err, rerr, perr, merr); err != nil {
		return nil, err
	}
	return taken(r, took, ended.cpu-began.cpu, ended.switches-began.switches, most, all), nil
}

func taken(r report, took, cpu time.Duration, switched int64, most, all float64) sample {
	lines := float64(r.Lines)
	gib := float64(r.Bytes) / (1 << 30)
	return sample{
		perGiB: cpu.Seconds() / gib, perLine: float64(cpu.Nanoseconds()) / lines,
		writer: r.CPU.Seconds() / gib, speed: float64(r.Bytes) / 1e6 / took.Seconds(),
		lineRate: lines / 1e3 / took.Seconds(), peakMem: most, allMem: all,
		switches: float64(switched) / (gib * 1024),
	}
}

// linePath compares what a line, or a byte, costs in lines of unusual length.
func linePath(b *bench, name string) error {
	bytes := b.size << 20
	lines := 10_000_000 * b.crowd / 100
	contestants := []struct {
		name  string
		kind  kind
		bytes int
	}{
		{"10 MiB", huge, max(bytes, 10<<20)}, {"100 B", plain, bytes}, {"empty", hollow, lines}, {"20 B", short, bytes},
	}
	return b.rounds(len(contestants), func(i int) error {
		c := contestants[i]
		s, err := b.flood(logfs, load{Kind: c.kind}, c.bytes, 0)
		if err == nil {
			b.note(name, c.name, s)
		}
		return err
	})
}
