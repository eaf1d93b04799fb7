package fs

import (
	"logfs/ring/record"
)

// filePart is how many records the files in memory have in a piece.
const filePart = 7

func (f *files) all() (all []stored) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.lines {
		if l.seq > f.gone {
			all = append(all, l)
		}
	}
	return all
}

func (s *stored) record() record.Record {
	at := record.Scanner{Buf: s.line, Seq: s.seq, Run: s.run}
	rec, _ := at.Next()
	return rec
}

func (f *files) Find(t record.Stamp) (seq uint64, ok bool, err error) {
	for _, l := range f.all() {
		if rec := l.record(); rec.Time() >= t {
			return l.seq, true, nil
		}
	}
	return 0, false, nil
}

func (f *files) Runs() (runs []Run, err error) {
	for _, l := range f.all() {
		rec := l.record()
		if rec.Run == 0 {
			continue
		}
		r := Run{Run: rec.Run, First: rec.Seq, Last: rec.Last}
		if _, ok := record.StartRun(rec.Line); ok {
			r.Began = rec.Time()
		} else if record.IsExit(rec.Line) {
			r.Ended = rec.Time()
		}
		if n := len(runs); n > 0 && runs[n-1].Run == r.Run {
			runs[n-1] = runs[n-1].join(r)
		} else {
			runs = append(runs, r)
		}
	}
	return runs, nil
}

func (f *files) Run(run uint64) (r Run, ok bool, err error) {
	runs, err := f.Runs()
	for _, r := range runs {
		if r.Run == run {
			return r, true, err
		}
	}
	return r, false, err
}

func (f *files) Parts(from, to uint64) (parts []Part, err error) {
	n := 0
	for _, l := range f.all() {
		if l.seq < from || l.seq >= to {
			continue
		}
		rec := l.record()
		if n%filePart == 0 || parts[len(parts)-1].Next != rec.Seq {
			parts = append(parts, Part{First: rec.Seq, Run: l.run})
			n = 0
		}
		n++
		p := &parts[len(parts)-1]
		p.Next = rec.Last + 1
		p.Sizes.Add(&rec)
	}
	return parts, nil
}
