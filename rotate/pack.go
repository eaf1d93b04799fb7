package rotate

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// packing is held by whoever compresses: one at a time in the whole process.
var packing = make(chan struct{}, 1)

// packer compresses archives in the background. Its goroutine exists only
// while there is something to compress. It writes under a temporary name,
// fsyncs, links to the final one, fsyncs the directory, and only then unlinks
// the plain archive: a crash at any moment leaves the plain archive, or the
// whole compressed one, or both, of which Open removes the plain one.
//
// It holds no lock while it works. The names it makes are nobody else's, and
// an archive that retention deletes meanwhile it deletes, too.
type packer struct {
	running bool // guarded by Logdir.mu
	stop    sync.Once
	quit    chan struct{}
	done    sync.WaitGroup
}

// packedName is the name of a compressed archive until it is whole.
const packedName = ".archive.new"

var errStopped = errors.New("stopped")

// packLocked starts the packer if there is something to do.
func (d *Logdir) packLocked() {
	if _, ok := d.toPackLocked(); !ok || d.closed || d.packer.running {
		return
	}
	d.packer.running = true
	d.packer.done.Go(d.packAll)
}

// stopPacker returns when the packer has ended. The Logdir must be closed.
func (d *Logdir) stopPacker() {
	d.packer.stop.Do(func() { close(d.packer.quit) })
	d.packer.done.Wait()
}

// toPackLocked returns the oldest archive that is to be compressed: one of
// ours, for those of other loggers stay as they are.
func (d *Logdir) toPackLocked() (archive, bool) {
	if d.opt.Compress == None {
		return archive{}, false
	}
	i := slices.IndexFunc(d.archives, func(a archive) bool {
		return a.first > 0 && !a.plain && compressionOf(a.name) == None
	})
	if i < 0 {
		return archive{}, false
	}
	return d.archives[i], true
}

// packAll compresses until nothing is left. A failure ends it until the next
// rotation; an archive that cannot be compressed for what it is stays plain.
func (d *Logdir) packAll() {
	for {
		d.mu.Lock()
		a, ok := d.toPackLocked()
		form := d.opt.Compress
		if !ok || d.closed {
			d.packer.running = false
			d.mu.Unlock()
			return
		}
		d.mu.Unlock()
		select {
		case packing <- struct{}{}:
		case <-d.packer.quit:
			return
		}
		err := lowPriority(func() error { return d.pack(a, form) })
		<-packing
		if err != nil && !d.packFailed(a, err) {
			return
		}
	}
}

// packFailed says whether to go on with the next archive.
func (d *Logdir) packFailed(a archive, err error) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := d.indexLocked(a.id)
	if i < 0 { // deleted meanwhile
		return true
	}
	if errors.Is(err, errStopped) {
		return false
	}
	if d.view.firstTime("pack " + a.name) {
		d.opt.Log.Warn("archive not compressed", "err", d.wrap("compress", a.name, err))
	}
	if !errors.Is(err, errDamaged) && !errors.Is(err, fs.ErrExist) {
		d.packer.running = false
		return false
	}
	d.archives[i].plain = true
	return true
}

func (d *Logdir) indexLocked(id uint64) int {
	return slices.IndexFunc(d.archives, func(a archive) bool { return a.id == id })
}

// lowPriority runs f on a thread that gets the processor only when nobody
// else wants it. The thread is not used for anything else and ends with f,
// because only root could give it its priority back.
func lowPriority(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		// Without the permission f runs as everything else does.
		_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), 19)
		done <- f()
	}()
	return <-done
}

// pack compresses one archive.
func (d *Logdir) pack(a archive, form Compression) error {
	size, err := d.writePacked(a, form)
	if err != nil {
		d.dir.Remove(packedName)
		return err
	}
	name := a.name + form.suffix()
	if err = d.dir.Link(packedName, name); err == nil {
		if err = d.dir.Sync(); err != nil {
			d.dir.Remove(name)
		}
	}
	d.dir.Remove(packedName)
	if err != nil {
		return err
	}
	if !d.replacePacked(a, name, size) {
		return d.dir.Remove(name)
	}
	d.syncer.forget(a.name)
	defer d.syncer.renamed()
	if err := d.dir.Remove(a.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// replacePacked tells everybody of the compressed archive, unless there is no
// such archive any more.
func (d *Logdir) replacePacked(a archive, name string, size int64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := d.indexLocked(a.id)
	if i < 0 {
		return false
	}
	p := &d.archives[i]
	d.archived += size - p.size
	p.name, p.size, p.stuck = name, size, false
	d.publishLocked()
	return true
}

// writePacked writes and fsyncs the compressed form of a, and returns its
// size.
func (d *Logdir) writePacked(a archive, form Compression) (int64, error) {
	in, err := d.dir.Open(a.name, os.O_RDONLY, 0)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	c, err := count(in, a.size)
	if err != nil {
		return 0, err
	}
	if !c.ours || c.torn > 0 || c.header.First != a.first {
		return 0, fmt.Errorf("%w: not what was written", errDamaged)
	}
	out, err := d.create(packedName)
	if err != nil {
		return 0, err
	}
	defer out.Close()
	w, err := packWriter(out, form, &c, d.surveyOf(a))
	if err == nil {
		err = d.copyPacked(w, in, a.size)
	}
	if err == nil {
		err = out.Sync()
	}
	if err != nil {
		return 0, err
	}
	info, err := out.Stat()
	return info.Size, err
}

// surveyOf returns the text of what is to be known of an archive, "" if that
// cannot be had or is too long.
func (d *Logdir) surveyOf(a archive) string {
	v, ok := d.complete(a)
	if !ok {
		return ""
	}
	text := v.text()
	if len(text) > maxSurvey {
		return ""
	}
	return text
}

// copyPacked copies block by block, so that Close need not wait for long.
func (d *Logdir) copyPacked(w io.WriteCloser, in io.ReaderAt, size int64) error {
	r := io.NewSectionReader(in, 0, size)
	for {
		select {
		case <-d.packer.quit:
			return errStopped
		default:
		}
		_, err := io.CopyN(w, r, block)
		if err == io.EOF {
			return w.Close()
		}
		if err != nil {
			return err
		}
	}
}
