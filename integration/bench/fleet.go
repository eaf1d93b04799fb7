package main

import "errors"

// fleet has many services write at a rate, 0 for those that are silent, to each
// logger in turn. All loggers are there all the time.
func (b *bench) fleet(name string, services, rate int) (err error) {
	services = max(services*b.crowd/100, 1)
	there := b.installed(name, []logger{logfs, s6log, multilog, cat})
	var seats []*seat
	defer func() {
		for _, s := range seats {
			err = errors.Join(err, s.end())
		}
	}()
	for _, l := range there {
		s, err := b.sit(l, services, "")
		if s != nil {
			seats = append(seats, s)
		}
		if err != nil {
			return err
		}
	}
	return b.rounds(len(there), func(i int) error {
		s, err := seats[i].watch(func() error { return seats[i].talk(rate) })
		if err == nil {
			b.note(name, there[i].name, s)
		}
		return err
	})
}

// talk has all services write lines at a rate for a while.
func (s *seat) talk(rate int) error {
	if rate == 0 {
		return s.b.pause(s.b.window)
	}
	_, err := s.b.act("pace", order{Load: load{Kind: plain}, Files: len(s.ins), Rate: rate, For: s.b.window}, s.ins...)
	return err
}

// watch measures what the logger takes while something is done, and until it has
// nothing more to do for it.
func (s *seat) watch(do func() error) (sample, error) {
	if err := s.settle(); err != nil {
		return nil, err
	}
	began, err := read(s.pids)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(do(), s.drained(), s.settle()); err != nil {
		return nil, err
	}
	ended, err := read(s.pids)
	all, aerr := share(s.pids)
	now, nerr := resident(s.main)
	return sample{
		perSec: (ended.cpu - began.cpu).Seconds() * 1000 / s.b.window.Seconds(),
		allMem: all, mainMem: now,
		switches: float64(ended.switches - began.switches),
	}, errors.Join(err, aerr, nerr)
}
