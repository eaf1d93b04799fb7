package rotate

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
)

// Segment is a number of whole lines that follow each other in one file.
type Segment struct {
	First uint64 // number of the first record
	Run   uint64 // in force at it
	Lines []byte
}

// Tail returns the newest lines: as many as there are, but at most maxLines,
// and at most maxBytes in all; 0 or less is no limit. The oldest segment comes
// first. Numbers missing between two segments are lost. Archives without a
// header of ours have no numbers and are passed over.
//
// It reads what the files hold when it is called, while Append goes on; an
// archive that retention deletes meanwhile may be missing.
func (d *Logdir) Tail(maxLines int, maxBytes int64) ([]Segment, error) {
	for {
		segments, err := d.tailOnce(maxLines, maxBytes)
		if !errors.Is(err, fs.ErrClosed) {
			return segments, err
		}
		// Current has become an archive before it was read.
	}
}

func (d *Logdir) tailOnce(maxLines int, maxBytes int64) ([]Segment, error) {
	cur, size, archives, err := d.view.all()
	if err != nil {
		return nil, err
	}
	t := newTail(maxLines, maxBytes)
	if cur != nil {
		if err := t.take(cur, size); err != nil {
			return nil, d.wrap("read", currentName, err)
		}
	}
	for _, a := range slices.Backward(archives) {
		if t.full {
			break
		}
		if err := d.tailArchive(t, a); err != nil {
			return nil, d.wrap("read", a.name, err)
		}
	}
	slices.Reverse(t.segments)
	return t.segments, nil
}

func (d *Logdir) tailArchive(t *tail, a archive) error {
	f, err := d.dir.Open(a.name, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		// It is gone, or compressed by now.
		now, ok, _ := d.view.find(a.first, a.id-1)
		if !ok || now.id != a.id || now.name == a.name {
			return nil
		}
		return d.tailArchive(t, now.archive)
	}
	if err == nil {
		defer f.Close()
		if form := compressionOf(a.name); form != None {
			err = t.takePacked(f, a.size, form)
		} else {
			err = t.take(f, a.size)
		}
	}
	if err != nil && unreadable(err) {
		d.passOver(a.name, err)
		return nil
	}
	return err
}

// tail collects lines from the newest file to the oldest.
type tail struct {
	lines    int   // that may still be taken
	bytes    int64 // that may still be taken
	full     bool  // the next older line may not
	oldest   uint64
	segments []Segment // newest first
}

func newTail(maxLines int, maxBytes int64) *tail {
	t := &tail{lines: maxLines, bytes: maxBytes, oldest: math.MaxUint64}
	if maxLines <= 0 {
		t.lines = math.MaxInt
	}
	if maxBytes <= 0 {
		t.bytes = math.MaxInt64
	}
	return t
}

// take adds the last lines of the first size bytes of a file. A file with
// numbers that were already taken is damaged and passed over.
func (t *tail) take(f io.ReaderAt, size int64) error {
	h, body, err := readHeader(f)
	if err != nil || body == 0 || h.First >= t.oldest {
		return err
	}
	l, err := t.last(f, body, max(size, body))
	if err != nil {
		return err
	}
	c := counter{next: h.First, run: h.Run}
	if _, err := c.file(f, body, l.start); err != nil {
		return err
	}
	t.add(Segment{First: c.next, Run: c.run, Lines: l.text}, c, l.count, l.full)
	return nil
}

// add adds count lines, before which c has counted.
func (t *tail) add(s Segment, c counter, count int, full bool) {
	if c.lines(s.Lines); c.next > t.oldest {
		return
	}
	t.full = full
	if count > 0 {
		t.oldest = s.First
		t.lines -= count
		t.bytes -= int64(len(s.Lines))
		t.segments = append(t.segments, s)
	}
}

// takePacked adds the last lines of a compressed archive. Its summary says how
// many lines to skip, so it is unpacked once.
func (t *tail) takePacked(f io.ReaderAt, size int64, form Compression) error {
	c, err := countPacked(f, size, form)
	if err != nil || !c.ours || c.header.First >= t.oldest {
		return err
	}
	u, err := newUnpacker(f, size, form)
	if err != nil {
		return err
	}
	defer u.close()
	r := bufio.NewReaderSize(u, block)
	n, err := skipLine(r) // the header
	if err != nil {
		return short(err)
	}
	before := counter{next: c.header.First, run: c.header.Run}
	lines, left := int(c.seen), c.whole-n
	for lines > t.lines || left > t.bytes {
		n, err := before.one(r)
		if err != nil {
			return short(err)
		}
		lines--
		left -= n
	}
	text := make([]byte, left)
	if _, err := io.ReadFull(r, text); err != nil {
		return short(err)
	}
	t.add(Segment{First: before.next, Run: before.run, Lines: text}, before, lines, lines < int(c.seen))
	return nil
}

// short is the error for an archive that ends before its summary says so.
func short(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errDamaged
	}
	return err
}

// lastLines are the last lines of a file that may be taken.
type lastLines struct {
	text  []byte
	start int64 // offset in the file
	count int
	full  bool // a limit stopped there
}

// last reads a little from the end of a file, and more if that was not enough.
func (t *tail) last(f io.ReaderAt, body, size int64) (lastLines, error) {
	for window := int64(block); ; window *= 4 {
		from := max(body, size-window)
		buf := make([]byte, size-from)
		n, err := f.ReadAt(buf, from)
		if err != nil && err != io.EOF {
			return lastLines{}, err
		}
		buf = buf[:bytes.LastIndexByte(buf[:n], '\n')+1]
		at, count, full := t.choose(buf, from == body)
		if full || from == body {
			return lastLines{buf[at:], from + int64(at), count, full}, nil
		}
	}
}

// choose returns where in buf the last lines begin that may be taken, how
// many they are, and whether a limit stopped it. buf begins with a whole line
// only if begin is set.
func (t *tail) choose(buf []byte, begin bool) (at, count int, full bool) {
	at = len(buf)
	for at > 0 {
		i := bytes.LastIndexByte(buf[:at-1], '\n') + 1
		if count == t.lines || int64(len(buf)-i) > t.bytes {
			return at, count, true
		}
		if i == 0 && !begin {
			return at, count, false
		}
		at = i
		count++
	}
	return at, count, false
}
