package rotate

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// syncer brings what has been written to disk, behind the back of Append. Its
// goroutine begins with the first dirty byte and ends when nothing is dirty.
//
// A failed fsync is not tried again: the file is written again instead, see
// rewriteCurrent. If that fails too, it is warned of once, until one succeeds,
// and tried again, more and more rarely. The error is returned by the next
// Sync.
type syncer struct {
	dir   Dir
	path  string
	log   *slog.Logger
	again rewriter

	flushing sync.Mutex // held by a flush; taken before mu

	mu       sync.Mutex // guards what follows; held for no call that waits
	interval time.Duration
	bytes    int64
	finished []finished // archives not yet fsynced, oldest first
	names    bool       // the directory has changed
	current  File
	safe     extent        // of current, what is known to be on disk
	broken   bool          // an fsync of current has failed
	delay    time.Duration // between attempts to repair what is broken
	retry    time.Time     // the next attempt
	dirty    int64         // bytes written to current since its last fsync
	since    time.Time     // when the first of them was
	err      error         // for the next Sync
	warned   bool
	running  bool
	stopped  bool

	kick chan struct{} // something is to be fsynced now
	quit chan struct{}
	done sync.WaitGroup
}

// finished is a file that is written no more. Whoever takes it off the list
// closes it. One without a descriptor is opened when its turn comes.
type finished struct {
	name   string
	file   File
	safe   extent
	broken bool
}

// rewriter writes files again whose fsync has failed.
type rewriter interface {
	look()           // for the files under their names
	written() extent // what current holds now
	rewriteCurrent(f File, safe extent) error
	rewriteArchive(name string, f File, safe extent) error
}

func newSyncer(dir Dir, o Options, again rewriter) *syncer {
	return &syncer{
		again: again,
		dir:   dir, path: o.Dir, interval: o.Sync, bytes: o.SyncBytes, log: o.Log,
		kick: make(chan struct{}, 1),
		quit: make(chan struct{}),
	}
}

// configure sets other limits.
func (s *syncer) configure(interval time.Duration, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.interval, s.bytes = interval, bytes
	if s.running {
		s.nowLocked()
	}
}

// begin says which file is current and that the directory may have changed.
func (s *syncer) begin(current File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current, s.names = current, true
	s.nowLocked()
}

// recovered says that an archive of an earlier owner may be dirty.
func (s *syncer) recovered(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finished = append(s.finished, finished{name: name})
	s.nowLocked()
}

// wrote says that n bytes have been written to current.
func (s *syncer) wrote(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirtyLocked(int64(n))
	if s.dirty >= s.bytes {
		s.nowLocked()
	}
}

// replaced says that fresh, with size bytes, is current now, and that old is
// the archive of the given name, or without one if that is "".
func (s *syncer) replaced(name string, old, fresh File, size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case old != nil && name != "":
		s.finished = append(s.finished, finished{name, old, s.safe, s.broken})
	case old != nil:
		old.Close()
	}
	s.current, s.dirty, s.names = fresh, 0, true
	s.safe, s.broken = extent{}, false
	s.dirtyLocked(size)
	s.nowLocked()
}

// moved says that the directory is another one, in which current has size bytes,
// and archives that may be dirty. What was in the former is none of ours.
func (s *syncer) moved(current File, size int64, dirty []finished) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.finished {
		if f.file != nil {
			f.file.Close()
		}
	}
	s.finished, s.names = dirty, true
	s.current, s.safe, s.broken, s.dirty = current, extent{}, false, 0
	s.dirtyLocked(size)
	s.nowLocked()
}

// forget closes an archive that has been deleted: it need not reach the disk.
func (s *syncer) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range s.finished {
		if f.name == name {
			if f.file != nil {
				f.file.Close()
			}
			s.finished = slices.Delete(s.finished, i, i+1)
			return
		}
	}
}

// rewritten says that fresh has taken the place of current, is on disk as
// far as safe goes, and has some dirty bytes after that.
func (s *syncer) rewritten(fresh File, safe extent, dirty int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current, s.safe, s.broken, s.names = fresh, safe, false, true
	s.dirty = 0
	s.dirtyLocked(dirty)
	s.nowLocked()
}

// renamed says that names have changed.
func (s *syncer) renamed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names = true
	s.nowLocked()
}

func (s *syncer) dirtyLocked(n int64) {
	if s.dirty == 0 && n > 0 {
		s.since = time.Now()
		s.runLocked()
	}
	s.dirty += n
}

func (s *syncer) nowLocked() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
	s.runLocked()
}

func (s *syncer) runLocked() {
	if !s.running && !s.stopped {
		s.running = true
		s.done.Go(s.run)
	}
}

func (s *syncer) run() {
	s.mu.Lock()
	timer := time.NewTimer(s.interval)
	s.mu.Unlock()
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-s.kick:
		case <-s.quit:
			return
		}
		s.flush(false)
		wait, more := s.rest()
		if !more {
			return
		}
		timer.Reset(wait)
	}
}

// rest says when the next flush is due, if one is.
func (s *syncer) rest() (wait time.Duration, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	repair := s.broken || len(s.finished) > 0 || s.names
	if !repair && s.dirty == 0 {
		s.running = false
		return 0, false
	}
	wait = time.Until(s.since.Add(s.interval))
	if repair && (s.broken || s.dirty == 0 || time.Until(s.retry) < wait) {
		wait = time.Until(s.retry)
	}
	return wait, true
}

// flush fsyncs what is finished, then the names, so that no archive is found
// under its name and without its lines, then current if that is due or now is
// set. What is broken it repairs if that is due or now is set.
func (s *syncer) flush(now bool) {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	s.again.look()
	repair := s.takeRepair(now)
	var broken []finished
	whole := true
	for {
		f, ok := s.takeFinished(repair)
		if !ok {
			break
		}
		if err := s.syncFinished(&f); s.report(f.name, err) {
			f.broken, whole = true, false
			broken = append(broken, f)
			continue
		}
		if f.file != nil {
			f.file.Close()
		}
	}
	if s.takeNames(repair) && s.report("", s.dir.Sync()) {
		s.namesAgain()
		whole = false
	}
	if f, safe, broken := s.takeCurrent(now, repair); f != nil {
		if err := s.syncCurrent(f, safe, broken); s.report(currentName, err) {
			s.currentAgain(f)
			whole = false
		}
	}
	s.putBack(broken, whole)
}

// syncFinished fsyncs an archive, or writes it again if that has failed.
func (s *syncer) syncFinished(f *finished) error {
	file, err := f.opened(s.dir)
	if err != nil {
		return err
	}
	if !f.broken {
		if err = file.Sync(); err == nil || gone(err) {
			return err
		}
	}
	againErr := s.again.rewriteArchive(f.name, file, f.safe)
	if errors.Is(againErr, errElsewhere) { // deleted, or compressed and on disk
		return os.ErrNotExist
	}
	if againErr != nil {
		return cmp.Or(err, againErr)
	}
	s.sayAgain("fsync has failed, archive written again", f.name, err)
	return nil
}

func (s *syncer) syncCurrent(f File, safe extent, broken bool) (err error) {
	if !broken {
		upto := s.again.written()
		if err = f.Sync(); err == nil {
			s.saved(f, upto)
		}
		if err == nil || gone(err) {
			return err
		}
	}
	if againErr := s.again.rewriteCurrent(f, safe); againErr != nil {
		return cmp.Or(err, againErr)
	}
	s.sayAgain("fsync has failed, current written again", currentName, err)
	return nil
}

// sayAgain tells of a file written again after err. Without one its fsync has
// failed earlier, and the warning is out.
func (s *syncer) sayAgain(what, name string, err error) {
	file := filepath.Join(s.path, name)
	if err == nil {
		s.log.Info(what, "file", file)
		return
	}
	s.log.Warn(what, "file", file, "err", err)
}

// gone says that a file has been deleted or closed since: it need not reach
// the disk, or somebody else sees to it.
func gone(err error) bool {
	return errors.Is(err, os.ErrClosed) || errors.Is(err, os.ErrNotExist)
}

// takeRepair says whether to try now what has failed before.
func (s *syncer) takeRepair(now bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now || !time.Now().Before(s.retry)
}

func (s *syncer) takeFinished(repair bool) (finished, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.finished, func(f finished) bool { return !f.broken || repair })
	if i < 0 {
		return finished{}, false
	}
	f := s.finished[i]
	s.finished = slices.Delete(s.finished, i, i+1)
	return f, true
}

// putBack puts archives back that are not on disk. If retention has deleted
// one meanwhile, that shows at the next attempt. whole says that nothing has
// failed; if nothing waits to be repaired either, the trouble is over.
func (s *syncer) putBack(broken []finished, whole bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finished = append(broken, s.finished...)
	if whole && !s.broken && !slices.ContainsFunc(s.finished, func(f finished) bool { return f.broken }) {
		s.warned, s.delay = false, 0
	}
}

func (s *syncer) takeNames(repair bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.names || s.warned && !repair {
		return false
	}
	s.names = false
	return true
}

func (s *syncer) namesAgain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names = true
}

func (s *syncer) takeCurrent(now, repair bool) (f File, safe extent, broken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	due := s.dirty >= s.bytes || time.Since(s.since) >= s.interval
	switch {
	case s.broken:
		due = repair
	case s.dirty == 0:
		due = false
	default:
		due = due || now
	}
	if !due {
		return nil, extent{}, false
	}
	s.dirty = 0
	return s.current, s.safe, s.broken
}

// saved says that current is on disk that far.
func (s *syncer) saved(f File, upto extent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == f {
		s.safe = upto
	}
}

// currentAgain says that f is not on disk: current, or what it has become.
func (s *syncer) currentAgain(f File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = s.broken || s.current == f
	for i := range s.finished {
		if s.finished[i].file == f {
			s.finished[i].broken = true
		}
	}
}

// report keeps the error of an fsync for the next Sync and warns of the first
// in a row. It says whether to try again, and when.
func (s *syncer) report(name string, err error) (again bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil || gone(err) {
		return false
	}
	s.delay = min(max(2*s.delay, s.interval), max(s.interval, 30*time.Second))
	s.retry = time.Now().Add(s.delay)
	if errors.Is(err, errElsewhere) {
		return true
	}
	err = fmt.Errorf("cannot fsync %q: %w", filepath.Join(s.path, name), err)
	if s.err == nil {
		s.err = err
	}
	if !s.warned {
		s.warned = true
		s.log.Warn("lines may be lost at power failure", "err", err)
	}
	return true
}

// Sync fsyncs everything and returns the first error since the last Sync.
func (s *syncer) Sync() error {
	s.flush(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.err
	s.err = nil
	return err
}

// stop ends the goroutine; what is dirty stays so.
func (s *syncer) stop() {
	s.mu.Lock()
	if !s.stopped {
		s.stopped = true
		close(s.quit)
	}
	s.mu.Unlock()
	s.done.Wait()
}

// drop closes what was left to be fsynced.
func (s *syncer) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.finished {
		if f.file != nil {
			f.file.Close()
		}
	}
	s.finished, s.current, s.dirty, s.names = nil, nil, 0, false
}
