package daemon

import (
	"cmp"
	"context"
	"sync"
	"syscall"

	"logfs/capture"
)

// A text is what one writer has written, as far as it is no line of the log
// yet. It is guarded by the log's lock.
type text struct {
	splitter *capture.Splitter
	over     error // why nothing more is taken, nil if it is
}

// keptPieces bounds the lists that are kept: a write of empty lines needs one of
// 5 MiB, once in a while.
const keptPieces = 16 << 10

// pieceLists are for the pieces of one write.
var pieceLists = sync.Pool{New: func() any { return new([]capture.Piece) }}

// takeText stores the lines that b completes, as Take does a batch: what is
// divided and numbered in one step has the order in which it was written.
//
// Where it would have to wait for longer than for the batch before, it waits
// until ctx is done, and the error is EINTR; without ctx it returns done false.
// In both cases it has taken nothing.
func (l *Log) takeText(ctx context.Context, t *text, b []byte, goOn func()) (done bool, err error) {
	l.mu.Lock()
	for l.writer.flying {
		l.changed.Wait()
	}
	if ctx == nil && l.writer.late {
		l.mu.Unlock()
		return false, nil
	}
	if ctx == nil {
		ctx = context.Background()
	} else {
		defer context.AfterFunc(ctx, l.tell)()
	}
	for l.waitsLocked() && (l.writer.flying || ctx.Err() == nil) {
		l.changed.Wait()
	}
	if l.waitsLocked() || t.over != nil {
		defer l.mu.Unlock()
		return true, cmp.Or(t.over, error(syscall.EINTR))
	}
	t.splitter.SetLimit(l.LineLimit())
	pieces := pieceLists.Get().(*[]capture.Piece)
	*pieces = t.splitter.Split(b, (*pieces)[:0])
	l.takeBatchLocked(ctx, nil, *pieces, goOn)
	if cap(*pieces) <= keptPieces {
		pieceLists.Put(pieces)
	}
	return true, nil
}

// endText stores the unfinished line of t, which takes nothing any more: why.
// It waits for as long as it has to.
func (l *Log) endText(t *text, why error) {
	l.mu.Lock()
	if t.over != nil {
		l.mu.Unlock()
		return
	}
	t.over = why
	l.takeBatchLocked(context.Background(), nil, t.splitter.Finish(nil), func() {})
}

// tell has those look again who wait.
func (l *Log) tell() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changed.Broadcast()
}
