package rotate

import (
	"errors"
	"fmt"
	"io"
	"os"

	"logfs/ring/record"
)

// After a failed fsync the kernel takes the pages that it could not write for
// clean: a second fsync would report success without having written them. So
// the file is written once more, from the page cache, under a temporary name,
// fsynced, and renamed over the old one. The new file is the same byte for
// byte: a crash at any moment leaves one of the two under the name, and readers
// notice nothing.

// rewriteName is the name of a file written again until it is whole.
const rewriteName = ".rewrite.new"

// errElsewhere says that a file has another name, or none, by now.
var errElsewhere = errors.New("renamed meanwhile")

// extent is how far something goes in a file, to the end of a line.
type extent struct {
	size int64  // bytes
	next uint64 // the number after it, 0 if not known
}

// rewriteCurrent writes current again if it still is f. What is safe of it had
// been fsynced before.
func (d *Logdir) rewriteCurrent(f File, safe extent) error {
	d.mu.Lock()
	was, ok, h := extent{d.size, d.next}, d.cur == f && d.rot.state == idle, d.head
	d.mu.Unlock()
	if !ok {
		return errElsewhere
	}
	out, err := d.writeAgain(f, h, was, safe)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cur != f || d.rot.state != idle {
		err = errElsewhere
	}
	if err == nil { // what was appended meanwhile is dirty as it was
		err = d.copyRestLocked(out, f, was)
	}
	if err == nil {
		err = d.dir.Rename(rewriteName, currentName)
	}
	if err != nil {
		d.discard(out)
		return err
	}
	d.cur, d.torn = out, false
	d.publishLocked()
	d.syncer.rewritten(out, was, d.size-was.size)
	f.Close()
	return nil
}

// copyRestLocked copies what current, which is f, has after an extent.
func (d *Logdir) copyRestLocked(out, f File, after extent) error {
	lines := make([]byte, d.size-after.size)
	if _, err := f.ReadAt(lines, after.size); err != nil {
		return err
	}
	if c := (counter{next: after.next}); !c.whole(lines, d.next) {
		return errPages
	}
	_, err := out.Write(lines)
	return err
}

// rewriteArchive writes an archive again, of which f is the descriptor.
func (d *Logdir) rewriteArchive(name string, f File, safe extent) error {
	i, a := d.archiveNamed(name)
	if i < 0 {
		return errElsewhere
	}
	out, err := d.writeAgain(f, a.head, extent{a.size, a.next}, safe)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := d.indexLocked(a.id); i < 0 || d.archives[i].name != name {
		err = errElsewhere
	} else {
		err = d.dir.Rename(rewriteName, name)
	}
	if err != nil {
		d.discard(out)
		return err
	}
	d.syncer.renamed()
	return out.Close()
}

func (d *Logdir) archiveNamed(name string) (int, archive) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, a := range d.archives {
		if a.name == name {
			return i, a
		}
	}
	return -1, archive{}
}

// writeAgain writes f to an extent to a file of its own and fsyncs that.
func (d *Logdir) writeAgain(f File, h head, to, safe extent) (File, error) {
	from, lines, err := d.readBack(f, h, to, safe)
	if err != nil {
		return nil, err
	}
	out, err := d.create(rewriteName)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(out, io.NewSectionReader(f, 0, from))
	if err == nil && len(lines) > 0 {
		_, err = out.Write(lines)
	}
	if err == nil {
		err = out.Sync()
	}
	if err != nil {
		d.discard(out)
		return nil, err
	}
	return out, nil
}

func (d *Logdir) discard(out File) {
	out.Close()
	d.dir.Remove(rewriteName)
}

// readBack says how much of f can be taken from the page cache, and the lines
// after that. It is all, if that is lines and their numbers come out right. Else
// it is what had been fsynced, or nothing, and somebody must have the rest.
// Without that the numbers decide: a line may have been damaged for long. If
// they are wrong the file stays as it is: it may be right on disk after all.
func (d *Logdir) readBack(f File, h head, to, safe extent) (from int64, lines []byte, err error) {
	sure, err := intact(f, to)
	if sure {
		return to.size, nil, nil
	}
	if ok, _ := intact(f, safe); ok && safe.next > 0 {
		if lines, ok := d.again(nil, safe, to); ok {
			return safe.size, lines, nil
		}
	}
	if h.stamp == 0 {
		return to.size, nil, err
	}
	header := record.AppendHeader(nil, record.Header{Stamp: h.stamp, Service: d.opt.Service, Run: h.run, First: h.first, Top: h.before})
	if lines, ok := d.again(header, extent{int64(len(header)), h.first}, to); ok {
		return 0, lines, nil
	}
	return to.size, nil, err
}

// again appends the lines from one extent to another, if somebody has exactly
// these.
func (d *Logdir) again(dst []byte, from, to extent) ([]byte, bool) {
	if d.opt.Again == nil || to.next == 0 {
		return nil, false
	}
	lines, ok := d.opt.Again(from.next, to.next)
	c := counter{next: from.next}
	ok = ok && from.size+int64(len(lines)) == to.size && c.whole(lines, to.next)
	return append(dst, lines...), ok
}

// errPages says that a file does not hold what was written to it.
var errPages = fmt.Errorf("%w: the pages not written are gone", errDamaged)

// intact says whether f can be read and holds what it should, as far as numbers
// tell; sure says that each line is one.
func intact(f File, to extent) (sure bool, err error) {
	c, err := count(f, to.size)
	if err != nil {
		return false, err
	}
	if !c.ours || c.torn > 0 || to.next > 0 && c.next != to.next {
		return false, errPages
	}
	return c.valid == c.seen, nil
}

// opened returns the descriptor of a file to be fsynced.
func (f *finished) opened(dir Dir) (File, error) {
	if f.file == nil {
		file, err := dir.Open(f.name, os.O_RDONLY, 0)
		if err != nil {
			return nil, err
		}
		f.file = file
	}
	return f.file, nil
}
