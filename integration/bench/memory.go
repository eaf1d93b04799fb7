package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
)

// blocked measures the memory of the daemon with so many readers that wait, before
// and after they all get 1 MiB.
func (b *bench) blocked(name string, readers int) error {
	readers = max(readers*b.crowd/100, 1)
	return b.rounds(1, func(int) error {
		s, err := b.blockedOnce(readers)
		if err == nil {
			b.note(name, logfs.name, s)
		}
		return err
	})
}

func (b *bench) blockedOnce(readers int) (_ sample, err error) {
	s, err := b.sit(logfs, 1, "[defaults]\nring-lines = 100000\n")
	if s != nil {
		defer func() { err = errors.Join(err, s.end()) }()
	}
	if err != nil {
		return nil, err
	}
	if err := s.fill(6 << 20); err != nil { // the ring is full
		return nil, err
	}
	none, err := resident(s.main)
	if err != nil {
		return nil, err
	}
	held, err := os.Stat(s.d.path(0, "follow"))
	if err != nil {
		return nil, err
	}
	const (
		news   = 1 << 20
		unsaid = 2 * 4096 // a last line without an end is not shown
	)
	crowd, err := s.crowd(readers, int(held.Size())+news-unsaid)
	if err != nil {
		return nil, err
	}
	waiting, werr := s.residentQuiet()
	ferr := s.fill(news)
	var heard report
	herr := crowd.out.Decode(&heard) // all have had it
	after, aerr := s.residentQuiet()
	_, cerr := crowd.report()
	return sample{before: none, extra: waiting - none, burst: after - none},
		errors.Join(werr, ferr, herr, aerr, cerr)
}

// fill writes so many bytes of lines of 100 bytes to each service.
func (s *seat) fill(bytes int) error {
	_, err := s.b.act("write", order{Load: load{Kind: plain}, Bytes: bytes, Files: len(s.ins)}, s.ins...)
	return errors.Join(err, s.drained(), s.settle())
}

func (s *seat) residentQuiet() (float64, error) {
	if err := s.quiet(); err != nil {
		return 0, err
	}
	return resident(s.main)
}

// fullRings measures the memory of a daemon whose rings are full of lines of 100
// bytes, against the bytes of these lines.
func fullRings(b *bench, name string) error {
	services := max(100*b.crowd/100, 1)
	return b.rounds(1, func(int) (err error) {
		s, err := b.sit(logfs, services, "")
		if s != nil {
			defer func() { err = errors.Join(err, s.end()) }()
		}
		if err != nil {
			return err
		}
		if err := s.fill(3 << 19); err != nil {
			return err
		}
		held, err := s.held()
		if err != nil {
			return err
		}
		has, err := resident(s.main)
		b.note(name, logfs.name, sample{mainMem: has, perByte: has * (1 << 20) / held})
		return err
	})
}

// held is how many bytes all rings hold.
func (s *seat) held() (sum float64, err error) {
	all, err := s.d.status("BYTES")
	for service, text := range all {
		n, nerr := strconv.ParseFloat(text, 64)
		if nerr != nil {
			err = errors.Join(err, fmt.Errorf("cannot understand the bytes of %s: %w", service, nerr))
		}
		sum += n
	}
	return sum, err
}
