package daemon

import (
	"time"

	"logfs/capture"
	"logfs/ring/record"
)

// tellOfCut tells the operator when the log was not closed, and its readers too
// if the machine went down: that may have cost lines that somebody has read.
// Nobody knows how many; where they were is known.
func (l *Log) tellOfCut() {
	s := l.dir.State()
	if s.Clean {
		return
	}
	attrs := []any{"after", s.Next - 1, "torn", s.Cut}
	if s.Last != 0 {
		attrs = append(attrs, "at", time.Unix(0, int64(s.Last)).UTC())
	}
	if !s.Down {
		l.log.Info("the log was not closed; what was not written may be lost", attrs...)
		return
	}
	l.log.Warn("the log was cut off; its last lines may be lost", attrs...)
	l.storeMarkAt(l.newest, nil, capture.LostMark, func(dst []byte) []byte {
		return record.AppendCut(dst, record.Cut{After: s.Next - 1, Last: s.Last, Torn: s.Cut})
	})
}
