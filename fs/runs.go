package fs

import (
	"cmp"
	"slices"

	"logfs/ring/record"
)

// A Run is a run of which there still are records.
type Run struct {
	Run         uint64
	First, Last uint64 // numbers of the first and the last record
	// Began and Ended are the stamps of its first and its last mark, 0 without.
	Began, Ended record.Stamp
}

// ringRun is where a run begins in a view.
type ringRun struct {
	run   uint64
	at    pos
	whole bool   // its start mark is there
	exit  uint64 // number of its exit mark, 0 without
	began record.Stamp
	ended record.Stamp
}

// maxRingRuns bounds what a view remembers. History has the others.
const maxRingRuns = 256

// markLocked is called for each record that is measured, before end has moved
// over it.
func (v *view) markLocked(rec record.Record, _ int) bool {
	if rec.Kind != record.Mark {
		return true
	}
	if run, ok := record.StartRun(rec.Line); ok {
		v.addRunLocked(ringRun{run: run, at: v.end, whole: true, began: rec.Time()})
	} else if last := len(v.runs) - 1; record.IsExit(rec.Line) && v.runs[last].run == rec.Run {
		v.runs[last].exit, v.runs[last].ended = rec.Seq, rec.Time()
	}
	return true
}

// enterRunLocked is called at the beginning of a block: lines may be missing
// before it, and the start of a run among them.
func (v *view) enterRunLocked() {
	if last := len(v.runs) - 1; last < 0 || v.runs[last].run != v.end.Run {
		v.addRunLocked(ringRun{run: v.end.Run, at: v.end})
	}
}

func (v *view) addRunLocked(r ringRun) {
	if len(v.runs) == maxRingRuns {
		v.runs = append(v.runs[:0], v.runs[1:]...)
	}
	v.runs = append(v.runs, r)
}

// endOf returns where the first run after run begins; number 0 if that is not
// known.
func (v *view) endOf(run uint64) pos {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := len(v.runs) - 1; i > 0 && v.runs[i].run > run; i-- {
		if v.runs[i-1].run <= run {
			return v.runs[i].at
		}
	}
	return pos{}
}

// exited says whether the view has the exit mark of a run.
func (v *view) exited(run uint64) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	last := len(v.runs) - 1
	return last >= 0 && v.runs[last].run == run && v.runs[last].exit > 0
}

// held returns the runs that the ring has records of, oldest first. Of the
// first, records may be missing, which whole tells.
func (e *Entry) held() (runs []Run, whole bool) {
	v := e.view(selAll, current)
	head, end := v.catchUp()
	v.mu.Lock()
	defer v.mu.Unlock()
	for i, r := range v.runs {
		next := end.Seq
		if i+1 < len(v.runs) {
			next = v.runs[i+1].at.Seq
		}
		first := max(r.at.Seq, head.Seq)
		if next <= first || r.run == 0 {
			continue
		}
		if len(runs) == 0 {
			whole = r.whole && r.at.Seq >= head.Seq
		}
		runs = append(runs, Run{Run: r.run, First: first, Last: next - 1, Began: r.began, Ended: r.ended})
	}
	return runs, whole
}

// findRun returns the run with that number.
func (e *Entry) findRun(run uint64) (r Run, ok bool, err error) {
	held, whole := e.held()
	for i, h := range held {
		if h.Run == run {
			r = h
			if e.History == nil || whole || i > 0 {
				return r, true, nil
			}
		}
	}
	if e.History == nil || run > e.Ring.Run() {
		return r, false, nil
	}
	old, ok, err := e.History.Run(run)
	return old.join(r), ok || r.Run > 0, err
}

// join is r with the records of s.
func (r Run) join(s Run) Run {
	if r.Run == 0 || s.Run == 0 {
		return cmp.Or(r, s)
	}
	r.First = min(r.First, s.First)
	r.Last, r.Began, r.Ended = max(r.Last, s.Last), cmp.Or(r.Began, s.Began), cmp.Or(r.Ended, s.Ended)
	return r
}

// allRuns returns all runs of which there are records, oldest first.
func (e *Entry) allRuns() (runs []Run, err error) {
	if e.History != nil {
		if runs, err = e.History.Runs(); err != nil {
			return nil, err
		}
	}
	held, _ := e.held()
	for _, h := range held {
		i, known := slices.BinarySearchFunc(runs, h, func(r, h Run) int { return cmp.Compare(r.Run, h.Run) })
		if known {
			runs[i] = runs[i].join(h)
		} else {
			runs = slices.Insert(runs, i, h)
		}
	}
	return runs, nil
}
