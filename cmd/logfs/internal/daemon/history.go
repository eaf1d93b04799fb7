package daemon

import (
	"logfs/fs"
	"logfs/rotate"
)

// history gives readers of the tree what the files have and the ring has
// dropped.
type history struct{ dir *rotate.Logdir }

// From implements fs.History.
func (h history) From(seq uint64) (fs.HistoryReader, error) {
	r, err := h.dir.From(seq)
	if err != nil {
		return nil, err
	}
	return historyReader{r}, nil
}

type historyReader struct{ r *rotate.Reader }

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
	return nil
}
