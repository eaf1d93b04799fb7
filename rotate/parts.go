package rotate

import (
	"math"

	"logfs/ring/record"
)

// A Part is what one file has of the records in a range of numbers.
type Part struct {
	First, Next uint64 // number of the first record, and of that behind the last
	Run         uint64 // in force at the first
	Sizes       record.Sizes
}

// Parts is Measure of each file, oldest first. Where numbers are missing between
// two of them, they are not to be had.
func (d *Logdir) Parts(from, to uint64) (parts []Part, err error) {
	files, err := d.view.list()
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if f.first >= to || f.until <= from {
			continue
		}
		v, err := d.part(f, from, to)
		if err == errGone {
			continue
		}
		if err != nil {
			return nil, err
		}
		if v.next > 0 {
			parts = append(parts, Part{First: v.first, Next: v.next, Run: v.run, Sizes: v.sizes})
		}
	}
	return parts, nil
}

// Run returns a run; ok is false if there are no records of it. It reads no
// files but those that may have some: the headers say which run is in force at
// the beginning of each.
func (d *Logdir) Run(run uint64) (r RunInfo, ok bool, err error) {
	files, err := d.view.list()
	if err != nil {
		return r, false, err
	}
	var all survey
	for i, f := range files {
		if f.run > run || i+1 < len(files) && files[i+1].run < run {
			continue
		}
		part, ok, err := d.runIn(f, run)
		if err != nil && err != errGone {
			return r, false, err
		}
		if ok {
			all.joinRun(part)
		}
	}
	if len(all.runs) == 0 {
		return r, false, nil
	}
	return all.runs[0], true, nil
}

// runIn returns what f has of a run.
func (d *Logdir) runIn(f found, run uint64) (r RunInfo, ok bool, err error) {
	k := f.facts
	k.mu.Lock()
	defer k.mu.Unlock()
	err = d.learnLocked(f, math.MaxUint64)
	for _, r := range k.survey.runs {
		if r.Run == run {
			return r, err == nil, err
		}
	}
	return r, false, err
}
