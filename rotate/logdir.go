package rotate

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"logfs/ring/record"
)

// Options say where a logdir is and how it is kept. Zero values mean the
// defaults.
type Options struct {
	Dir     string
	Service string

	// Size is what a file holds at most, its header included, unless a single
	// line is longer. 1 MiB.
	Size int64
	// Period is when time makes current an archive, in the hours and days of
	// Zone. None, and the zone of the machine.
	Period Period
	Zone   *time.Location

	// Retention deletes the oldest archives until there are at most Keep, with
	// at most Total bytes, and deletes those whose last line is older than Age.
	// Current does not count. It does so when a file is rotated, when a line
	// is written, at Open and Configure. Keep is 10; no limit on the others.
	Keep  int
	Total int64
	Age   time.Duration
	// Compress says how archives are compressed, in the background. None.
	Compress Compression
	// Min is how many archives are not given up when the disk is full: those
	// are the newest. 2; less than 0 is none.
	Min int
	// Room, if not nil, is called after archives have been given up. It must
	// not call the Logdir.
	Room func()
	// Again, if not nil, is asked for the stored lines first to next-1 when an
	// fsync has failed and they cannot be read back from the file. It may wait
	// for an Append, but must not call the Logdir.
	Again func(first, next uint64) (lines []byte, ok bool)

	// Sync and SyncBytes bound what power loss may cost: an fsync is begun
	// when the oldest byte not yet fsynced is that old, or when there are that
	// many. 1 s, 1 MiB.
	Sync      time.Duration
	SyncBytes int64

	// Boot is an id that is another each time the machine goes up: that of the
	// kernel.
	Boot string

	FS  FS                  // the file system of the machine
	Now func() record.Stamp // the clock of the machine
	Log *slog.Logger        // none
}

func (o Options) withDefaults() Options {
	o.Size = orDefault(o.Size, 1<<20)
	o.Keep = orDefault(o.Keep, 10)
	o.Sync = orDefault(o.Sync, time.Second)
	o.SyncBytes = orDefault(o.SyncBytes, 1<<20)
	o.Total, o.Age = max(o.Total, 0), max(o.Age, 0)
	if o.Min = max(o.Min, -1); o.Min == 0 {
		o.Min = 2
	}
	if o.Zone == nil {
		o.Zone = time.Local
	}
	if o.Boot == "" {
		o.Boot = bootID()
	}
	if o.FS == nil {
		o.FS = osFS{}
	}
	if o.Now == nil {
		o.Now = func() record.Stamp { return record.Stamp(time.Now().UnixNano()) }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

func orDefault[T int | int64 | time.Duration](v, fallback T) T {
	if v <= 0 {
		return fallback
	}
	return v
}

// State is what Open found.
type State struct {
	// Next is the number of the next record, 1 in a new logdir.
	Next uint64
	// Run is the run in force, 0 before the first.
	Run uint64
	// Last is the stamp of the newest record, 0 if there is none.
	Last record.Stamp
	// Clean says that the last owner closed the logdir, or that there was none.
	Clean bool
	// Down says of an unclean end that the machine went down with it, as far as
	// is known: lines that were not fsynced may be lost. Else all that was
	// written is there, if the disk is still the same.
	Down bool
	// New says that there was neither current nor an archive.
	New bool
	// Cut is how many bytes of torn lines were cut off.
	Cut int64
	// Missing is how many records power loss has taken out of archives, as far
	// as the numbers of the files after them tell. It is looked for after an
	// unclean end in the newest archives and those that were torn or empty.
	Missing uint64
}

// ErrClosed is returned by the methods of a closed Logdir.
var ErrClosed = errors.New("logdir is closed")

// ErrNumbers is in the error for lines that cannot be stored as they are
// numbered. Trying again cannot help.
var ErrNumbers = errors.New("numbers do not follow")

// A Logdir is one logdir, owned from Open to Close.
type Logdir struct {
	opt    Options
	dir    Dir
	lock   File
	syncer *syncer
	packer packer
	found  State

	closing sync.Mutex // held by Close; taken before mu
	mu      sync.Mutex // guards what follows; held during every change of the directory
	closed  bool

	cur     File // nil only while Open, or a rotation it left pending, has made none
	head    head
	size    int64 // of the header and the whole lines of cur
	torn    bool  // cur may have bytes beyond size
	records bool  // cur has more than its header
	next    uint64
	last    record.Stamp
	top     record.Stamp // the greatest in cur
	run     uint64       // in force at runFrom, an offset in cur; see runLocked
	runFrom int64

	named  extent       // of cur, when its name was last seen to lead to it
	astray bool         // a warning is out that it does not
	heir   *inheritance // nil but while a Logdir is restored

	rot      rotation
	label    record.Stamp // the newest ever in the directory
	archives []archive    // oldest first
	archived int64        // bytes in them
	ids      uint64       // the last id given to a file

	view view // of all this, for readers
}

const currentName = "current"

// State returns what Open found.
func (d *Logdir) State() State { return d.found }

// Append writes whole stored lines: the records first to next-1, the first of
// them in the given run. It rotates where a line would make current too big.
//
// written is the number after the last record that is wholly in the files,
// also when there is an error: what follows it is not there, not even in
// part, and the next Append begins with it. Lines that are given up instead
// are replaced by a lost mark that takes their numbers; first may then also
// be the number after the mark.
//
// Nothing is written of lines whose numbers do not follow.
func (d *Logdir) Append(lines []byte, first, next, run uint64) (written uint64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return d.next, ErrClosed
	}
	dense, err := d.checkLocked(lines, first, next)
	if err != nil {
		return d.next, err
	}
	err = d.putLocked(lines, dense, run)
	d.expireLocked()
	return d.next, err
}

// checkLocked refuses lines that would get other numbers when counted than
// the caller gave them. dense says that every line takes one number, so that
// counting newlines is enough; only a lost mark takes more.
func (d *Logdir) checkLocked(lines []byte, first, next uint64) (dense bool, err error) {
	if len(lines) > 0 && lines[len(lines)-1] != '\n' {
		return false, fmt.Errorf("cannot append to %q: last line has no end: %w", d.opt.Dir, ErrNumbers)
	}
	if n := uint64(bytes.Count(lines, newline)); first == d.next && next-first == n {
		return true, nil
	}
	var c counter
	c.lines(lines)
	if d.next+c.next != next || first != d.next && first != d.next+lostSpan(lines) {
		return false, fmt.Errorf("cannot append to %q: lines numbered %d to %d take %d numbers and come after %d: %w",
			d.opt.Dir, first, next-1, c.next, d.next-1, ErrNumbers)
	}
	return false, nil
}

// lostSpan is how many numbers the first line takes if it is a lost mark.
func lostSpan(lines []byte) uint64 {
	end := bytes.IndexByte(lines, '\n')
	l, err := record.Parse(lines[:max(end, 0)])
	if err != nil || l.Kind != record.Mark {
		return 0
	}
	return record.Span(l)
}

// putLocked writes lines. On a full disk it gives up archives, one for each
// attempt.
func (d *Logdir) putLocked(lines []byte, dense bool, run uint64) error {
	var given []string
	defer func() { d.gaveUp(given) }()
	restored := d.heir != nil
	for len(lines) > 0 {
		n, err := d.putSomeLocked(lines, dense, run)
		if isFull(err) {
			if name, ok := d.giveUpLocked(); ok {
				given = append(given, name)
				err = nil
			}
		}
		if err != nil && !restored && d.strayedLocked() {
			restored, err = true, d.restoreLocked()
		}
		if err != nil {
			return err
		}
		if n < len(lines) {
			run = runAfter(lines[:n], run)
		}
		lines = lines[n:]
	}
	return nil
}

// putSomeLocked does one step: it writes the lines that fit into current, and
// returns their length, or makes a new current for them.
func (d *Logdir) putSomeLocked(lines []byte, dense bool, run uint64) (n int, err error) {
	if err := d.readyLocked(); err != nil {
		return 0, err
	}
	d.run, d.runFrom = run, d.size
	n = d.periodLocked(lines[:fit(lines, d.opt.Size-d.size)])
	if n == 0 && d.records {
		return 0, d.rotateLocked(complete)
	}
	if n == 0 {
		n = bytes.IndexByte(lines, '\n') + 1
	}
	return d.writeLocked(lines[:n], dense)
}

// fit returns the length of the whole lines that fit into room bytes.
func fit(lines []byte, room int64) int {
	if int64(len(lines)) <= room {
		return len(lines)
	}
	return bytes.LastIndexByte(lines[:max(room, 0)], '\n') + 1
}

// readyLocked ends what an earlier error has left unfinished, so that current
// ends with a whole line and nothing stands between it and the next.
func (d *Logdir) readyLocked() error {
	if err := d.cutLocked(); err != nil {
		return err
	}
	if d.rot.state != idle {
		return d.rotateLocked(d.rot.suffix)
	}
	return nil
}

// writeLocked appends whole lines to current. After a short write the lines
// that made it count and the torn one is cut off; if that fails too, it is
// done before anything else is written, or by the next Open. whole is the
// length of the lines that count.
func (d *Logdir) writeLocked(lines []byte, dense bool) (whole int, err error) {
	n, err := d.cur.Write(lines)
	if err != nil {
		d.torn = true
		lines = lines[:bytes.LastIndexByte(lines[:n], '\n')+1]
	}
	if len(lines) > 0 {
		d.countLocked(lines, dense)
	}
	d.syncer.wrote(n)
	if err == nil {
		return len(lines), nil
	}
	err = d.wrap("write", currentName, err)
	if cutErr := d.cutLocked(); cutErr != nil {
		d.opt.Log.Warn("torn line left for now", "dir", d.opt.Dir, "err", cutErr)
	}
	return len(lines), err
}

// written returns what current holds now.
func (d *Logdir) written() extent {
	v := &d.view
	v.mu.Lock()
	defer v.mu.Unlock()
	return extent{v.size, v.next}
}

func (d *Logdir) countLocked(lines []byte, dense bool) {
	defer d.grewLocked()
	d.size += int64(len(lines))
	d.records = true
	last := lines[lastLine(lines):]
	if t, ok := record.ParseStamp(last); ok {
		d.last, d.top = t, max(d.top, t, steppedTop(lines, last))
	}
	if dense {
		d.next += uint64(bytes.Count(lines, newline))
		return
	}
	c := counter{next: d.next}
	c.lines(lines)
	d.next = c.next
}

// steppedTop returns the greatest stamp of lines if the last of them is earlier
// than the first, else 0. Only then are all looked at: a clock that steps back
// and almost as far ahead again within one Append is not noticed.
func steppedTop(lines, last []byte) record.Stamp {
	if bytes.Compare(lines[:record.StampLen], last[:record.StampLen]) <= 0 {
		return 0
	}
	var c counter
	c.lines(lines)
	return c.top
}

// cutLocked cuts current back to its whole lines. It never makes it longer,
// should somebody have truncated it.
func (d *Logdir) cutLocked() error {
	if !d.torn {
		return nil
	}
	info, err := d.cur.Stat()
	if err == nil && info.Size > d.size {
		err = d.cur.Truncate(d.size)
	}
	if err != nil {
		return d.wrap("cut torn line off", currentName, err)
	}
	d.torn = false
	return nil
}

// runLocked returns the run in force at the end of current. Append is told
// the run its lines begin in and does not look for start marks in them: only
// a rotation between two Appends needs to know, and reads them again.
func (d *Logdir) runLocked() (uint64, error) {
	if d.runFrom == d.size {
		return d.run, nil
	}
	lines := make([]byte, d.size-d.runFrom)
	if _, err := d.cur.ReadAt(lines, d.runFrom); err != nil {
		return 0, d.wrap("read", currentName, err)
	}
	d.run, d.runFrom = runAfter(lines, d.run), d.size
	return d.run, nil
}

// Rotate makes current an archive and begins a new one. Without a record in
// current there is nothing to do.
func (d *Logdir) Rotate() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return ErrClosed
	}
	if err := d.readyLocked(); err != nil || !d.records {
		return err
	}
	err := d.rotateLocked(complete)
	if err != nil && d.strayedLocked() {
		err = d.restoreLocked()
	}
	return err
}

// Sync returns when all that was written before is on disk, names included.
// It also returns the first error of an fsync in the background since the
// last Sync.
func (d *Logdir) Sync() error {
	d.mu.Lock()
	closed := d.closed
	d.mu.Unlock()
	if closed {
		return ErrClosed
	}
	return d.syncer.Sync()
}

// Close writes everything to disk, gives up compressing, marks current as closed cleanly, and lets
// another owner in. The mark is set last: with an error it is missing, and
// the next Open looks closely. Closing again does nothing.
func (d *Logdir) Close() error {
	return d.end(d.view.close, d.release)
}

// Retire is Close, but what was written can be read on, as far as the next
// owner leaves it: Readers find its end. Descriptors for that are closed when
// nobody has the Logdir or a Reader any more, as os.File does it.
func (d *Logdir) Retire() error {
	return d.end(func() {}, d.letGo)
}

// end calls first with mu held when nothing is taken any more, and last when
// everything is on disk.
func (d *Logdir) end(first, last func()) error {
	d.closing.Lock()
	defer d.closing.Unlock()
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	first()
	err := d.readyLocked()
	d.mu.Unlock()

	// Those who work in the background need mu to end.
	d.stopPacker()
	d.syncer.stop()
	if syncErr := d.syncer.Sync(); err == nil {
		err = syncErr
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		err = d.markCleanLocked()
	}
	last()
	return err
}

func (d *Logdir) markCleanLocked() error {
	if err := d.cur.Chmod(cleanMode); err != nil {
		return d.wrap("mark as clean", currentName, err)
	}
	if err := d.cur.Sync(); err != nil {
		return d.wrap("fsync", currentName, err)
	}
	return nil
}

// release closes all descriptors, the lock last. Everything that matters has
// been fsynced before, or is given up, so errors of close say nothing new.
func (d *Logdir) release() {
	d.view.close()
	if d.cur != nil {
		d.cur.Close()
	}
	d.letGo()
	d.dir.Close()
}

// letGo closes the descriptors that only an owner needs.
func (d *Logdir) letGo() {
	d.syncer.drop()
	for _, f := range []File{d.rot.fresh, d.lock} {
		if f != nil {
			f.Close()
		}
	}
}

// DiskBytes returns the bytes in current and the archives.
func (d *Logdir) DiskBytes() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.size + d.archived
}

// wrap says what could not be done to which file.
func (d *Logdir) wrap(verb, name string, err error) error {
	return fmt.Errorf("cannot %s %q: %w", verb, filepath.Join(d.opt.Dir, name), err)
}
