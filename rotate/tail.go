package rotate

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"

	"golang.org/x/sys/unix"
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
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil, ErrClosed
	}
	cur, size := d.cur, d.size
	archives := slices.Clone(d.archives)
	d.mu.Unlock()

	t := newTail(maxLines, maxBytes)
	if cur != nil {
		if err := t.take(cur, size); err != nil && !errors.Is(err, fs.ErrClosed) {
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
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ELOOP) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return t.take(f, a.size)
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
	segment := Segment{First: c.next, Run: c.run, Lines: l.text}
	if c.lines(l.text); c.next > t.oldest {
		return nil
	}
	t.full = l.full
	if l.count > 0 {
		t.oldest = segment.First
		t.lines -= l.count
		t.bytes -= int64(len(l.text))
		t.segments = append(t.segments, segment)
	}
	return nil
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
