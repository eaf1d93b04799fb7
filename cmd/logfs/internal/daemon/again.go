package daemon

import "logfs/ring/record"

// linesAgain returns the stored lines first to next-1 if the ring still has
// them. The logdir asks for them when the disk has lost what it had taken, and
// may have lines that the ring is yet to show: those of a batch that flies.
func (l *Log) linesAgain(first, next uint64) (lines []byte, ok bool) {
	l.mu.Lock()
	for _, end := l.ring.Bounds(); end < next && l.writer.flying; _, end = l.ring.Bounds() {
		l.changed.Wait()
	}
	l.mu.Unlock()
	oldest, end := l.ring.Held()
	if first < oldest.Seq || next > end.Seq {
		return nil, false
	}
	for id := oldest.Block; id <= end.Block; id++ {
		c, ok := l.ring.Chunk(id)
		if !ok {
			return nil, false // dropped meanwhile
		}
		lines = appendRange(lines, record.Scanner{Buf: c.Data, Seq: c.First, Run: c.Run}, first, next)
		c.Release()
	}
	return lines, true
}

// appendRange appends the stored lines of s that are numbered first to next-1.
func appendRange(dst []byte, s record.Scanner, first, next uint64) []byte {
	for s.Seq < next {
		before, seq := s.Buf, s.Seq
		if _, ok := s.Next(); !ok {
			break
		}
		if seq >= first {
			dst = append(dst, before[:len(before)-len(s.Buf)]...)
		}
	}
	return dst
}
