package daemon

import (
	"bytes"

	"logfs/capture"
	"logfs/ring/record"
)

// BeginRun writes the start mark of a new run and returns its number. What a
// killed daemon left without exit mark stays as it is. The Hold may be nil.
func (l *Log) BeginRun(hold *capture.Hold, pid int) (run uint64) {
	return l.beginRun(hold, func(dst []byte, run uint64) []byte { return record.AppendStart(dst, run, pid) })
}

// BeginWrittenRun is BeginRun for a run that a process of the user uid begins by
// opening a file.
func (l *Log) BeginWrittenRun(pid int, uid uint32) {
	l.beginRun(nil, func(dst []byte, run uint64) []byte {
		return record.AppendUser(record.AppendStart(dst, run, pid), uid)
	})
}

func (l *Log) beginRun(hold *capture.Hold, text func(dst []byte, run uint64) []byte) (run uint64) {
	l.storeMark(hold, capture.StartMark, func(dst []byte) []byte {
		run = l.ring.Run() + 1
		hold.Starting(run, l.now().UnixNano())
		return text(dst, run)
	})
	return run
}

// Resume goes on with the run of a Hold, which another process has begun. Lines
// that have got numbers there and are nowhere now get a mark. A run whose start
// mark is not in the files gets one; so does one that was not the last here: what
// comes now is another run.
func (l *Log) Resume(hold *capture.Hold, pid int) capture.Held {
	have := l.recordsOf(hold, pid)
	l.mu.Lock()
	for l.writer.flying {
		l.changed.Wait()
	}
	_, next := l.ring.Bounds()
	run := l.ring.Run()
	held := hold.Recover(have, next)
	l.mu.Unlock()
	if held.Lost > 0 {
		l.lost.Add(held.Lost)
		l.log.Warn("lines lost with the daemon before", "count", held.Lost)
		l.storeMark(hold, capture.LostMark, func(dst []byte) []byte { return record.AppendLost(dst, held.Lost) })
	}
	if !held.Ended && (held.Run == 0 || held.Run != run) {
		l.BeginRun(hold, pid)
	}
	return held
}

// recordsOf returns the number after the last record in the files that is of the
// run of a Hold. That is what they had when they were opened, unless somebody else
// has been given the numbers since the process died.
func (l *Log) recordsOf(hold *capture.Hold, pid int) uint64 {
	first, run := hold.Unstored()
	if first == 0 || first >= l.found {
		return l.found
	}
	r, err := l.dir.From(first)
	if err != nil {
		return l.found
	}
	defer r.Close()
	start := record.AppendStart(nil, run, pid)
	for buf := make([]byte, 64<<10); ; {
		s, err := r.Next(buf)
		if err != nil {
			return l.found
		}
		records := record.Scanner{Buf: s.Lines, Seq: s.First, Run: s.Run}
		for rec, ok := records.Next(); ok; rec, ok = records.Next() {
			_, starts := record.StartRun(rec.Line)
			if rec.Run != run || record.IsCut(rec.Line) || starts && !bytes.Equal(rec.Text, start) {
				return min(rec.Seq, l.found)
			}
		}
	}
}

// EndRun writes the exit mark and brings the run to stable storage, unless the
// disk takes too long.
func (l *Log) EndRun(hold *capture.Hold, e record.Exit) {
	l.markEnd(hold, e)
	l.syncEnd()
}

func (l *Log) markEnd(hold *capture.Hold, e record.Exit) {
	l.storeMark(hold, capture.ExitMark, func(dst []byte) []byte { return record.AppendExit(dst, e) })
}

func (l *Log) syncEnd() {
	if l.late() || !l.tried.CompareAndSwap(false, true) {
		return // the warning is out
	}
	err := patiently(runPatience, func() error {
		defer l.tried.Store(false)
		return l.dir.Sync()
	})
	if err != nil {
		l.log.Warn("the end of a run may not be on disk yet", "err", err)
	}
}
