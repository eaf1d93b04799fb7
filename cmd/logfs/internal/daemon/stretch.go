package daemon

import (
	"bytes"

	"logfs/ring"
	"logfs/ring/record"
	"logfs/rotate"
)

// A stretch is consecutive records in stored form, in memory that nobody
// changes: what a writer has in hand.
type stretch struct {
	chunks      [][]byte
	first, next uint64
	run         uint64 // in force at first
	pins        []ring.Chunk
}

func (s *stretch) empty() bool { return s.first >= s.next }

// put writes s to the logdir. After an error s is what is not in the files.
func (s *stretch) put(dir *rotate.Logdir) error {
	for i, c := range s.chunks {
		next := s.next
		if i < len(s.chunks)-1 {
			next = s.first + uint64(bytes.Count(c, newline))
		}
		written, err := dir.Append(c, s.first, next, s.run)
		if written < next {
			s.chunks = s.chunks[i:]
			s.cut(written)
			return err
		}
		s.first = next
	}
	return nil
}

var newline = []byte{'\n'}

// cut takes the records before the number written off.
func (s *stretch) cut(written uint64) {
	rest := record.Scanner{Buf: s.chunks[0], Seq: s.first, Run: s.run}
	for rest.Seq < written {
		if _, ok := rest.Next(); !ok {
			break
		}
	}
	s.chunks[0], s.first, s.run = rest.Buf, rest.Seq, rest.Run
}

// release lets go of the memory.
func (s *stretch) release() {
	for _, c := range s.pins {
		c.Release()
	}
	*s = stretch{}
}
