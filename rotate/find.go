package rotate

import (
	"cmp"
	"math"
	"slices"

	"logfs/ring/record"
)

// Find returns the number of the first record there is whose stamp is t or
// later: the first by number, so if the clock has stepped back, records with
// earlier stamps may come behind it. ok is false if there is none yet.
//
// It reads in the file that has the record, as far as is known: of an archive
// the header behind it says enough, of a compressed one it is known exactly. One
// without either is read when it is asked for first.
func (d *Logdir) Find(t record.Stamp) (seq uint64, ok bool, err error) {
	files, err := d.view.list()
	if err != nil {
		return 0, false, err
	}
	// The list is in memory, and must be looked through from its beginning:
	// after a step of the clock it is not in the order of stamps.
	for _, f := range files {
		if f.greatest() < t {
			continue
		}
		seq, ok, err = d.findIn(f, t)
		if err == errGone {
			continue
		}
		if ok || err != nil {
			return seq, ok, err
		}
	}
	return 0, false, nil
}

// greatest is a stamp that none in the file is greater than.
func (f *found) greatest() record.Stamp {
	exact := record.Stamp(f.facts.top.Load())
	if f.current != nil {
		return f.top
	}
	return cmp.Or(exact, f.top, math.MaxInt64)
}

func (d *Logdir) findIn(f found, t record.Stamp) (seq uint64, ok bool, err error) {
	r := &Reader{d: d}
	r.enter(f)
	defer r.leave()
	var top record.Stamp
	end, err := r.scan(f, func(s Segment) bool {
		at := record.Scanner{Buf: s.Lines, Seq: s.First, Run: s.Run}
		for rec, more := at.Next(); more; rec, more = at.Next() {
			if top = max(top, rec.Time()); top >= t {
				seq, ok = rec.Seq, true
				return false
			}
		}
		return true
	})
	if end {
		f.facts.top.Store(int64(top))
	}
	return seq, ok, err
}

// Runs returns the runs of which there still are records, oldest first. Records
// before the first run belong to none.
//
// The first call reads the archives that are neither compressed nor known from
// being asked before; later ones read only what is new in current.
func (d *Logdir) Runs() []RunInfo {
	files, err := d.view.list()
	if err != nil {
		return nil
	}
	var all survey
	for _, f := range files {
		if v, _, err := d.learn(f, math.MaxUint64); err == nil {
			all.join(v)
		}
	}
	return slices.DeleteFunc(all.runs, func(r RunInfo) bool { return r.Run == 0 })
}

// Measure returns the sizes of the records that there are from the number from
// to to-1: of those that begin with one of these numbers. Numbers that are
// missing between two of them have the size of the lost mark that readers get
// in their place.
//
// Files that are wholly in the range are read once, when they are asked for
// first, and not at all if they are compressed: they say it themselves. Of the
// file that has from in it the lines before it are read again each time, up to
// to if it has that, too.
func (d *Logdir) Measure(from, to uint64) (record.Sizes, error) {
	parts, err := d.Parts(from, to)
	if err != nil {
		return record.Sizes{}, err
	}
	var all survey
	for _, p := range parts {
		all.join(survey{first: p.First, next: p.Next, run: p.Run, sizes: p.Sizes})
	}
	return all.sizes, nil
}

// part surveys the records of f from one number to before another.
func (d *Logdir) part(f found, from, to uint64) (v survey, err error) {
	if from <= f.first {
		if v, exact, err := d.learn(f, to); exact || err != nil {
			return v, err
		}
	}
	r := &Reader{d: d, want: from}
	r.enter(f)
	defer r.leave()
	_, err = r.scan(f, func(s Segment) bool { return len(v.add(s, to).Lines) == 0 })
	return v, err
}
