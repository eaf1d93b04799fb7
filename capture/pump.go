package capture

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

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

// ErrOver, as the cause of a cancelled context, says that the run is over.
var ErrOver = errors.New("the run is over")

// Sink takes the pieces of a run.
type Sink interface {
	// Take is called once for each read(2) that completed a piece, with all
	// the pieces it completed, in order. The batch and its texts are valid
	// until Take returns or goOn is called.
	//
	// A Sink that finds itself waiting for long may have goOn called, at most
	// once, from any goroutine, while Take has not returned: the Pump then goes
	// on in another goroutine and calls Take again. The goroutine that is still
	// in the first call is the Sink's from then on, and ends when Take returns.
	// Otherwise one Pump never calls Take concurrently.
	Take(batch []Piece, goOn func())
}

// A Limiter is a Sink that has a say in the line limit.
type Limiter interface {
	// LineLimit is asked before each read, in the place of the limit that Pump
	// was given. It holds from the next line on.
	LineLimit() int
}

// scratch is what reading needs; a Pump has one only while there is something
// to read.
type scratch struct {
	buf    []byte // nil until an input without Hold is read
	pieces []Piece
}

var scratches = sync.Pool{
	New: func() any { return new(scratch) },
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
// but it does wait for the sink. Regular files are not read on. An input with a
// Hold is not finished then, unless the cause of the cancellation is ErrOver: its
// unfinished line stays in the Hold, for the next Pump to go on with.
func Pump(ctx context.Context, limit int, sink Sink, inputs ...Input) error {
	ended := make(chan error, 1)
	if p := begin(ctx, limit, sink, func(err error) { ended <- err }, inputs); p != nil {
		p.work(0)
	}
	return <-ended
}

// Start is Pump in a goroutine of its own. It returns at once; ended is called
// when Pump would return, which is not held up by a Take that had goOn called.
func Start(ctx context.Context, limit int, sink Sink, ended func(error), inputs ...Input) {
	if p := begin(ctx, limit, sink, ended, inputs); p != nil {
		go p.work(0)
	}
}

// begin takes the inputs over. If they cannot be read it says so to ended and
// returns nil.
func begin(ctx context.Context, limit int, sink Sink, ended func(error), inputs []Input) *pump {
	p := &pump{ctx: ctx, sink: sink, ended: ended}
	p.limiter, _ = sink.(Limiter)
	p.goOn = func() { go p.work(p.turn.Add(1)) }
	if err := p.open(limit, inputs); err != nil {
		p.close()
		ended(err)
		return nil
	}
	p.uncancel = context.AfterFunc(ctx, p.watcher.interrupt)
	return p
}

// pump is the state of one Pump. It belongs to the goroutine that works, so
// that another can take the work over between two batches.
type pump struct {
	ctx      context.Context
	sink     Sink
	limiter  Limiter // nil if the limit does not change
	ended    func(error)
	goOn     func()        // made once: a closure for each Take would be garbage
	turn     atomic.Uint64 // of the goroutine that works
	uncancel func() bool

	watcher *watcher
	sources []*source // the watcher's ids are places in it
	live    int       // sources not finished
	direct  int       // those of them that the watcher does not take
	hot     int       // those of them that the watcher does not have now
	scratch *scratch  // nil while there is nothing to read
	err     error     // of sources that could not be read
	why     error     // why reading ended, if not by itself

	phase phase
	left  []leftover // to be handed on before anything is read
	queue []*source  // to be read next, from the place at
	at    int
}

type phase int

const (
	reading   phase = iota // until all sources are finished by themselves
	draining               // ctx is done: while there is something, without waiting for more
	finishing              // what is still open
)

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
	p.again(inputs)
	return nil
}

// again prepares what a dead process has left to be handed on first: in the order
// of the numbers it has given out, then what has none.
func (p *pump) again(inputs []Input) {
	if len(inputs) == 0 || inputs[0].Hold == nil {
		return
	}
	for _, r := range inputs[0].Hold.retakes() {
		for _, s := range p.sources {
			if s.stream != r.stream {
				continue
			}
			if r.skip > 0 {
				s.hold.skipped(length(s.left[:min(r.skip, uint64(len(s.left)))]))
				s.left = s.left[min(r.skip, uint64(len(s.left))):]
			}
			p.left = append(p.left, leftover{s, r.pieces})
		}
	}
	for _, s := range p.sources {
		p.left = append(p.left, leftover{s, uint64(len(s.left))})
	}
}

// A leftover is so many pieces that a dead process has read.
type leftover struct {
	s      *source
	pieces uint64
}

// close leaves nothing open, also after an error or a panic of the sink.
func (p *pump) close() {
	if p.uncancel != nil {
		p.uncancel()
	}
	for _, s := range p.sources {
		s.close()
	}
	if p.watcher != nil {
		p.watcher.close()
	}
	p.idle()
}

// work hands on all batches there will be, or those up to one whose Take had
// goOn called: another goroutine has the next turn then.
func (p *pump) work(turn uint64) {
	mine := true
	defer func() {
		if mine {
			p.close()
		}
	}()
	for batch := p.next(); len(batch) > 0; batch = p.next() {
		p.sink.Take(batch, p.goOn)
		if mine = p.turn.Load() == turn; !mine {
			return
		}
	}
	mine = false
	p.close()
	p.ended(join(p.err, p.why))
}

// next returns the pieces to be handed on next, none if all is finished.
func (p *pump) next() (batch []Piece) {
	for len(batch) == 0 && len(p.left) > 0 {
		first := p.left[0]
		p.left = p.left[1:]
		batch = first.s.retake(first.pieces)
	}
	for len(batch) == 0 && p.live > 0 {
		switch s := p.pick(); {
		case p.phase == finishing, p.phase == draining && s.drained >= drainBytes:
			batch = p.stop(s)
		default:
			batch = p.read(s)
		}
	}
	return batch
}

// pick returns the source whose turn it is to be read, or to be finished. There
// is one that is open.
func (p *pump) pick() *source {
	for {
		for p.at < len(p.queue) {
			s := p.queue[p.at]
			p.at++
			if s.open() {
				return s
			}
		}
		p.queue, p.at = p.queue[:0], 0
		p.look()
	}
}

// look fills the queue with what can be read, or begins the next phase.
func (p *pump) look() {
	switch p.phase {
	case reading:
		if p.hot > 0 && p.ctx.Err() == nil {
			p.linger()
			return
		}
		p.coolAll()
		ready, err := p.watcher.wait(p.direct > 0)
		p.enqueue(ready)
		switch {
		case err == errInterrupted:
			p.phase, p.why = draining, p.ctx.Err()
		case err != nil:
			p.phase, p.why = finishing, err
		case p.direct > 0:
			p.enqueueDirect()
		}
	case draining:
		ready, err := p.watcher.poll()
		p.enqueue(ready)
		if err != nil || len(ready) == 0 || p.live == p.direct {
			p.phase = finishing
		}
	case finishing:
		p.queue = append(p.queue, p.sources...)
	}
}

func (p *pump) enqueue(ready []unix.EpollEvent) {
	for _, event := range ready {
		p.queue = append(p.queue, p.sources[event.Fd])
	}
}

func (p *pump) enqueueDirect() {
	for _, s := range p.sources {
		if s.direct {
			p.queue = append(p.queue, s)
		}
	}
}

// read does one read(2) of s, which is ready, and returns what it completes.
func (p *pump) read(s *source) []Piece {
	if p.scratch == nil {
		p.scratch = scratches.Get().(*scratch)
	}
	text, err := s.receive(p.scratch)
	if p.live-p.direct > 1 {
		// Before the sink takes its time, in which others may write.
		p.watcher.settle()
	}
	switch {
	case err == unix.EAGAIN && p.phase == reading:
		p.cool(s)
		return nil
	case err != nil && err != unix.EAGAIN:
		p.err = join(p.err, fmt.Errorf("cannot read %s: %w", s.stream, err))
		return p.finish(s)
	case len(text) == 0:
		return p.finish(s)
	}
	switch p.phase {
	case reading:
		p.pace(s, len(text))
	case draining:
		s.drained += len(text)
	}
	if p.limiter != nil {
		s.splitter.SetLimit(p.limiter.LineLimit())
	}
	p.scratch.pieces = s.split(text, p.scratch.pieces[:0])
	return p.scratch.pieces
}

// stop closes s, which has not ended by itself.
func (p *pump) stop(s *source) []Piece {
	if s.hold == nil || context.Cause(p.ctx) == ErrOver {
		return p.finish(s)
	}
	p.shut(s)
	return nil
}

// finish closes s and returns its unfinished line.
func (p *pump) finish(s *source) []Piece {
	p.shut(s)
	return s.end()
}

func (p *pump) shut(s *source) {
	p.live--
	switch {
	case s.direct:
		p.direct--
	case s.hot:
		p.hot--
		s.hot = false
	default:
		p.watcher.remove(s.fd)
	}
	s.close()
}

// idle gives back what only reading needs.
func (p *pump) idle() {
	for _, s := range p.sources {
		s.splitter.shrink()
		s.hold.cool()
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
