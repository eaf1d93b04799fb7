package rotate

import (
	"errors"
	"io/fs"
)

// Whoever can write into a logdir can put there what leads elsewhere. A symbolic
// link is never followed; a FIFO, a device or a directory is never opened; and a
// file that has a name somewhere else too is never written, cut or chmodded.

var (
	errNotRegular = errors.New("not a regular file")
	errShared     = errors.New("it has another name elsewhere, a hard link")
)

// elsewhere says whether a file with so many names in the logdir has more.
func (i Info) elsewhere(here uint64) bool { return i.Links > here }

// checkLock refuses a lock file that is not only that: its content is replaced.
func (d *Logdir) checkLock(f File) error {
	info, err := f.Stat()
	switch {
	case err != nil:
		return d.wrap("stat", lockName, err)
	case !info.Regular:
		return d.wrap("use", lockName, errNotRegular)
	case info.elsewhere(1):
		return d.wrap("use", lockName, errShared)
	}
	return nil
}

// checkNoLock refuses what must not even be opened in the place of a lock file.
func (d *Logdir) checkNoLock() error {
	info, err := d.dir.Stat(lockName)
	if err == nil && !info.Regular {
		return d.wrap("use", lockName, errNotRegular)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return d.wrap("stat", lockName, err)
	}
	return nil
}

// archiveForeignLocked makes an archive of a current that is somebody else's too,
// which changes nothing in it.
func (d *Logdir) archiveForeignLocked(f foundCurrent) error {
	d.opt.Log.Warn("current becomes an archive as it is", "err", d.wrap("write", currentName, errShared))
	h := d.newHead()
	if f.ours {
		h.first, h.run = f.header.First, f.header.Run
	}
	d.setCurrentLocked(f.file, h, f.whole)
	if f.clean {
		return d.rotateLocked(complete)
	}
	return d.rotateLocked(recovered)
}
