package main

import (
	"errors"
	"time"
)

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
	late := syncLate
	if rate == 0 {
		late = 0
	}
	return b.rounds(len(there), func(i int) error {
		s, err := seats[i].watch(func() error { return seats[i].talk(rate) }, late)
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

// syncLate is a little more than the time within which logfs brings what it has
// written to stable storage.
const syncLate = 1200 * time.Millisecond

// watch measures what the logger takes while something is done, and some time
// later until it has nothing more to do for it. logfs is not asked to flush: that
// would be an fsync more than it makes by itself.
func (s *seat) watch(do func() error, late time.Duration) (sample, error) {
	if err := s.settle(); err != nil {
		return nil, err
	}
	began, err := read(s.pids)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(do(), s.drained()); err != nil {
		return nil, err
	}
	if s.d == nil {
		late = 0 // the others make no fsync but at rotation
	}
	if err := errors.Join(s.b.pause(late), s.quiet()); err != nil {
		return nil, err
	}
	ended, err := read(s.pids)
	all, aerr := share(s.pids)
	now, nerr := resident(s.main)
	return sample{
		perSec: (ended.cpu - began.cpu).Seconds() * 1000 / s.b.window.Seconds(),
		allMem: all, mainMem: now,
		wakes: float64(ended.switches-began.switches) / s.b.window.Seconds(),
	}, errors.Join(err, aerr, nerr)
}
