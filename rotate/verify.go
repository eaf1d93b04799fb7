package rotate

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"logfs/ring/record"
)

// A Finding is one thing that is not as it should be.
type Finding struct {
	File string // name in the logdir
	Line int    // counted from 1 with the header, 0 for the file as a whole
	What string
}

// Verify reads all files of the logdir dir and reports what is wrong with
// them: names, headers, numbers that are missing or used twice, stamps that go
// back, lines that are torn or no records, archives that cannot be read. Lines
// of multilog, svlogd and s6-log with stamps may be in files of their own, and
// at the end of one of ours. It
// changes nothing and takes no lock; while somebody writes, it may find the
// last line of current torn, or an archive gone. Its error says that the
// directory cannot be read.
func Verify(dir string, report func(Finding)) error {
	d, err := openDir(dir)
	if err != nil {
		return fmt.Errorf("cannot open logdir %q: %w", dir, err)
	}
	defer d.Close()
	names, err := d.Names()
	if err != nil {
		return fmt.Errorf("cannot list %q: %w", filepath.Clean(dir), err)
	}
	slices.Sort(names)
	v := &verifier{dir: d, report: report}
	for _, name := range names {
		if _, _, ok := parseArchive(name); ok {
			if form := compressionOf(name).suffix(); form != "" && slices.Contains(names, strings.TrimSuffix(name, form)) {
				v.find(name, 0, "also there uncompressed")
				continue
			}
			v.file(name)
		}
	}
	if slices.Contains(names, currentName) {
		v.file(currentName)
	} else {
		v.find(currentName, 0, "missing")
	}
	v.strangers(names)
	return nil
}

// verifier holds what the files read so far lead to expect of the next.
type verifier struct {
	dir     Dir
	report  func(Finding)
	counter        // next is 0 before the first header
	service string // of the header before

	name   string // of the file being read
	n      int    // lines of it, the header included
	others bool   // the line before is one of another logger
	survey survey // of its lines
}

func (v *verifier) find(name string, line int, format string, args ...any) {
	v.report(Finding{name, line, fmt.Sprintf(format, args...)})
}

// strangers are files that do not belong into a logdir.
func (v *verifier) strangers(names []string) {
	for _, name := range names {
		_, _, archive := parseArchive(name)
		switch {
		case archive || name == currentName || name == lockName:
		case name == "config" || name == "state": // of svlogd, and of a processor
		case name == freshName || name == packedName || name == rewriteName:
			v.find(name, 0, "left by something interrupted; goes when the logdir is opened")
		default:
			v.find(name, 0, "not a file of a logdir")
		}
	}
}

func (v *verifier) file(name string) {
	v.name, v.n, v.others, v.survey = name, 0, false, survey{}
	info, err := v.dir.Stat(name)
	switch {
	case err != nil:
		v.find(name, 0, "cannot be read: %v", err)
		return
	case !info.Regular:
		v.find(name, 0, "not a regular file")
		return
	case info.Size == 0:
		v.find(name, 0, "empty")
		return
	}
	f, err := v.dir.Open(name, os.O_RDONLY, 0)
	if err == nil {
		defer f.Close()
		err = v.content(f, info.Size)
	}
	if err != nil {
		v.find(name, v.n, "cannot be read: %v", err)
	}
}

func (v *verifier) content(f File, size int64) error {
	form := compressionOf(v.name)
	if form == None {
		_, err := v.lines(io.NewSectionReader(f, 0, size))
		return err
	}
	told, err := readNotes(f, form)
	if err != nil {
		return err
	}
	u, err := newUnpacker(f, size, form)
	if err != nil {
		return err
	}
	defer u.close()
	c, err := v.lines(u)
	if err != nil || !c.ours {
		return err
	}
	switch {
	case !told.ok:
		v.find(v.name, 0, "says nothing about its content")
	case told.summary() != c.summary():
		v.find(v.name, 0, "says %q of its content, which is %q", told.summary(), c.summary())
	case told.surveyed && told.survey.text() != v.survey.text():
		v.find(v.name, 0, "says other sizes or runs than its lines have")
	}
	return nil
}

// lines checks the plain form of a file and returns what is in it.
func (v *verifier) lines(in io.Reader) (c contents, err error) {
	r := bufio.NewReaderSize(in, block)
	var long []byte
	for {
		b, err := r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			long = append(long, b...)
			continue
		}
		if len(long) > 0 {
			long = append(long, b...)
			b = long
		}
		if err == nil || len(b) > 0 {
			v.n++
		}
		switch {
		case err == io.EOF && len(b) > 0:
			v.find(v.name, v.n, "torn: no newline at the end")
		case err == nil && v.n == 1:
			v.header(b, &c)
		case err == nil && c.ours:
			v.line(b, &c)
		}
		if err == nil {
			c.whole += int64(len(b))
			long = long[:0]
			continue
		}
		v.label()
		if err == io.EOF {
			err = nil
		}
		return c, err
	}
}

// header compares the beginning of a file with the end of the one before.
func (v *verifier) header(b []byte, c *contents) {
	h, ok := record.ParseHeader(b)
	if v.others = !ok && foreign(b); v.others {
		return
	}
	if !ok {
		v.find(v.name, 1, "no header")
		return
	}
	switch known := v.next > 0; {
	case known && h.First > v.next:
		v.find(v.name, 1, "begins with number %d: %d to %d are missing", h.First, v.next, h.First-1)
	case known && h.First < v.next:
		v.find(v.name, 1, "begins with number %d: up to %d they were used before", h.First, v.next-1)
	case known && h.Run != v.run:
		v.find(v.name, 1, "says run %d, want %d", h.Run, v.run)
	}
	if v.service != "" && h.Service != v.service {
		v.find(v.name, 1, "is of service %q, want %q", h.Service, v.service)
	}
	v.next, v.run, v.service = h.First, h.Run, h.Service
	c.header, c.ours, c.counter = h, true, counter{next: h.First, run: h.Run}
}

func (v *verifier) line(b []byte, c *contents) {
	l, err := record.Parse(b)
	others := err != nil && foreign(b)
	switch {
	case others:
	case v.others:
		v.find(v.name, v.n, "number %d: stands behind lines of another logger", v.next)
	case err != nil:
		v.find(v.name, v.n, "number %d: %v", v.next, err)
	case v.valid > 0 && l.Stamp < v.last:
		v.find(v.name, v.n, "number %d: stamp is before that of the line before it", v.next)
	}
	v.others = others
	if err == nil {
		v.survey.add(Segment{First: c.next, Run: c.run, Lines: b}, math.MaxUint64)
	}
	v.counter.line(b)
	c.counter.line(b)
}

// label compares the name of an archive with its last line, if that is ours.
func (v *verifier) label() {
	if v.others {
		return
	}
	if label, _, ok := parseArchive(v.name); ok && v.valid > 0 && label < v.last {
		v.find(v.name, 0, "label is before the stamp of the last line")
	}
}
