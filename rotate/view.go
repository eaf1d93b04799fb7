package rotate

import (
	"math"
	"sort"
	"sync"

	"logfs/ring/record"
)

// head is what the header of a file says, and which file of this Logdir it
// is: ids grow from the oldest file to the newest and stay when current
// becomes an archive or an archive is compressed.
type head struct {
	id    uint64
	first uint64       // 0 without a header of ours
	run   uint64       // in force at first
	stamp record.Stamp // 0 if the header was not written by this Logdir

	before record.Stamp // Top of the header that this Logdir has written
	facts  *facts       // goes wherever the file does
}

// view is what readers know of the files. Its lock is held for no call to the
// file system, so a reader never waits for a disk that keeps Append waiting.
type view struct {
	mu     sync.Mutex // guards what follows
	closed bool
	files  []archive // with a header of ours, oldest first, first growing
	cur    File      // nil without current
	head   head      // of cur
	size   int64     // of the whole lines of cur
	top    record.Stamp
	next   uint64
	said   map[string]bool // files that a warning is out for
}

// publishLocked tells readers of another set of files.
func (d *Logdir) publishLocked() {
	// A file whose numbers a newer one has too is damaged and passed over.
	limit := uint64(math.MaxUint64)
	if d.cur != nil && d.head.first > 0 {
		limit = d.head.first
	}
	files := make([]archive, len(d.archives))
	n := len(files)
	for i := len(d.archives) - 1; i >= 0; i-- {
		if a := d.archives[i]; a.first > 0 && a.first < limit {
			n--
			files[n], limit = a, a.first
		}
	}
	v := &d.view
	v.mu.Lock()
	defer v.mu.Unlock()
	v.files = files[n:]
	v.cur, v.head, v.size, v.top, v.next = d.cur, d.head, d.size, d.top, d.next
}

// grewLocked tells readers of more lines in current.
func (d *Logdir) grewLocked() {
	v := &d.view
	v.mu.Lock()
	defer v.mu.Unlock()
	v.size, v.top, v.next = d.size, d.top, d.next
}

func (v *view) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.closed = true
}

// found is the file that a reader goes on with.
type found struct {
	archive
	current File   // it is current, of which size bytes may be read; else nil
	until   uint64 // the first number of the file after it
}

// find returns the file that has the given number or the one after it, but
// one newer than the file past. ok is false if there is none yet.
func (v *view) find(number, past uint64) (f found, ok bool, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return f, false, ErrClosed
	}
	hasCurrent := v.cur != nil && v.head.first > 0
	i := sort.Search(len(v.files), func(i int) bool { return v.files[i].first > number }) - 1
	if hasCurrent && v.head.first <= number {
		i = len(v.files)
	}
	for i = max(i, 0); i < len(v.files) && v.files[i].id <= past; {
		i++
	}
	f.until = math.MaxUint64
	if i < len(v.files) {
		f.archive = v.files[i]
		if i+1 < len(v.files) {
			f.until = v.files[i+1].first
		} else if hasCurrent {
			f.until = v.head.first
		}
		return f, true, nil
	}
	if !hasCurrent || v.head.id <= past {
		return f, false, nil
	}
	return v.currentLocked(), true, nil
}

func (v *view) currentLocked() found {
	a := archive{head: v.head, name: currentName, size: v.size, top: v.top}
	return found{archive: a, current: v.cur, until: math.MaxUint64}
}

// list returns the files that readers read, oldest first.
func (v *view) list() ([]found, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil, ErrClosed
	}
	all := make([]found, 0, len(v.files)+1)
	for _, a := range v.files {
		all = append(all, found{archive: a, until: math.MaxUint64})
	}
	if v.cur != nil && v.head.first > 0 {
		all = append(all, v.currentLocked())
	}
	for i := range len(all) - 1 {
		all[i].until = all[i+1].first
	}
	return all, nil
}

// all returns all files there are, current with its size.
func (v *view) all() (cur File, size int64, archives []archive, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil, 0, nil, ErrClosed
	}
	return v.cur, v.size, v.files, nil
}

// firstTime says whether name has not been warned of yet.
func (v *view) firstTime(name string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.said[name] {
		return false
	}
	if v.said == nil {
		v.said = map[string]bool{}
	}
	v.said[name] = true
	return true
}

// passOver warns once of a file that is left alone.
func (d *Logdir) passOver(name string, err error) {
	if d.view.firstTime(name) {
		d.opt.Log.Warn("file passed over", "err", d.wrap("read", name, err))
	}
}
