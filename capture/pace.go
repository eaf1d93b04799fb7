package capture

import "time"

const (
	// pause is how long a hot input is left alone between two reads: what a fast
	// writer of short lines says meanwhile comes with one read. An idle input is
	// read at once.
	pause = time.Millisecond
	// fewBytes is what a read brings at most for its input to be hot, or stay so:
	// half of a pipe that has not grown is more, and is read on at once.
	fewBytes = 16 << 10
	// manyReads is how many such reads in a row make an input hot: a handful of
	// lines at once is shown at once.
	manyReads = 8
)

// pace notes a read of n bytes. An input that was read only just now and brings
// little all the same becomes hot: reading each line when it comes costs ten times
// as much, for the service too. It leaves the watcher, which every write would
// wake. That is not done while another input speaks as well: they would change
// places.
func (p *pump) pace(s *source, n int) {
	now := time.Now()
	if n > fewBytes || now.Sub(s.last) >= pause+pause/2 {
		s.often = 0
	} else {
		s.often++
	}
	s.last = now
	switch {
	case s.often < manyReads || p.othersSpeak(s, now):
		p.cool(s)
	case !s.hot && !s.direct:
		p.watcher.remove(s.fd)
		s.hot = true
		p.hot++
	}
}

// othersSpeak says whether another input was read lately.
func (p *pump) othersSpeak(s *source, now time.Time) bool {
	const lately = 100 * time.Millisecond
	for _, o := range p.sources {
		if o != s && o.open() && now.Sub(o.last) < lately {
			return true
		}
	}
	return false
}

// cool has the watcher look after s again.
func (p *pump) cool(s *source) {
	if !s.hot {
		return
	}
	s.hot = false
	p.hot--
	for id, o := range p.sources {
		if o == s {
			p.err = join(p.err, p.watcher.add(s.fd, id))
		}
	}
}

func (p *pump) coolAll() {
	for _, s := range p.sources {
		p.cool(s)
	}
}

// linger waits a moment and has the hot inputs be read, and what else is ready.
func (p *pump) linger() {
	time.Sleep(pause)
	for _, s := range p.sources {
		if s.hot {
			p.queue = append(p.queue, s)
		}
	}
	if ready, err := p.watcher.poll(); err == nil {
		p.enqueue(ready)
	}
	if p.direct > 0 {
		p.enqueueDirect()
	}
}
