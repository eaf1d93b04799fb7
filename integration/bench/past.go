package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// readPast measures how fast files are read that do not wait, beside a plain file
// of the same length.
func readPast(b *bench, name string) (err error) {
	s, err := b.sit(logfs, 1, "[defaults]\nring-lines = 1000000\n")
	if s != nil {
		defer func() { err = errors.Join(err, s.end()) }()
	}
	if err != nil {
		return err
	}
	if _, err := b.act("write", order{Load: load{Kind: plain}, Bytes: 16 << 20, Files: 1}, s.ins[0]); err != nil {
		return err
	}
	if err := errors.Join(s.drained(), s.settle()); err != nil {
		return err
	}
	files, err := s.copies("current", filepath.Join("since", "start", "current"))
	if err != nil {
		return err
	}
	return b.rounds(len(files), func(i int) error {
		took, err := s.readAll(files[i].path, max(files[i].times*b.size/128, 1))
		if err == nil {
			b.note(name, files[i].name, took)
		}
		return err
	})
}

// A copied is a file to read, so many times in a round.
type copied struct {
	name, path string
	times      int
}

// copies lists those files of the first service that there are, and plain files
// with the same bytes.
func (s *seat) copies(names ...string) (all []copied, err error) {
	const enough = 512 << 20
	for _, name := range names {
		text, err := os.ReadFile(s.d.path(0, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		times := enough/max(len(text), 1) + 1
		dir, err := s.b.newDir()
		if err != nil {
			return nil, err
		}
		plain := filepath.Join(dir, "plain")
		if err := os.WriteFile(plain, text, 0o644); err != nil {
			return nil, err
		}
		all = append(all, copied{name, s.d.path(0, name), times}, copied{name + " as a plain file", plain, times})
	}
	return all, nil
}

func (s *seat) readAll(path string, times int) (sample, error) {
	began, err := read(s.pids)
	if err != nil {
		return nil, err
	}
	r, err := s.b.act("copy", order{Path: path, Files: times})
	ended, rerr := read(s.pids)
	if err := errors.Join(err, rerr); err != nil {
		return nil, err
	}
	return sample{
		speed:  float64(r.Bytes) / 1e6 / time.Duration(r.Ended-r.Began).Seconds(),
		perGiB: (ended.cpu - began.cpu).Seconds() / float64(r.Bytes) * (1 << 30),
	}, nil
}
