package daemon

import (
	"time"

	"logfs/ring/record"
)

// tellOfCut tells the operator when the log was not closed, and its readers too
// if that may have cost lines that somebody has read: after a power cut.
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
	if !s.Down && s.Cut == 0 {
		l.log.Info("the log was not closed; lines that were not written are lost", attrs...)
		return
	}
	l.log.Warn("the log was cut off; its last lines may be lost", attrs...)
	l.storeMark(l.newest, func(dst []byte) []byte {
		return record.AppendCut(dst, record.Cut{After: s.Next - 1, Last: s.Last, Torn: s.Cut})
	})
}
