package rotate

import (
	"bytes"
	"errors"
	"io"
	"io/fs"

	"logfs/ring/record"
)

// A Reader reads the records of a logdir in the order of their numbers, from
// any number on, beside Append and everything that happens to the files. It
// holds no lock while it reads, and at its end neither a descriptor nor a
// buffer. One goroutine may use it at a time.
type Reader struct {
	d    *Logdir
	want uint64 // no record before it is returned

	// The place of the next line: its file, offset and number, and the run in
	// force there. With id 0 no file is begun; past is the last one finished.
	id     uint64
	off    int64
	number uint64
	run    uint64
	past   uint64

	src    *source // the file, if it is an archive and open
	closed bool
}

// From returns a Reader that begins at the first retained record numbered seq
// or higher.
func (d *Logdir) From(seq uint64) (*Reader, error) {
	if _, _, err := d.view.find(seq, 0); err != nil {
		return nil, err
	}
	return &Reader{d: d, want: seq}, nil
}

// Close ends the Reader.
func (r *Reader) Close() {
	r.leave()
	r.closed = true
}

// Rest lets go of what the Reader holds between two calls of Next: an open file,
// and the memory of unpacking. The place stays; in a compressed archive it
// costs time to find it again.
func (r *Reader) Rest() { r.leave() }

// Due returns the number that the next record has, if there is one of that
// number.
func (r *Reader) Due() uint64 { return max(r.want, r.number) }

// Next returns whole stored lines whose numbers follow each other, in buf if
// the first of them fits. If the records that come next have been deleted or
// are damaged, First jumps over exactly their numbers. At the end of what is
// written now it returns io.EOF; called later it goes on there. It returns
// ErrClosed once the Reader or the Logdir is closed.
func (r *Reader) Next(buf []byte) (Segment, error) {
	for {
		f, ok, err := r.d.view.find(max(r.want, r.number), r.past)
		if err != nil || r.closed {
			r.leave()
			return Segment{}, ErrClosed
		}
		if !ok {
			return Segment{}, io.EOF
		}
		if f.id != r.id {
			r.enter(f)
		}
		s, err := r.read(f, buf)
		switch {
		case len(s.Lines) > 0:
			return s, nil
		case err == nil:
		case err == io.EOF && f.current != nil:
			return Segment{}, io.EOF
		case errors.Is(err, fs.ErrClosed) || errors.Is(err, fs.ErrNotExist) && r.moved(f):
			r.leave()
		default:
			r.finish(f, err)
		}
	}
}

// enter goes to the beginning of a file.
func (r *Reader) enter(f found) {
	r.leave()
	r.id, r.off, r.number, r.run = f.id, 0, f.first, f.run
	if at := f.facts.steps.before(r.want); at.off > 0 {
		r.off, r.number, r.run = at.off, at.number, at.run
	}
}

// leave closes the file; the place in it stays.
func (r *Reader) leave() {
	if r.src != nil {
		r.src.close()
		r.src = nil
	}
}

// finish leaves a file for good.
func (r *Reader) finish(f found, err error) {
	r.leave()
	r.past = f.id
	f.facts.mistrust(err)
	if err != io.EOF && !errors.Is(err, fs.ErrNotExist) {
		r.d.passOver(f.name, err)
	}
}

// moved says whether a file that is not found under its name was renamed, or
// deleted by the Logdir, since the name was looked up.
func (r *Reader) moved(f found) bool {
	now, ok, err := r.d.view.find(max(r.want, r.number), r.past)
	return err != nil || !ok || now.id != f.id || now.name != f.name
}

// read reads on in f. It returns lines, or nothing and no error if there was
// something to skip.
func (r *Reader) read(f found, buf []byte) (Segment, error) {
	room := len(buf)
	buf, err := r.fill(f, buf)
	if err != nil {
		return Segment{}, err
	}
	s, used, err := r.take(buf, room, f.until)
	if r.src != nil {
		r.src.keep(buf[used:])
	}
	return s, err
}

// fill reads at least one whole line, into buf if it fits.
func (r *Reader) fill(f found, buf []byte) ([]byte, error) {
	for n := 0; ; {
		if n == len(buf) {
			buf = append(make([]byte, 0, 2*n+512), buf...)
			buf = buf[:cap(buf)]
		}
		more, err := r.readAt(f, buf[n:], r.off+int64(n))
		n += more
		switch {
		case bytes.IndexByte(buf[n-more:n], '\n') >= 0:
			return buf[:n], nil
		case err != nil:
			return nil, err
		case more == 0:
			return nil, io.EOF
		}
	}
}

func (r *Reader) readAt(f found, b []byte, off int64) (int, error) {
	if f.current != nil {
		r.leave()
		b = b[:min(int64(len(b)), max(f.size-off, 0))]
		if len(b) == 0 {
			return 0, io.EOF
		}
		return f.current.ReadAt(b, off)
	}
	if r.src == nil {
		src, err := r.d.openSource(f.archive, r.off)
		if err != nil {
			return 0, err
		}
		r.src = src
	}
	return r.src.Read(b)
}

// take takes lines off b: first what has to be skipped, then what follows
// without a gap in the numbers: one line, and more if they are at most room
// bytes in all. until ends the file.
func (r *Reader) take(b []byte, room int, until uint64) (s Segment, used int, err error) {
	if r.off == 0 {
		used = bytes.IndexByte(b, '\n') + 1 // the header
	}
	start := used
	for {
		end := used + bytes.IndexByte(b[used:], '\n') + 1
		if end == used {
			break
		}
		if r.number >= until {
			err = io.EOF
			break
		}
		l, bad := record.Parse(b[used:end])
		good := bad == nil && r.number >= r.want
		if s.First > 0 && (!good || end-start > room) {
			break
		}
		if s.First == 0 {
			start = used
		}
		if good && s.First == 0 {
			s.First, s.Run = r.number, r.run
		}
		r.pass(l)
		used = end
	}
	r.off += int64(used)
	if s.First > 0 {
		s.Lines, r.want = b[start:used], r.number
		return s, used, nil
	}
	return s, used, err
}

// pass counts a line. A damaged one takes one number, see counter.
func (r *Reader) pass(l record.Line) {
	r.number += record.Span(l)
	if run, ok := record.StartRun(l); ok {
		r.run = run
	}
}
