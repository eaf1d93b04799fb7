package rotate

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"logfs/ring/record"
)

// archive is a file no longer written.
type archive struct {
	head
	name  string
	label record.Stamp
	last  record.Stamp // of its last line, or later
	top   record.Stamp // the greatest of its lines, 0 if not known
	size  int64
	next  uint64 // number after it, 0 if not known
	stuck bool   // it could not be deleted, and a warning is out
	plain bool   // it cannot be compressed
}

func (d *Logdir) addArchiveLocked(a archive) {
	d.archives = append(d.archives, a)
	d.archived += a.size
}

// trimLocked deletes the oldest archives until the limits are kept. One that
// cannot be deleted stays in the list, to be tried at every rotation, and does
// not keep the log from going on or other archives from being deleted. The
// order is that of the labels, which is that of the lines whatever the clock
// did.
func (d *Logdir) trimLocked() {
	count, bytes := len(d.archives), d.archived
	expired := d.opt.Now() - record.Stamp(d.opt.Age)
	d.deleteLocked(func(a *archive) bool {
		over := count > d.opt.Keep || d.opt.Total > 0 && bytes > d.opt.Total ||
			d.opt.Age > 0 && a.last < expired
		if over {
			count--
			bytes -= a.size
		}
		return over
	})
}

// expireLocked deletes what has become too old since the last rotation, as
// far as the stamp of the last line tells.
func (d *Logdir) expireLocked() {
	if d.opt.Age == 0 || len(d.archives) == 0 {
		return
	}
	oldest := &d.archives[0]
	if !oldest.stuck && oldest.last < d.last-record.Stamp(d.opt.Age) {
		d.trimLocked()
	}
}

// deleteLocked asks which archives to delete, oldest first.
func (d *Logdir) deleteLocked(which func(a *archive) bool) {
	kept := d.archives[:0]
	for _, a := range d.archives {
		if which(&a) && d.removeLocked(&a) {
			d.archived -= a.size
			continue
		}
		kept = append(kept, a)
	}
	if len(kept) < len(d.archives) {
		clear(d.archives[len(kept):])
		d.archives = kept
		d.publishLocked()
	}
}

// giveUpLocked deletes the oldest archive to make room on a full disk.
func (d *Logdir) giveUpLocked() (name string, ok bool) {
	for i := range len(d.archives) - max(d.opt.Min, 0) {
		a := &d.archives[i]
		if name = a.name; d.removeLocked(a) {
			d.archived -= a.size
			d.archives = slices.Delete(d.archives, i, i+1)
			d.publishLocked()
			return name, true
		}
	}
	return "", false
}

// gaveUp tells of archives that were deleted to make room.
func (d *Logdir) gaveUp(names []string) {
	if len(names) == 0 {
		return
	}
	d.opt.Log.Warn("disk full, oldest archives given up", "dir", d.opt.Dir, "count", len(names), "names", names)
	if d.opt.Room != nil {
		d.opt.Room()
	}
}

// removeLocked deletes an archive. Whoever has it open keeps it until then.
func (d *Logdir) removeLocked(a *archive) bool {
	err := d.dir.Remove(a.name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		if !a.stuck {
			d.opt.Log.Warn("archive not deleted", "err", d.wrap("remove", a.name, err))
		}
		a.stuck = true
		return false
	}
	d.syncer.forget(a.name)
	return true
}

// Configure sets other limits and trims what is over them at once; sizes and
// periods hold for the next line. Dir and Service must be those of Open, or
// empty; FS, Now, Log and Again stay as they are.
func (d *Logdir) Configure(o Options) error {
	o.Dir, o.Service = cmp.Or(o.Dir, d.opt.Dir), cmp.Or(o.Service, d.opt.Service)
	if o.Dir != d.opt.Dir || o.Service != d.opt.Service {
		return fmt.Errorf("cannot configure %q: want the directory and service it was opened with", d.opt.Dir)
	}
	if err := o.check(); err != nil {
		return err
	}
	o = o.withDefaults()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return ErrClosed
	}
	p := &d.opt
	p.Size, p.Period, p.Zone = o.Size, o.Period, o.Zone
	p.Compress = o.Compress
	p.Keep, p.Total, p.Age, p.Min = o.Keep, o.Total, o.Age, o.Min
	p.Room = o.Room
	d.syncer.configure(o.Sync, o.SyncBytes)
	d.trimLocked()
	d.packLocked()
	return nil
}
