package daemon

import (
	"sync"
	"time"

	"logfs/fs"
	"logfs/rotate"
)

// history gives readers of the tree what the files have and the ring has
// dropped.
type history struct {
	dir *rotate.Logdir
	fed *fed
}

// fed counts the readers that get lines from the files: they lag.
type fed struct {
	mu   sync.Mutex // guards the following
	n    int
	none chan struct{} // closed when n is 0 again; nil if nobody waits for that
}

func (f *fed) add(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n += n; f.n == 0 && f.none != nil {
		close(f.none)
		f.none = nil
	}
}

// await waits until there are none, but not for longer than patience. Only one
// may wait.
func (f *fed) await(patience time.Duration) {
	f.mu.Lock()
	if f.n == 0 {
		f.mu.Unlock()
		return
	}
	none := make(chan struct{})
	f.none = none
	f.mu.Unlock()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-none:
	case <-late.C:
	}
}

// From implements fs.History.
func (h history) From(seq uint64) (fs.HistoryReader, error) {
	r, err := h.dir.From(seq)
	if err != nil {
		return nil, err
	}
	h.fed.add(1)
	return historyReader{r, h.fed}, nil
}

type historyReader struct {
	r   *rotate.Reader
	fed *fed
}

// Next implements fs.HistoryReader.
func (h historyReader) Next(buf []byte) (first, run uint64, lines []byte, err error) {
	s, err := h.r.Next(buf)
	return s.First, s.Run, s.Lines, err
}

// Rest implements fs.HistoryReader.
func (h historyReader) Rest() { h.r.Rest() }

// Close implements fs.HistoryReader.
func (h historyReader) Close() error {
	h.r.Close()
	h.fed.add(-1)
	return nil
}
