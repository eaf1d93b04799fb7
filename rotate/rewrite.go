package rotate

import (
	"errors"
	"fmt"
	"io"
	"os"
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
	was, ok := extent{d.size, d.next}, d.cur == f && d.rot.state == idle
	d.mu.Unlock()
	if !ok {
		return errElsewhere
	}
	out, err := d.writeAgain(f, was, safe)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cur != f || d.rot.state != idle {
		err = errElsewhere
	}
	if err == nil { // what was appended meanwhile is dirty as it was
		_, err = io.Copy(out, io.NewSectionReader(f, was.size, d.size-was.size))
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

// rewriteArchive writes an archive again, of which f is the descriptor.
func (d *Logdir) rewriteArchive(name string, f File, safe extent) error {
	i, a := d.archiveNamed(name)
	if i < 0 {
		return errElsewhere
	}
	out, err := d.writeAgain(f, extent{a.size, a.next}, safe)
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
func (d *Logdir) writeAgain(f File, to, safe extent) (File, error) {
	from, lines, err := d.readBack(f, to, safe)
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
// after that. It is all, if the numbers come out right; else what had been
// fsynced, and the rest if somebody still has it. Without that the file stays
// as it is: it may be right on disk after all.
func (d *Logdir) readBack(f File, to, safe extent) (from int64, lines []byte, err error) {
	d.mu.Lock()
	again := d.opt.Again
	d.mu.Unlock()
	if err = intact(f, to); err == nil || again == nil || safe.next == 0 || to.next == 0 {
		return to.size, nil, err
	}
	if safeErr := intact(f, safe); safeErr != nil {
		return 0, nil, safeErr
	}
	lines, ok := again(safe.next, to.next)
	c := counter{next: safe.next}
	if ok {
		c.lines(lines)
	}
	if !ok || c.next != to.next || safe.size+int64(len(lines)) != to.size {
		return 0, nil, err
	}
	return safe.size, lines, nil
}

// intact says whether f can be read and holds what it should.
func intact(f File, to extent) error {
	c, err := count(f, to.size)
	if err != nil {
		return err
	}
	if !c.ours || c.torn > 0 || to.next > 0 && c.next != to.next {
		return fmt.Errorf("%w: the pages not written are gone", errDamaged)
	}
	return nil
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
