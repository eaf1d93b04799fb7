package rotate

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"regexp"

	"logfs/ring/record"
)

var newline = []byte{'\n'}

// counter counts numbers and runs over stored lines. A line that is damaged
// takes one number, as it did before: no later number can then be one that
// has been used.
type counter struct {
	next  uint64
	run   uint64
	began record.Stamp // of the first line that has one
	last  record.Stamp // of the last line that has one
	top   record.Stamp // the greatest
	seen  int64        // lines
	valid int64        // lines of our form
}

func (c *counter) line(b []byte) {
	c.seen++
	span := uint64(1)
	if l, err := record.Parse(b); err == nil {
		if c.valid++; c.valid == 1 {
			c.began = l.Stamp
		}
		c.last, c.top = l.Stamp, max(c.top, l.Stamp)
		span = record.Span(l)
		if run, ok := record.StartRun(l); ok {
			c.run = run
		}
	}
	c.next += span
}

// lines counts whole lines.
func (c *counter) lines(b []byte) {
	for len(b) > 0 {
		end := bytes.IndexByte(b, '\n') + 1
		c.line(b[:end])
		b = b[end:]
	}
}

// whole counts lines and says whether all are of our form and end at next.
func (c *counter) whole(lines []byte, next uint64) bool {
	c.lines(lines)
	return c.next == next && c.valid == c.seen
}

const block = 64 << 10

// file counts the whole lines of f from one offset to another and returns the
// offset after the last of them.
func (c *counter) file(f io.ReaderAt, from, to int64) (end int64, err error) {
	return c.stream(bufio.NewReaderSize(io.NewSectionReader(f, from, to-from), block), from)
}

// stream counts the whole lines of r, which begins at an offset, and returns
// the offset after the last of them. A line longer than the buffer is known by
// its beginning.
func (c *counter) stream(r *bufio.Reader, from int64) (end int64, err error) {
	for end = from; ; {
		n, err := c.one(r)
		if err == io.EOF {
			return end, nil
		}
		if err != nil {
			return end, err
		}
		end += n
	}
}

// one counts the next line of r, if it is whole, and returns its length.
func (c *counter) one(r *bufio.Reader) (n int64, err error) {
	b, err := r.ReadSlice('\n')
	n = int64(len(b))
	if errors.Is(err, bufio.ErrBufferFull) {
		b = bytes.Clone(b[:record.Overhead])
		var rest int64
		rest, err = skipLine(r)
		n += rest
	}
	if err == nil {
		c.line(b)
	}
	return n, err
}

// skipLine reads to the end of a line and returns the bytes it skipped.
func skipLine(r *bufio.Reader) (n int64, err error) {
	for {
		b, err := r.ReadSlice('\n')
		n += int64(len(b))
		if !errors.Is(err, bufio.ErrBufferFull) {
			return n, err
		}
	}
}

// foreign says whether a line is one of multilog, s6-log or svlogd: a stamp and
// the text, but no kind.
func foreign(b []byte) bool {
	if _, err := record.Parse(b); err == nil {
		return false
	}
	if _, ok := record.ParseStamp(b); ok {
		return len(b) > record.StampLen && b[record.StampLen] == ' '
	}
	return human.Match(b)
}

// human are the stamps of svlogd -tt and -ttt, and of s6-log's T.
var human = regexp.MustCompile(`^\d{4}-\d\d-\d\d[ _T]\d\d:\d\d:\d\d\.\d+ `)

var startMark = []byte("= start run=")

// runAfter returns the run in force after whole lines that begin in run.
func runAfter(lines []byte, run uint64) uint64 {
	const at = record.StampLen + 1 // where a mark has its kind
	for off := 0; ; {
		i := bytes.Index(lines[off:], startMark)
		if i < 0 {
			return run
		}
		i += off
		off = i + 1
		if i < at || i > at && lines[i-at-1] != '\n' {
			continue
		}
		end := i + bytes.IndexByte(lines[i:], '\n')
		if l, err := record.Parse(lines[i-at : end]); err == nil {
			if n, ok := record.StartRun(l); ok {
				run = n
			}
		}
	}
}
