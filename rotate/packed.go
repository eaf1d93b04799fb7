package rotate

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"logfs/ring/record"
)

// Compression says what becomes of archives. Compressed ones are ordinary
// files of their kind: zcat and zstdcat unpack them to the archive they were
// made of. What is in one stands before the data, where it is found without
// unpacking: in gzip as the comment of the header, in zstd in a skippable
// frame. It is one line of text:
//
//	logfs format=1 first=18441 last=18999 run=42 end=43 lines=540 bytes=65536 from=@400000006b00928d1908bac4 to=@400000006b0092a11d3c0f08
//
// run is in force at the first record and end after the last one. bytes are
// those of the unpacked archive, its header included, which lines does not
// count. Another line says which runs are in it and what sizes readers see, see
// surveyForm.
type Compression int

const (
	Gzip Compression = iota + 1
	Zstd
)

func (c Compression) suffix() string {
	return [...]string{"", ".gz", ".zst"}[c]
}

// compressionOf tells from the name of an archive how it is compressed.
func compressionOf(name string) Compression {
	for _, c := range []Compression{Gzip, Zstd} {
		if strings.HasSuffix(name, c.suffix()) {
			return c
		}
	}
	return None
}

// errDamaged is in the error for a compressed archive that cannot be unpacked.
var errDamaged = errors.New("damaged")

const summaryForm = "logfs format=1 first=%d last=%d run=%d end=%d lines=%d bytes=%d from=%s to=%s"

// summary is the text that says what is in a compressed archive.
func (c *contents) summary() string {
	from, to := record.AppendStamp(nil, c.began), record.AppendStamp(nil, c.last)
	return fmt.Sprintf(summaryForm, c.header.First, c.next-1, c.header.Run, c.run, c.seen, c.whole, from, to)
}

// parseSummary accepts only what summary can have made.
func parseSummary(text string) (c contents, ok bool) {
	var from, to string
	_, err := fmt.Sscanf(text, summaryForm, &c.header.First, &c.next, &c.header.Run, &c.run, &c.seen, &c.whole, &from, &to)
	c.next++
	began, ok1 := record.ParseStamp([]byte(from))
	last, ok2 := record.ParseStamp([]byte(to))
	c.began, c.last, c.valid, c.ours = began, last, c.seen, true
	ok = err == nil && ok1 && ok2 && c.header.First > 0 && c.summary() == text
	return c, ok
}

// skippable is the magic number of a zstd frame that decoders skip.
const skippable = 0x184d2a50

// packWriter compresses what is written to it to dst, behind the summary and
// the text of the survey, if that is not empty.
func packWriter(dst io.Writer, form Compression, c *contents, survey string) (io.WriteCloser, error) {
	if form == Gzip {
		w := gzip.NewWriter(dst)
		if w.Comment = c.summary(); survey != "" {
			w.Extra = extraField(survey)
		}
		return w, nil
	}
	head := frame(c.summary())
	if survey != "" {
		head = append(head, frame(survey)...)
	}
	if _, err := dst.Write(head); err != nil {
		return nil, err
	}
	// Concurrency 1 works in the goroutine of the caller: it is that one which
	// has a low priority. A small window keeps readers small.
	return zstd.NewWriter(dst, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
}

// unpacker reads the plain form of a compressed archive.
type unpacker struct {
	io.Reader
	raw   trackReader
	close func()
}

// trackReader remembers the error of a file, to tell it from damage.
type trackReader struct {
	io.Reader
	err error
}

func (r *trackReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

func newUnpacker(f io.ReaderAt, size int64, form Compression) (*unpacker, error) {
	u := &unpacker{raw: trackReader{Reader: io.NewSectionReader(f, 0, size)}, close: func() {}}
	if form == Gzip {
		z, err := gzip.NewReader(bufio.NewReaderSize(&u.raw, 32<<10))
		if err != nil {
			return nil, u.cause(err)
		}
		u.Reader = z
		return u, nil
	}
	z, err := zstd.NewReader(&u.raw, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(128<<20))
	if err != nil {
		return nil, u.cause(err)
	}
	u.Reader, u.close = z, z.Close
	return u, nil
}

func (u *unpacker) Read(b []byte) (int, error) {
	n, err := u.Reader.Read(b)
	if err != nil && err != io.EOF {
		err = u.cause(err)
	}
	return n, err
}

func (u *unpacker) cause(err error) error {
	if u.raw.err != nil {
		return u.raw.err
	}
	return fmt.Errorf("%w: %v", errDamaged, err)
}

// countPacked counts a compressed archive, from the summary if there is one.
func countPacked(f io.ReaderAt, size int64, form Compression) (contents, error) {
	c, ok, err := readSummary(f, form)
	if ok || err != nil {
		return c, err
	}
	return countUnpacked(f, size, form)
}

// countUnpacked counts the lines of a compressed archive.
func countUnpacked(f io.ReaderAt, size int64, form Compression) (c contents, err error) {
	u, err := newUnpacker(f, size, form)
	if err != nil {
		return c, err
	}
	defer u.close()
	r := bufio.NewReaderSize(u, block)
	head, err := r.Peek(512)
	if err != nil && err != io.EOF {
		return c, err
	}
	h, start, err := readHeader(bytes.NewReader(head))
	if err != nil {
		return c, err
	}
	c.header, c.ours = h, start > 0
	if c.ours {
		c.next, c.run = h.First, h.Run
		r.Discard(int(start))
	}
	c.whole, err = c.stream(r, start)
	if !c.ours && c.valid == 0 {
		c.counter = counter{}
	}
	return c, err
}

// source is an archive being read from some offset of its plain form on.
type source struct {
	file   File
	off    int64     // of a plain file
	unpack *unpacker // else
	kept   []byte    // of what unpack has returned
}

func (d *Logdir) openSource(a archive, off int64) (*source, error) {
	f, err := d.dir.Open(a.name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	s := &source{file: f, off: off}
	if form := compressionOf(a.name); form != None {
		s.unpack, err = newUnpacker(f, a.size, form)
		if err == nil {
			_, err = io.CopyN(io.Discard, s.unpack, off)
		}
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *source) Read(b []byte) (int, error) {
	if s.unpack == nil {
		n, err := s.file.ReadAt(b, s.off)
		s.off += int64(n)
		return n, err
	}
	n := copy(b, s.kept)
	s.kept = s.kept[n:]
	more, err := io.ReadFull(s.unpack, b[n:])
	if err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	return n + more, err
}

// keep takes back the end of what Read has returned.
func (s *source) keep(b []byte) {
	if s.unpack == nil {
		s.off -= int64(len(b))
	} else if len(b) > 0 {
		s.kept = slices.Concat(b, s.kept)
	}
}

func (s *source) close() {
	if s.unpack != nil {
		s.unpack.close()
	}
	s.file.Close()
}
