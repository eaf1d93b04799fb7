package fs

import (
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"logfs/ring/record"
)

// runAttr fills in what ls -l says of a run: when its last line was said, and
// the size of its current.
func (r *raw) runAttr(by caller, d directory, a *fuse.Attr) fuse.Status {
	if d.ranged {
		return fuse.OK
	}
	return r.s.ask(by, func() error {
		size, last, err := d.e.runFacts(&d.place)
		if err == nil {
			setSize(a, size)
			setTime(a, last)
		}
		return err
	})
}

// A runKey finds what was found out about a run.
type runKey struct {
	v   *view
	run uint64
}

// A knownRun is what was found out about a run: its follow, which nobody reads.
type knownRun struct {
	Run
	n    *node
	last time.Time // when its last line was said, once it has ended
}

// knownRuns remembers what ls asks for again and again.
type knownRuns struct {
	mu sync.Mutex // guards m; held for no call
	m  map[runKey]knownRun
}

const maxKnownRuns = 4096

func (e *Entry) runFacts(p *place) (size int64, last time.Time, err error) {
	over := e.Ring.Run() > p.run
	r, ok, err := e.findRun(p.run)
	if err != nil || !ok {
		return 0, last, noneOr(err)
	}
	v := e.view(p.streams, follow)
	k, ok := e.runs.find(runKey{v, p.run})
	if !ok || k.First != r.First || over && (k.Last != r.Last || k.last.IsZero()) {
		if k, err = e.learnRun(p, v, r, over); err != nil {
			return 0, last, err
		}
		e.runs.put(runKey{v, p.run}, k)
	}
	if !over {
		k.last = e.changed()
	}
	return k.n.size(), k.last, nil
}

func (e *Entry) learnRun(p *place, v *view, r Run, over bool) (knownRun, error) {
	k := knownRun{Run: r, n: &node{kind: follow, e: e, v: v, span: &span{run: r.Run}}}
	if err := k.n.settleSpan(&p.selection, time.Now()); err != nil {
		return k, err
	}
	if over {
		k.last = e.stampAt(r.Last)
	}
	return k, nil
}

// stampAt is when the record with the number seq was said.
func (e *Entry) stampAt(seq uint64) time.Time {
	v := e.view(selAll, current)
	if p, c, ok := v.seekNext(seq); ok && c != nil {
		defer c.Release()
		return time.Unix(0, int64(stampOf(c.Data[p.Off:])))
	}
	if e.History == nil {
		return e.Born
	}
	if t, ok := record.ParseStamp(lineAt(e.History, seq)); ok {
		return time.Unix(0, int64(t))
	}
	return e.Born
}

func (k *knownRuns) find(key runKey) (r knownRun, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r, ok = k.m[key]
	return r, ok
}

func (k *knownRuns) put(key runKey, r knownRun) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.m == nil || len(k.m) >= maxKnownRuns {
		k.m = map[runKey]knownRun{}
	}
	k.m[key] = r
}
