package capture

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// readSize is as much as one read(2) can take from a grown pipe.
	readSize = 256 << 10

	// drainBytes bounds what a cancelled Pump still reads from each input, so
	// that a service that goes on writing cannot keep it.
	drainBytes = 4 << 20

	// keptPieces bounds the piece slices in the pool: a read of empty lines
	// needs 8 MiB of them, once in a while.
	keptPieces = 16 << 10
)

// Sink takes the pieces of a run.
type Sink interface {
	// Take is called once for each read(2) that completed a piece, with all
	// the pieces it completed, in order. The batch and its texts are valid
	// during the call only. One Pump never calls it concurrently.
	Take(batch []Piece)
}

// scratch is what reading needs; a Pump has one only while there is something
// to read.
type scratch struct {
	buf    []byte
	pieces []Piece
}

var scratches = sync.Pool{
	New: func() any { return &scratch{buf: make([]byte, readSize)} },
}

// Pump reads the inputs of one run, together, until all of them have ended, and
// hands their lines to sink.
//
// Each input keeps its order. Between inputs the order is the one in which they
// became readable; when several are, they take turns, one read each.
//
// Pump owns the inputs: it closes their Files when called and the descriptors
// behind them at the latest when it returns, whatever it returns. It never
// changes the mode of the open files, which other processes may share. An input
// that has ended is finished at once, its unfinished line handed on, while the
// others go on. An input that cannot be read ends too; the others go on and the
// error is returned in the end.
//
// When ctx is cancelled Pump takes what the inputs hold already, about 4 MiB of
// each at most, finishes them and returns ctx.Err(). It does not wait for more,
// but it does wait for the sink. Regular files are not read on.
func Pump(ctx context.Context, limit int, sink Sink, inputs ...Input) error {
	p := &pump{sink: sink}
	defer p.close()
	if err := p.open(limit, inputs); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, p.watcher.interrupt)()
	return p.pump(ctx)
}

// pump is the state of one call of Pump.
type pump struct {
	sink    Sink
	watcher *watcher
	sources []*source // the watcher's ids are places in it
	live    int       // sources not finished
	direct  int       // those of them that the watcher does not take
	scratch *scratch  // nil while there is nothing to read
	err     error     // of sources that could not be read
}

// open takes all inputs over, also after an error: Pump owns them.
func (p *pump) open(limit int, inputs []Input) error {
	w, err := newWatcher(p.idle)
	p.watcher = w
	for _, in := range inputs {
		s, serr := takeOver(in, limit)
		if serr != nil {
			err = join(err, serr)
			continue
		}
		p.sources = append(p.sources, s)
	}
	if err != nil {
		return err
	}
	for id, s := range p.sources {
		if err := w.add(s.fd, id); err == unix.EPERM {
			s.direct = true
			p.direct++
		} else if err != nil {
			return fmt.Errorf("cannot watch %s: %w", s.stream, err)
		}
		p.live++
	}
	return nil
}

// close leaves nothing open, also after an error or a panic of the sink.
func (p *pump) close() {
	for _, s := range p.sources {
		s.close()
	}
	if p.watcher != nil {
		p.watcher.close()
	}
	p.idle()
}

// pump reads until all sources are finished, or until it is interrupted
// because ctx is done, and finishes them then.
func (p *pump) pump(ctx context.Context) error {
	err := p.run()
	if err == errInterrupted {
		p.drain()
		err = ctx.Err()
	}
	for _, s := range p.sources {
		p.finish(s)
	}
	return join(p.err, err)
}

// run reads until all sources are finished by themselves.
func (p *pump) run() error {
	for p.live > 0 {
		ready, err := p.watcher.wait(p.direct > 0)
		if err != nil {
			return err
		}
		for _, event := range ready {
			p.read(p.sources[event.Fd])
		}
		if p.direct > 0 {
			p.readDirect()
		}
	}
	return nil
}

func (p *pump) readDirect() {
	for _, s := range p.sources {
		if s.direct && s.open() {
			p.read(s)
		}
	}
}

// drain reads on while there is something, without waiting for more.
func (p *pump) drain() {
	drained := make([]int, len(p.sources))
	for p.live > p.direct {
		ready, err := p.watcher.poll()
		if err != nil || len(ready) == 0 {
			return
		}
		for _, event := range ready {
			s := p.sources[event.Fd]
			n := p.read(s)
			drained[event.Fd] += n
			if n == 0 || drained[event.Fd] >= drainBytes {
				p.finish(s)
			}
		}
	}
}

// read does one read(2) of s, which is ready, and hands on what it completes.
func (p *pump) read(s *source) int {
	if p.scratch == nil {
		p.scratch = scratches.Get().(*scratch)
	}
	buf := p.scratch.buf
	n, err := s.read(buf)
	if p.live-p.direct > 1 {
		// Before the sink takes its time, in which others may write.
		p.watcher.settle()
	}
	switch {
	case err == unix.EAGAIN:
	case err != nil:
		p.err = join(p.err, fmt.Errorf("cannot read %s: %w", s.stream, err))
		p.finish(s)
	case n == 0:
		p.finish(s)
	default:
		p.scratch.pieces = s.splitter.Split(buf[:n], p.scratch.pieces[:0])
		p.take(p.scratch.pieces)
	}
	return n
}

// finish hands on the unfinished line of s and closes it, once.
func (p *pump) finish(s *source) {
	if !s.open() {
		return
	}
	p.live--
	if s.direct {
		p.direct--
	} else {
		p.watcher.remove(s.fd)
	}
	s.close()
	p.take(s.splitter.Finish(nil))
}

func (p *pump) take(batch []Piece) {
	if len(batch) > 0 {
		p.sink.Take(batch)
	}
}

// idle gives back what only reading needs.
func (p *pump) idle() {
	for _, s := range p.sources {
		s.splitter.shrink()
	}
	if p.scratch == nil {
		return
	}
	if cap(p.scratch.pieces) > keptPieces {
		p.scratch.pieces = nil
	}
	scratches.Put(p.scratch)
	p.scratch = nil
}

// join is errors.Join on one line, and a single error as it is.
func join(a, b error) error {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return fmt.Errorf("%w; %w", a, b)
}
