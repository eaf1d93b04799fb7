package rotate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"logfs/ring/record"
)

// listLocked finds the archives, and which file each is, and removes what an
// interrupted rotation or compression has left of a new file.
func (d *Logdir) listLocked() (map[string]Info, error) {
	names, err := d.dir.Names()
	if err != nil {
		return nil, fmt.Errorf("cannot list %q: %w", d.opt.Dir, err)
	}
	slices.Sort(names)
	infos := map[string]Info{}
	for _, name := range names {
		if name == freshName || name == packedName || name == rewriteName {
			if err := d.dir.Remove(name); err != nil {
				return nil, d.wrap("remove", name, err)
			}
		}
		info, err := d.listArchiveLocked(name)
		if err != nil {
			return nil, err
		}
		if info.Regular {
			infos[name] = info
		}
	}
	return infos, nil
}

// listArchiveLocked adds a file to the archives if it is one.
func (d *Logdir) listArchiveLocked(name string) (Info, error) {
	label, _, ok := parseArchive(name)
	if !ok {
		return Info{}, nil
	}
	d.label = max(d.label, label)
	info, err := d.dir.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return Info{}, nil
	}
	if err != nil {
		return info, d.wrap("stat", name, err)
	}
	if !info.Regular {
		d.passOver(name, errNotRegular)
		return info, nil
	}
	a := archive{name: name, label: label, last: label, size: info.Size, head: d.newHead()}
	if compressionOf(name) != None {
		if only, err := d.dropPlainLocked(a); err != nil || !only {
			return Info{}, err
		}
	}
	if err := d.readHead(&a); err != nil {
		return info, err
	}
	d.addArchiveLocked(a)
	return info, nil
}

// dropPlainLocked removes the plain archive beside a compressed one, as a
// crash can leave them, if the compressed one holds as much. Otherwise somebody
// else has made it; it is left alone and does not count.
func (d *Logdir) dropPlainLocked(a archive) (only bool, err error) {
	n := len(d.archives)
	if n == 0 || d.archives[n-1].name != strings.TrimSuffix(a.name, compressionOf(a.name).suffix()) {
		return true, nil
	}
	plain := d.archives[n-1]
	f, err := d.dir.Open(a.name, os.O_RDONLY, 0)
	if err != nil {
		return false, d.unlessUnreadable("open", a.name, err)
	}
	defer f.Close()
	c, err := countUnpacked(f, a.size, compressionOf(a.name))
	if err != nil {
		return false, d.unlessUnreadable("read", a.name, err)
	}
	if c.whole != plain.size || c.header.First != plain.first {
		d.passOver(a.name, errors.New("not what is in the plain archive"))
		return false, nil
	}
	if err := d.dir.Remove(plain.name); err != nil {
		return false, d.wrap("remove", plain.name, err)
	}
	d.archives = d.archives[:n-1]
	d.archived -= plain.size
	return true, nil
}

// readHead finds out which numbers an archive has, without reading more than
// its beginning.
func (d *Logdir) readHead(a *archive) error {
	f, err := d.dir.Open(a.name, os.O_RDONLY, 0)
	if err != nil {
		return d.unlessUnreadable("open", a.name, err)
	}
	defer f.Close()
	h, err := headOf(f, a)
	if err == nil {
		d.beganLocked(h)
		a.first, a.run = h.First, h.Run
	}
	return d.unlessUnreadable("read", a.name, err)
}

func headOf(f io.ReaderAt, a *archive) (h record.Header, err error) {
	form := compressionOf(a.name)
	if form == None {
		h, _, err = readHeader(f)
		return h, err
	}
	n, err := readNotes(f, form)
	if n.ok {
		a.last, a.next = n.last, n.next
	}
	if n.surveyed {
		a.facts.tell(n.survey)
	}
	if n.ok || err != nil {
		return n.header, err
	}
	u, err := newUnpacker(f, a.size, form)
	if err != nil {
		return h, err
	}
	defer u.close()
	var buf [512]byte
	read, err := io.ReadFull(u, buf[:])
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return h, err
	}
	h, _, err = readHeader(bytes.NewReader(buf[:read]))
	return h, err
}

// beganLocked learns from a header when the archive before it ended: at the
// stamp of the header, if both are ours, and what its greatest stamp is.
func (d *Logdir) beganLocked(h record.Header) {
	if n := len(d.archives); n > 0 && h.First > 0 && h.Stamp != 0 && d.archives[n-1].first > 0 {
		d.archives[n-1].last, d.archives[n-1].top = h.Stamp, max(h.Stamp, h.Top)
	}
}

// unlessUnreadable passes over an archive that cannot be read and does not
// keep the log from going on. What may be the state of the machine and not of
// the file stays an error: numbers must not be found without an archive that
// has them.
func (d *Logdir) unlessUnreadable(verb, name string, err error) error {
	switch {
	case err == nil:
		return nil
	case unreadable(err):
		d.passOver(name, err)
		return nil
	}
	return d.wrap(verb, name, err)
}

// unreadable says whether an error is one of the file, for good.
func unreadable(err error) bool {
	for _, e := range []error{errDamaged, errShared, unix.ENOENT, unix.EACCES, unix.EPERM, unix.EIO, unix.ELOOP, unix.ENXIO, unix.EUCLEAN, unix.EBADMSG} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// sayForeignLocked tells once which archives have no numbers: nobody reads them
// through the Logdir, and retention counts them like all others.
func (d *Logdir) sayForeignLocked() {
	var names []string
	for _, a := range d.archives {
		if a.first == 0 && d.view.firstTime(a.name) {
			names = append(names, a.name)
		}
	}
	if len(names) > 0 {
		d.opt.Log.Info("archives without a header of ours stay as they are", "dir", d.opt.Dir, "count", len(names), "names", names)
	}
}
