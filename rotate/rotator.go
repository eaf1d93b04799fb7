package rotate

import (
	"errors"
	"io/fs"
	"os"

	"logfs/ring/record"
)

// Rotation is a state machine. Each state does one small thing. A failure is
// returned, the rotation stays in its state, and the next Append, Rotate or
// Close resumes there; nothing is written to current meanwhile. The directory
// has a current at every moment, so those who follow it by name never miss it.
//
// No state waits for the disk: fsyncs follow in the background, the old
// current first, then the names. Until they are done, power loss can undo any
// of the steps on its own. In every case the files that are left hold whole
// lines in the order of their names, and headers tell which numbers are gone.
type rotation struct {
	state  state
	suffix string // of the archive that current becomes
	fresh  File   // the new current, from link on
	head   head   // of fresh
	size   int64  // of fresh
	name   string // of the archive, from replace on; "" if there is none
}

type state int

const (
	// idle: no rotation. A crash leaves current, perhaps with a torn last
	// line; Open cuts it and makes current a recovered archive.
	idle state = iota

	// prepare makes the new current under another name, so that a full disk
	// shows before anything is changed. A crash here leaves current and
	// perhaps a file of that name, which Open removes: it has no record.
	prepare

	// link gives current its archive name. A crash before leaves what prepare
	// leaves. A crash after leaves one file under two names: Open knows it by
	// its inode, and the archive is whole, because nothing has been written
	// since. If power loss tears it, Open cuts it like a current.
	link

	// replace renames the new current over the old. A crash before leaves what
	// link leaves, a crash after the finished archive and a current with
	// nothing but its header. Power loss may leave that current empty, and may
	// undo the name of the archive but not of current; then the lines that
	// were not fsynced are lost with it, as they would be without a rotation.
	replace

	// trim deletes the archives over the limits. A crash leaves some of them to
	// the next rotation.
	trim
)

// freshName is the name of the new current until it replaces the old one. The
// dot keeps it from programs that pick up whatever appears in a directory.
const freshName = ".current.new"

// rotateLocked makes current an archive with the given suffix and begins a
// new one. Without a current it only begins one.
func (d *Logdir) rotateLocked(suffix string) error {
	if d.rot.state == idle {
		d.rot = rotation{state: prepare, suffix: suffix}
	}
	for d.rot.state != idle {
		if err := d.stepLocked(); err != nil {
			return err
		}
	}
	return nil
}

func (d *Logdir) stepLocked() error {
	switch d.rot.state {
	case prepare:
		return d.prepareLocked()
	case link:
		return d.linkLocked()
	case replace:
		return d.replaceLocked()
	case trim:
		d.trimLocked()
		d.rot = rotation{}
		d.packLocked()
	}
	return nil
}

func (d *Logdir) prepareLocked() error {
	run, err := d.runLocked()
	if err != nil {
		return err
	}
	f, err := d.create(freshName)
	if err != nil {
		return d.wrap("create", freshName, err)
	}
	h := record.Header{Stamp: d.last, Service: d.opt.Service, Run: run, First: d.next}
	if h.Stamp == 0 {
		h.Stamp = d.opt.Now()
	}
	if d.top > h.Stamp {
		h.Top = d.top
	}
	n, err := f.Write(record.AppendHeader(nil, h))
	if err != nil {
		f.Close()
		return d.wrap("write", freshName, err)
	}
	d.rot.head = d.newHead()
	d.rot.head.first, d.rot.head.run, d.rot.head.stamp, d.rot.head.before = h.First, h.Run, h.Stamp, h.Top
	d.rot.fresh, d.rot.size, d.rot.state = f, int64(n), link
	return nil
}

// create makes a file under a temporary name. What an earlier attempt has left
// of it goes; it is never opened, because it need not be our file.
func (d *Logdir) create(name string) (File, error) {
	const flags = os.O_RDWR | os.O_APPEND | os.O_CREATE | os.O_EXCL
	f, err := d.dir.Open(name, flags, fileMode)
	if errors.Is(err, fs.ErrExist) {
		if err := d.dir.Remove(name); err != nil {
			return nil, err
		}
		f, err = d.dir.Open(name, flags, fileMode)
	}
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(fileMode); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// linkLocked never overwrites: a name that is taken, by whomever, makes the
// label later. A current that somebody has deleted cannot be given a name any
// more: that is an error, and the logdir is restored.
func (d *Logdir) linkLocked() error {
	if d.cur == nil {
		d.rot.state = replace
		return nil
	}
	for {
		label := d.nextLabelLocked()
		name := archiveName(label, d.rot.suffix)
		err := d.dir.Link(currentName, name)
		switch {
		case err == nil:
			d.label, d.rot.name = label, name
		case errors.Is(err, fs.ErrExist):
			d.label = label
			continue
		default:
			return d.wrap("link to "+name, currentName, err)
		}
		d.rot.state = replace
		return nil
	}
}

func (d *Logdir) replaceLocked() error {
	if err := d.dir.Rename(freshName, currentName); err != nil {
		return d.wrap("replace", currentName, err)
	}
	old, rot := d.cur, d.rot
	if rot.name != "" {
		a := archive{head: d.head, name: rot.name, label: d.label, last: d.last, top: d.top, next: d.next, size: d.size}
		if a.first == 0 {
			a.last = a.label
		}
		d.addArchiveLocked(a)
	}
	d.setCurrentLocked(rot.fresh, rot.head, rot.size)
	d.rot.fresh, d.rot.state = nil, trim
	d.publishLocked() // before the old descriptor can be closed
	d.syncer.replaced(rot.name, old, rot.fresh, rot.size)
	return nil
}

// setCurrentLocked makes f, with size bytes of whole lines, current. d.run is
// in force at its end.
func (d *Logdir) setCurrentLocked(f File, h head, size int64) {
	d.cur, d.head, d.size, d.torn, d.records = f, h, size, false, false
	d.top = 0
	d.runFrom = size
	d.named = extent{size, d.next}
}

// newHead returns the head of a file newer than all others.
func (d *Logdir) newHead() head {
	d.ids++
	return head{id: d.ids, facts: &facts{}}
}
