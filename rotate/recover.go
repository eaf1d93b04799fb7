package rotate

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"logfs/ring/record"
)

// Open takes possession of the logdir o.Dir, which it makes if missing, and
// brings it into order:
//
//	current is                          it becomes
//	missing, or empty                   a new current
//	closed cleanly, of this service     continued
//	not closed cleanly                  cut to whole lines, archived as .u
//	only a header                       cut to it, continued
//	also an archive (torn rotation)     that archive
//	clean, with lines of others         archived, untouched
//	not begun with a header of ours     archived as .u, untouched
//	also a file elsewhere (hard link)   archived, untouched
//	not a regular file                  an error
//
// It returns ErrLocked if the logdir has an owner. On a full disk it succeeds
// without a new current, which the first Append with room makes.
func Open(o Options) (*Logdir, error) {
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return nil, err
	}
	dir, err := o.FS.OpenDir(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("cannot open logdir %q: %w", o.Dir, err)
	}
	d := &Logdir{opt: o, dir: newPlace(dir), packer: packer{quit: make(chan struct{})}}
	d.syncer = newSyncer(d.dir, o, d)
	if err := d.open(); err != nil {
		d.syncer.stop()
		d.release()
		return nil, err
	}
	return d, nil
}

func (o Options) check() error {
	if o.Period < None || o.Period > Daily {
		return fmt.Errorf("cannot rotate by period %d: want None, Hourly or Daily", o.Period)
	}
	if o.Compress < None || o.Compress > Zstd {
		return fmt.Errorf("cannot compress by method %d: want None, Gzip or Zstd", o.Compress)
	}
	return checkService(o.Service)
}

// checkService refuses a name that a header cannot carry.
func checkService(name string) error {
	h, ok := record.ParseHeader(record.AppendHeader(nil, record.Header{Service: name, First: 1}))
	if !ok || h.Service != name {
		return fmt.Errorf("cannot name service %q: want a name without blanks", name)
	}
	return nil
}

func (d *Logdir) open() error {
	if err := d.takeLock(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	inodes, err := d.listLocked()
	if err != nil {
		return err
	}
	f, err := d.findCurrent(inodes)
	if err == nil {
		if f.archive == "" {
			d.beganLocked(f.header)
		}
		err = d.recoverLocked(f)
	}
	if d.rot.state != idle && isFull(err) {
		d.opt.Log.Warn("rotation delayed", "err", err)
		err = nil
	}
	if err != nil {
		if f.file != nil && f.file != d.cur {
			f.file.Close()
		}
		return err
	}
	d.found.Next, d.found.Run, d.found.Last = d.next, d.run, d.last
	d.noteBoot() // not before: should Open fail, the next one says the same
	d.publishLocked()
	d.syncer.begin(d.cur)
	d.sayForeignLocked()
	d.trimLocked()
	d.packLocked()
	return nil
}

func isFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// contents is what counting through a file yields.
type contents struct {
	counter
	header record.Header
	ours   bool  // it begins with a header
	whole  int64 // bytes up to the end of the last whole line
	torn   int64 // bytes after that
}

// count reads a file of the given size. Without a header the numbers of its
// lines are counted from 0, and only if there are lines of our form: those of
// other loggers have none.
func count(f io.ReaderAt, size int64) (c contents, err error) {
	var start int64
	if c.header, start, err = readHeader(f); err != nil {
		return c, err
	}
	if c.ours = start > 0; c.ours {
		c.next, c.run = c.header.First, c.header.Run
	}
	c.whole, err = c.file(f, start, size)
	c.torn = size - c.whole
	if !c.ours && c.valid == 0 {
		c.counter = counter{}
	}
	return c, err
}

// readHeader returns the header of a file and its length, 0 without one.
func readHeader(f io.ReaderAt) (h record.Header, length int64, err error) {
	var buf [512]byte
	n, err := f.ReadAt(buf[:], 0)
	if err != nil && err != io.EOF {
		return h, 0, err
	}
	end := slices.Index(buf[:n], '\n') + 1
	h, ok := record.ParseHeader(buf[:end])
	if !ok {
		return h, 0, nil
	}
	return h, int64(end), nil
}

// foundCurrent is the current that Open finds. file is nil if there is none.
type foundCurrent struct {
	contents
	file    File
	size    int64
	clean   bool
	archive string // its name as an archive, if it has one already
	foreign bool   // it has names outside of the logdir
}

func (d *Logdir) findCurrent(archives map[string]Info) (f foundCurrent, err error) {
	info, err := d.dir.Stat(currentName)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return f, d.wrap("stat", currentName, err)
	}
	if !info.Regular {
		return f, d.wrap("use", currentName, errNotRegular)
	}
	if f.file, err = d.dir.Open(currentName, os.O_RDWR|os.O_APPEND, 0); err != nil {
		return f, d.wrap("open", currentName, err)
	}
	if f.contents, err = count(f.file, info.Size); err != nil {
		return f, d.wrap("read", currentName, err)
	}
	f.size, f.clean = info.Size, info.Mode&cleanBit != 0 && f.torn == 0
	names := uint64(1)
	for name, a := range archives {
		if a.sameFile(info) {
			f.archive, f.clean = name, false
			names++
		}
	}
	f.foreign = info.elsewhere(names)
	return f, nil
}

// recoverLocked leaves the logdir with a current to append to.
func (d *Logdir) recoverLocked(f foundCurrent) error {
	d.found.New = f.file == nil && len(d.archives) == 0
	d.found.Clean = f.clean || d.found.New
	d.found.Down = !d.found.Clean && !d.sameBoot()
	if !d.found.Clean {
		if err := d.repairArchivesLocked(f.archive); err != nil {
			return err
		}
	}
	if err := d.numberLocked(f); err != nil {
		return err
	}
	if err := d.inheritLocked(); err != nil {
		return err
	}
	if !d.found.Clean {
		if err := d.missingLocked(f); err != nil {
			return err
		}
	}
	switch {
	case f.archive != "" || f.file != nil && f.size == 0:
		f.file.Close()
		return d.rotateLocked(recovered)
	case f.file == nil:
		return d.rotateLocked(recovered)
	case f.foreign:
		return d.archiveForeignLocked(f)
	case !f.ours:
		d.setCurrentLocked(f.file, d.newHead(), f.size)
		return d.rotateLocked(recovered)
	}
	return d.recoverOurs(f)
}

// recoverOurs cuts the torn line off a current of ours. It is continued if it
// was closed cleanly or has no records, unless its header misleads: it names
// another service, or a number that was used before. Nor is it continued when
// another logger has: ours and theirs do not take turns in one file.
func (d *Logdir) recoverOurs(f foundCurrent) error {
	h := d.newHead()
	h.first, h.run = f.header.First, f.header.Run
	d.setCurrentLocked(f.file, h, f.whole)
	d.top = f.top
	d.records = f.seen > 0
	d.torn = f.torn > 0
	d.found.Cut += f.torn
	if err := d.cutLocked(); err != nil {
		return err
	}
	right := f.header.Service == d.opt.Service && f.next == d.next
	switch {
	case right && (f.clean && f.valid == f.seen || !d.records):
		return d.markInUse()
	case f.clean:
		return d.rotateLocked(complete)
	}
	return d.rotateLocked(recovered)
}

// markInUse takes the mark of a clean end off current, before anything is
// written to it.
func (d *Logdir) markInUse() error {
	if err := d.cur.Chmod(fileMode); err != nil {
		return d.wrap("mark as in use", currentName, err)
	}
	return nil
}

// numberLocked finds the next number, the run and the last stamp. A clean
// current with records knows them all. Otherwise the archives are asked too:
// a number is not used again, even if the header of current is damaged.
func (d *Logdir) numberLocked(f foundCurrent) error {
	if f.archive != "" {
		f.contents = contents{} // found among the archives
	}
	d.next, d.run, d.last = f.next, f.run, f.last
	if f.clean && f.ours && f.seen > 0 {
		return nil
	}
	c, err := d.countArchivesLocked()
	if err != nil {
		return err
	}
	d.last = cmp.Or(d.last, c.last)
	if f.ours {
		d.next = max(d.next, c.next)
		return nil
	}
	d.next += c.next
	d.run = cmp.Or(d.run, c.run)
	return nil
}

// missingLocked compares where archives end with where the file after them
// begins.
func (d *Logdir) missingLocked(f foundCurrent) error {
	until, look := uint64(0), 2
	if f.archive == "" {
		until = f.header.First
	}
	for i, a := range slices.Backward(d.archives) {
		if a.size == 0 {
			look++ // what is missing is missing after the archive before it
		}
		if a.first == 0 {
			continue
		}
		if a.next == 0 && look > 0 {
			c, err := d.countArchive(a)
			if err := d.unlessUnreadable("read", a.name, err); err != nil {
				return err
			}
			if err == nil {
				a.next = c.next
			}
			look--
		}
		if a.next > 0 && a.next < until {
			d.found.Missing += until - a.next
		}
		d.archives[i].next, until = a.next, a.first
	}
	if n := d.found.Missing; n > 0 {
		d.opt.Log.Warn("lines lost to power failure", "dir", d.opt.Dir, "count", n)
	}
	return nil
}

// countArchivesLocked counts from the newest archive that has a header. The
// lines of damaged files after it took numbers, too; one that cannot be read
// took as many as it can have lines.
func (d *Logdir) countArchivesLocked() (sum counter, err error) {
	for _, a := range slices.Backward(d.archives) {
		c, err := d.countArchive(a)
		if err != nil {
			if err := d.unlessUnreadable("read", a.name, err); err != nil {
				return sum, err
			}
			c.next += uint64(a.size / (record.StampLen + int64(len(" o \n"))))
		}
		sum.next += c.next
		sum.run = cmp.Or(sum.run, c.run)
		sum.last = cmp.Or(sum.last, c.last)
		if c.ours {
			return sum, nil
		}
	}
	sum.next++
	return sum, nil
}

func (d *Logdir) countArchive(a archive) (contents, error) {
	f, err := d.dir.Open(a.name, os.O_RDONLY, 0)
	if err != nil {
		return contents{}, err
	}
	defer f.Close()
	if form := compressionOf(a.name); form != None {
		return countPacked(f, a.size, form)
	}
	return count(f, a.size)
}

// repairArchivesLocked does for the archives what Open does for current: what
// the last owner had not fsynced, power loss may have torn, or may yet. One of
// them may be current, too.
func (d *Logdir) repairArchivesLocked(current string) error {
	for i := range d.archives {
		a := &d.archives[i]
		if compressionOf(a.name) != None {
			continue // fsynced before it got its name
		}
		size := a.size
		if err := d.repairArchive(a, a.name == current); err != nil {
			return err
		}
		d.archived += a.size - size
		d.found.Cut += size - a.size
		d.syncer.recovered(a.name)
	}
	return nil
}

// repairArchive cuts a torn line off an archive of ours, which is then no
// longer called complete. A crash between the two leaves a whole archive with
// the better name.
func (d *Logdir) repairArchive(a *archive, isCurrent bool) error {
	f, err := d.dir.Open(a.name, os.O_RDWR, 0)
	if err != nil {
		return d.unlessUnreadable("open", a.name, err)
	}
	defer f.Close()
	if a.size == 0 || endsWhole(f, a.size) {
		return nil
	}
	c, err := count(f, a.size)
	if err != nil {
		return d.unlessUnreadable("read", a.name, err)
	}
	if !c.ours {
		return nil
	}
	names := uint64(1)
	if isCurrent {
		names++
	}
	if info, err := f.Stat(); err != nil || info.elsewhere(names) {
		return d.unlessUnreadable("write", a.name, cmp.Or(err, errShared))
	}
	if err := f.Truncate(c.whole); err != nil {
		return d.wrap("cut torn line off", a.name, err)
	}
	a.size, a.next = c.whole, c.next
	return d.renameRecovered(a)
}

// renameRecovered gives an archive the suffix .u. Should there be a file of
// that name, the archive keeps its own.
func (d *Logdir) renameRecovered(a *archive) error {
	label, _, _ := parseArchive(a.name)
	name := archiveName(label, recovered)
	if _, err := d.dir.Stat(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := d.dir.Rename(a.name, name); err != nil {
		return d.wrap("rename to "+name, a.name, err)
	}
	a.name = name
	return nil
}

func endsWhole(f io.ReaderAt, size int64) bool {
	var last [1]byte
	_, err := f.ReadAt(last[:], size-1)
	return err == nil && last[0] == '\n'
}
