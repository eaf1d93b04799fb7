package main

import (
	"errors"
	"fmt"
)

// latency measures how long lines are on their way from the service to blocked
// readers.
func (b *bench) latency(name string, rate, readers int) error {
	readers = max(readers*b.crowd/100, 1)
	return b.rounds(1, func(int) error {
		times, err := b.pings(rate, readers)
		if err != nil {
			return err
		}
		for who, t := range times {
			b.note(name, map[string]string{"follow": logfs.name, "pipe": "plain pipe"}[who],
				sample{p50: percentile(t, 50), p99: percentile(t, 99), p999: percentile(t, 99.9)})
		}
		return nil
	})
}

// pings returns the times of one round, through follow and through a pipe.
func (b *bench) pings(rate, readers int) (times map[string][]float64, err error) {
	s, err := b.sit(logfs, 1, "")
	if s != nil {
		defer func() { err = errors.Join(err, s.end()) }()
	}
	if err != nil {
		return nil, err
	}
	r, w, err := pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	defer w.Close()
	lines := int(float64(rate)*b.window.Seconds()) + warmUp
	ears, err := b.cast("hear", order{Path: s.d.path(0, "follow"), Readers: readers, Lines: lines}, r)
	if err != nil {
		return nil, err
	}
	if err := s.d.awaitReaders(readers); err != nil {
		return nil, errors.Join(err, ears.cmd.Process.Kill(), ears.cmd.Wait())
	}
	_, err = b.act("ping", order{Rate: rate, Lines: lines}, s.ins[0], w)
	heard, herr := ears.report()
	return heard.Times, errors.Join(err, herr)
}

// crowd starts readers of follow of the first service, each of which is to read so
// many bytes, and returns when all have it open.
func (s *seat) crowd(readers, bytes int) (*actor, error) {
	if s.d == nil {
		return nil, fmt.Errorf("only logfs has followers")
	}
	a, err := s.b.cast("crowd", order{Path: s.d.path(0, "follow"), Readers: readers, Bytes: bytes}, nil)
	if err != nil {
		return nil, err
	}
	if err := s.d.awaitReaders(readers); err != nil {
		return nil, errors.Join(err, a.cmd.Process.Kill(), a.cmd.Wait())
	}
	return a, nil
}

// liveBulk measures what followers cost while lines come as fast as they are taken.
func liveBulk(b *bench, name string) error {
	crowds := []int{0, 1, 4}
	return b.rounds(len(crowds), func(i int) error {
		s, err := b.flood(logfs, load{Kind: mixed}, b.size<<20, crowds[i])
		if err == nil {
			b.note(name, readersName(crowds[i]), s)
		}
		return err
	})
}

func readersName(n int) string {
	if n == 1 {
		return "1 reader"
	}
	return fmt.Sprintf("%d readers", n)
}

// followers measures what so many readers cost at 10,000 lines a second, beside
// none.
func (b *bench) followers(name string, readers int) error {
	readers = max(readers*b.crowd/100, 1)
	crowds := []int{0, readers}
	return b.rounds(len(crowds), func(i int) error {
		s, err := b.followed(crowds[i])
		if err == nil {
			b.note(name, readersName(crowds[i]), s)
		}
		return err
	})
}

func (b *bench) followed(readers int) (s sample, err error) {
	const rate = 10_000
	seat, err := b.sit(logfs, 1, "")
	if seat != nil {
		defer func() { err = errors.Join(err, seat.end()) }()
	}
	if err != nil {
		return nil, err
	}
	var crowd *actor
	if readers > 0 {
		if crowd, err = seat.crowd(readers, 0); err != nil {
			return nil, err
		}
	}
	var said report
	s, err = seat.watch(func() (err error) {
		said, err = b.act("pace", order{Load: load{Kind: mixed}, Files: 1, Rate: rate, For: b.window}, seat.ins[0])
		return err
	}, syncLate)
	if crowd == nil {
		return s, err
	}
	heard, herr := crowd.report()
	if err := errors.Join(err, herr); err != nil {
		return nil, err
	}
	s[got] = 100 * float64(heard.Bytes) / float64(said.Bytes*readers)
	s[perRead] = s[perSec] * 1000 * b.window.Seconds() / float64(said.Lines*readers)
	s[readerMS] = float64(heard.CPU.Milliseconds()) / b.window.Seconds()
	return s, nil
}
