package rotate

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// Somebody may delete the directory under its owner, or current in it, or have
// another directory at the path: he has taken a dead disk off and mounted it
// again. What is written to a deleted file nobody sees. So it is looked before
// each fsync whether current still has a name, and after each error whether the
// path still leads to the directory. If not, the directory is opened again, made
// again if it was deleted, and brought into order as by Open; then the log goes
// on there.
//
// A directory that was moved away while it takes writes is written on: who
// moves it wants what is in it. A symbolic link in its place is not followed.
// Both are said.

// look is for the syncer. It does not wait for an Append that the disk holds up,
// but to restore what is gone.
func (d *Logdir) look() {
	v := &d.view
	v.mu.Lock()
	cur, seen := v.cur, extent{v.size, v.next}
	v.mu.Unlock()
	if cur == nil {
		return
	}
	gone, here := cur.Gone(), d.dir.Here()
	if gone {
		d.mu.Lock()
	} else if !d.mu.TryLock() {
		return // next time
	}
	defer d.mu.Unlock()
	switch {
	case d.closed || d.cur != cur:
	case gone:
		if err := d.restoreLocked(); err != nil {
			d.sayLocked("the logdir was deleted and cannot be made again", err)
		}
	case here != nil:
		d.named = seen
		d.sayLocked("the logdir is not at its path any more; its lines go to where it is now", here)
	default:
		d.named, d.astray = seen, false
	}
}

// sayLocked warns once until all is well again.
func (d *Logdir) sayLocked(what string, err error) {
	if !d.astray {
		d.astray = true
		d.opt.Log.Warn(what, "dir", d.opt.Dir, "err", err)
	}
}

// strayedLocked says whether what has been written, or is to be, cannot be
// found by its name.
func (d *Logdir) strayedLocked() bool {
	return d.cur != nil && d.cur.Gone() || d.dir.Here() != nil
}

// restoreLocked opens the logdir again at its path, with all lines that current
// has got since it was seen there last. Nothing has changed after an error.
func (d *Logdir) restoreLocked() error {
	gone := d.cur != nil && d.cur.Gone()
	if err := d.dir.Here(); errors.Is(err, errLink) || !gone && errors.Is(err, fs.ErrNotExist) {
		// One that nobody has deleted is not made: its disk may come back.
		return fmt.Errorf("cannot open logdir %q again: %w", d.opt.Dir, err)
	}
	dir, err := d.opt.FS.OpenDir(d.opt.Dir)
	if err != nil {
		return fmt.Errorf("cannot open logdir %q again: %w", d.opt.Dir, err)
	}
	n := &Logdir{opt: d.opt, dir: newPlace(dir), ids: d.ids, label: d.label, heir: &inheritance{from: d, gone: gone}}
	n.opt.Compress = None // the packer comes later
	n.syncer = newSyncer(n.dir, n.opt, n)
	n.syncer.stop() // that of d fsyncs what there is
	if err := n.takeOver(); err != nil {
		if n.lock == d.lock {
			n.lock = nil
		}
		n.release()
		return err
	}
	d.becomeLocked(n, dir)
	d.opt.Log.Warn("the logdir was gone and is there again", "dir", d.opt.Dir, "from", n.heir.first, "lines", n.next-n.heir.first)
	return nil
}

// takeOver brings a directory into order and the inherited lines into it.
func (d *Logdir) takeOver() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.heir.from
	if mine, err := d.sharesLock(old); err != nil {
		return err
	} else if mine {
		d.lock = old.lock
	} else if err := d.takeLock(); err != nil {
		return err
	}
	inodes, err := d.listLocked()
	if err != nil {
		return err
	}
	f, err := d.findCurrent(inodes)
	if err == nil {
		err = d.recoverLocked(f)
	}
	if err != nil {
		if f.file != nil && f.file != d.cur {
			f.file.Close()
		}
		return err
	}
	h := d.heir
	if err := d.putLocked(h.lines, false, h.run); err != nil {
		return err
	}
	d.last = max(d.last, old.last)
	return nil
}

// sharesLock says whether the lock in the directory is that of old.
func (d *Logdir) sharesLock(old *Logdir) (bool, error) {
	info, err := d.dir.Stat(lockName)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, d.wrap("stat", lockName, err)
	}
	have, err := old.lock.Stat()
	return err == nil && have.sameFile(info), nil
}

// inheritance is what a Logdir opened again gets of its former self.
type inheritance struct {
	from  *Logdir // its lock is held
	gone  bool    // its current was deleted, and that is obeyed
	first uint64  // number of the first of lines
	run   uint64  // in force there
	lines []byte
}

// inheritLocked finds the lines that the former self has reported written and
// the files do not have, and goes on with the number of the first of them.
func (d *Logdir) inheritLocked() error {
	h := d.heir
	if h == nil {
		return nil
	}
	old := h.from
	if d.next > old.next {
		return fmt.Errorf("cannot open logdir %q again: it has number %d, after %d: %w", d.opt.Dir, d.next-1, old.next-1, ErrNumbers)
	}
	h.first = max(d.next, old.head.first)
	if h.gone {
		h.first = max(h.first, old.named.next)
	}
	var err error
	if h.run, h.lines, err = old.sinceLocked(h.first); err != nil && !unreadable(err) {
		return err
	}
	if err != nil {
		d.opt.Log.Warn("lines are gone with the logdir", "dir", d.opt.Dir, "count", old.next-h.first, "err", err)
		h.first = old.next
	}
	d.next, d.run, d.last = h.first, h.run, cmp.Or(d.last, old.last)
	return nil
}

// sinceLocked returns the lines from a number on and the run in force there: as
// current has them, or whoever else. After an error the run is the last known.
func (d *Logdir) sinceLocked(first uint64) (run uint64, lines []byte, err error) {
	run = max(d.run, d.head.run)
	if first == d.next {
		if now, err := d.runLocked(); err == nil {
			run = now
		}
		return run, nil, nil
	}
	c, rest, err := d.restLocked(first)
	if err == nil {
		return c.run, rest, nil
	}
	if d.opt.Again != nil {
		c = counter{next: first}
		if lines, ok := d.opt.Again(first, d.next); ok && c.whole(lines, d.next) {
			return run, lines, nil
		}
	}
	return run, nil, err
}

// restLocked returns the lines of current from a number on, and what counts up
// to there.
func (d *Logdir) restLocked(first uint64) (c counter, rest []byte, err error) {
	if d.cur == nil {
		return c, nil, errPages
	}
	r := bufio.NewReaderSize(io.NewSectionReader(d.cur, 0, d.size), block)
	c = counter{next: d.head.first, run: d.head.run}
	off, err := skipLine(r) // the header
	for n := int64(0); err == nil && c.next < first; off += n {
		n, err = c.one(r)
	}
	if err != nil {
		return c, nil, short(err)
	}
	rest = make([]byte, d.size-off)
	if _, err := d.cur.ReadAt(rest, off); err != nil {
		return c, nil, short(err)
	}
	if all := (counter{next: c.next}); c.next != first || !all.whole(rest, d.next) {
		return c, nil, errPages
	}
	return c, rest, nil
}

// becomeLocked has d go on as n, whose directory is dir.
func (d *Logdir) becomeLocked(n *Logdir, dir Dir) {
	old, fresh := d.cur, d.rot.fresh
	d.dir.(*place).move(dir)
	if d.lock != n.lock {
		d.lock.Close()
		d.lock = n.lock
	}
	d.cur, d.head, d.size, d.torn, d.records = n.cur, n.head, n.size, n.torn, n.records
	d.top = n.top
	d.next, d.last, d.run, d.runFrom = n.next, n.last, n.run, n.runFrom
	d.rot, d.label, d.archives, d.archived, d.ids = n.rot, n.label, n.archives, n.archived, n.ids
	d.named, d.astray = extent{d.size, d.next}, false
	d.publishLocked() // before the old descriptor is closed
	d.syncer.moved(d.cur, d.size, n.syncer.finished)
	for _, f := range []File{old, fresh} {
		if f != nil {
			f.Close()
		}
	}
	d.packLocked()
}
