package rotate

import (
	"errors"
	"io/fs"

	"logfs/ring/record"
)

// archive is a file no longer written.
type archive struct {
	head
	name  string
	label record.Stamp
	size  int64
	stuck bool // it could not be deleted, and a warning is out
}

func (d *Logdir) addArchiveLocked(a archive) {
	d.archives = append(d.archives, a)
	d.archived += a.size
}

// trimLocked deletes the oldest archives until Keep are left. One that cannot
// be deleted stays in the list, to be tried at every rotation, and does not
// keep the log from going on or other archives from being deleted.
func (d *Logdir) trimLocked() {
	excess := max(len(d.archives)-d.opt.Keep, 0)
	kept := d.archives[:0]
	for i, a := range d.archives {
		if i < excess && d.removeLocked(&a) {
			d.archived -= a.size
			continue
		}
		kept = append(kept, a)
	}
	d.archives = kept
	if excess > 0 {
		d.publishLocked()
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
