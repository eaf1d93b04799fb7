package rotate

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"math"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"logfs/ring/record"
)

// RunInfo is a run of which there still are records.
type RunInfo struct {
	Run uint64
	// First and Last are the numbers of the first and the last record there
	// are. What comes behind the exit mark and before the next run belongs to
	// the run, too.
	First, Last uint64
	// Began and Ended are the stamps of its start mark and its exit mark, 0
	// without one: it has been deleted, was lost, or is yet to come.
	Began, Ended record.Stamp
}

// survey is what is to be known of records that follow each other.
type survey struct {
	first, next uint64 // the first number and the one after the last; 0 without records
	run         uint64 // in force before the first
	top         record.Stamp
	sizes       record.Sizes
	runs        []RunInfo // with what is before the first run, as run 0
}

// add counts the records of s before the number to, and returns the others.
func (v *survey) add(s Segment, to uint64) Segment {
	at := record.Scanner{Buf: s.Lines, Seq: s.First, Run: s.Run}
	for at.Seq < to {
		run := at.Run
		rec, ok := at.Next()
		if !ok {
			break
		}
		v.reach(rec.Seq, run)
		v.record(&rec)
	}
	return Segment{First: at.Seq, Run: at.Run, Lines: at.Buf}
}

// reach goes on to the next record. What is missing before it has the size of
// the mark that readers get in its place.
func (v *survey) reach(first, run uint64) {
	if v.next == 0 {
		v.first, v.run = first, run
	} else if first > v.next {
		lost := record.Lost(0, run, v.next, first-1)
		v.sizes.Add(&lost)
	}
}

func (v *survey) record(r *record.Record) {
	t := r.Time()
	v.next, v.top = r.Last+1, max(v.top, t)
	v.sizes.Add(r)
	run := RunInfo{Run: r.Run, First: r.Seq, Last: r.Last}
	if _, ok := record.StartRun(r.Line); ok {
		run.Began = t
	} else if record.IsExit(r.Line) {
		run.Ended = t
	}
	v.joinRun(run)
}

// join adds the records of w, which come after those of v.
func (v *survey) join(w survey) {
	if w.next == 0 {
		return
	}
	v.reach(w.first, w.run)
	v.next, v.top = w.next, max(v.top, w.top)
	v.sizes.Join(w.sizes)
	for _, r := range w.runs {
		v.joinRun(r)
	}
}

func (v *survey) joinRun(r RunInfo) {
	n := len(v.runs)
	if n == 0 || v.runs[n-1].Run != r.Run {
		v.runs = append(v.runs, r)
		return
	}
	p := &v.runs[n-1]
	p.Last, p.Began, p.Ended = r.Last, cmp.Or(p.Began, r.Began), cmp.Or(r.Ended, p.Ended)
}

// facts is the survey of one file, as far as it was asked for. It stays with
// the file while current becomes an archive and an archive is compressed: each
// line is read for it at most once, and none if the archive says it itself.
type facts struct {
	top   atomic.Int64 // greatest stamp of an archive, 0 if not known
	told  atomic.Bool  // the archive said it, nobody has read
	doubt atomic.Bool  // readers have found something else

	mu     sync.Mutex // held while the file is read
	survey survey
	place  Reader // stands behind what was surveyed; not begun if told
	done   bool   // there is no more

	steps steps
}

// steps are places in a file, some way from each other, that somebody has passed
// who read it: the next one need not begin at its beginning.
type steps struct {
	mu  sync.Mutex // guards all; nothing else is locked under it
	all []step
}

// A step is the place of a line.
type step struct {
	off         int64
	number, run uint64
}

// stepLength is how far steps are apart, about.
const stepLength = 64 << 10

// pass notes that somebody stands at a place.
func (s *steps) pass(at step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.all); at.off >= stepLength && (n == 0 || at.off >= s.all[n-1].off+stepLength) {
		s.all = append(s.all, at)
	}
}

// before returns the last step at or before a number; the zero step is none.
func (s *steps) before(number uint64) step {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := sort.Search(len(s.all), func(i int) bool { return s.all[i].number > number })
	if i == 0 {
		return step{}
	}
	return s.all[i-1]
}

func (s *steps) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = nil
}

// tell takes over what a compressed archive says of its records.
func (k *facts) tell(v survey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.survey, k.done = v, true
	k.told.Store(true)
	k.top.Store(int64(v.top))
}

// mistrust is told of the error with which a reader leaves the file: what an
// archive says of itself, and what was in a file that somebody has deleted, is
// not there to be read.
func (k *facts) mistrust(err error) {
	if errors.Is(err, errDamaged) && k.told.Load() || errors.Is(err, fs.ErrNotExist) {
		k.steps.forget()
		k.doubt.Store(true)
	}
}

// learn returns the survey of the records of f before the number to, for which
// it reads what has not been read yet. exact is false if it is of more records.
func (d *Logdir) learn(f found, to uint64) (v survey, exact bool, err error) {
	k := f.facts
	k.mu.Lock()
	defer k.mu.Unlock()
	err = d.learnLocked(f, to)
	v = k.survey
	v.runs = slices.Clone(v.runs)
	return v, v.next <= to, err
}

// learnLocked brings the survey of f up to the number to. The caller holds its mu.
func (d *Logdir) learnLocked(f found, to uint64) error {
	k := f.facts
	if k.doubt.Swap(false) || k.told.Load() && k.survey.next > f.until {
		k.forgetLocked()
	}
	if k.done || k.place.number >= to {
		return nil
	}
	return k.readLocked(d, f, to)
}

func (k *facts) readLocked(d *Logdir, f found, to uint64) (err error) {
	r := &k.place
	if r.id == 0 {
		r.d = d
		r.enter(f)
	}
	defer r.leave()
	k.done, err = r.scan(f, func(s Segment) bool {
		rest := k.survey.add(s, to)
		if len(rest.Lines) == 0 {
			return true
		}
		r.off, r.number, r.run, r.want = r.off-int64(len(rest.Lines)), rest.First, rest.Run, rest.First
		return false
	})
	if err != nil {
		k.forgetLocked()
	}
	if k.done {
		k.top.Store(int64(k.survey.top))
	}
	return err
}

// forgetLocked has the file read again when it is asked for.
func (k *facts) forgetLocked() {
	k.steps.forget()
	k.survey, k.place, k.done = survey{}, Reader{}, false
	k.told.Store(false)
}

// complete returns the survey of an archive if it is of every byte of it.
func (d *Logdir) complete(a archive) (v survey, ok bool) {
	f, ok, err := d.view.find(a.first, a.id-1)
	if err != nil || !ok || f.id != a.id {
		return v, false
	}
	v, _, err = d.learn(f, math.MaxUint64)
	k := f.facts
	k.mu.Lock()
	defer k.mu.Unlock()
	return v, err == nil && k.done && k.place.off == a.size
}

// errGone says that a file has been deleted.
var errGone = errors.New("deleted meanwhile")

// scan reads on in f, and in no other file, until each has enough. end says
// that there is no more and will not be. What cannot be read is passed over as
// by Next.
func (r *Reader) scan(f found, each func(Segment) (more bool)) (end bool, err error) {
	buf := make([]byte, block)
	for {
		s, err := r.read(f, buf)
		switch {
		case len(s.Lines) > 0:
			f.facts.steps.pass(step{r.off, r.number, r.run})
			if !each(s) {
				return false, nil
			}
		case err == nil:
		case err == io.EOF:
			return f.current == nil, nil
		case errors.Is(err, fs.ErrClosed) || errors.Is(err, fs.ErrNotExist):
			r.leave()
			now, ok, closed := r.d.view.find(f.first, f.id-1)
			if closed != nil {
				return false, closed
			}
			if !ok || now.id != f.id || errors.Is(err, fs.ErrNotExist) && now.name == f.name {
				return false, errGone
			}
			f = now
		default:
			f.facts.mistrust(err)
			r.d.passOver(f.name, err)
			return errors.Is(err, errDamaged), nil
		}
	}
}
