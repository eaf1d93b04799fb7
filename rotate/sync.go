package rotate

import (
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
// A failed fsync is not tried again: the kernel takes the pages it could not
// write for clean, so a second fsync would report success without having
// written them. It is warned of once, until one succeeds, and returned by the
// next Sync.
type syncer struct {
	dir  Dir
	path string
	log  *slog.Logger

	flushing sync.Mutex // held by a flush; taken before mu

	mu       sync.Mutex // guards what follows; held for no call that waits
	interval time.Duration
	bytes    int64
	finished []finished // archives not yet fsynced, oldest first
	names    bool       // the directory has changed
	current  File
	dirty    int64     // bytes written to current since its last fsync
	since    time.Time // when the first of them was
	err      error     // for the next Sync
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
	name string
	file File
}

func newSyncer(dir Dir, o Options) *syncer {
	return &syncer{
		dir: dir, path: o.Dir, interval: o.Sync, bytes: o.SyncBytes, log: o.Log,
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
		s.finished = append(s.finished, finished{name, old})
	case old != nil:
		old.Close()
	}
	s.current, s.dirty, s.names = fresh, 0, true
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
	if len(s.finished) == 0 && !s.names && s.dirty == 0 {
		s.running = false
		return 0, false
	}
	return time.Until(s.since.Add(s.interval)), true
}

// flush fsyncs what is finished, then the names, so that no archive is found
// under its name and without its lines, then current if that is due or now is
// set.
func (s *syncer) flush(now bool) {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	for {
		f, ok := s.takeFinished()
		if !ok {
			break
		}
		s.report(f.name, s.syncFinished(f))
	}
	if s.takeNames() {
		s.report("", s.dir.Sync())
	}
	if f := s.takeCurrent(now); f != nil {
		s.report(currentName, f.Sync())
	}
}

func (s *syncer) syncFinished(f finished) error {
	if f.file == nil {
		var err error
		if f.file, err = s.dir.Open(f.name, os.O_RDONLY, 0); err != nil {
			return err
		}
	}
	defer f.file.Close()
	return f.file.Sync()
}

func (s *syncer) takeFinished() (finished, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.finished) == 0 {
		return finished{}, false
	}
	f := s.finished[0]
	s.finished = slices.Delete(s.finished, 0, 1)
	return f, true
}

func (s *syncer) takeNames() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := s.names
	s.names = false
	return names
}

func (s *syncer) takeCurrent(now bool) File {
	s.mu.Lock()
	defer s.mu.Unlock()
	due := s.dirty >= s.bytes || time.Since(s.since) >= s.interval
	if s.dirty == 0 || !now && !due {
		return nil
	}
	s.dirty = 0
	return s.current
}

// report keeps the error of an fsync for the next Sync and warns of the first
// in a row. A file that is closed or gone has been deleted since.
func (s *syncer) report(name string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.warned = false
		return
	}
	if errors.Is(err, os.ErrClosed) || errors.Is(err, os.ErrNotExist) {
		return
	}
	err = fmt.Errorf("cannot fsync %q: %w", filepath.Join(s.path, name), err)
	if s.err == nil {
		s.err = err
	}
	if !s.warned {
		s.warned = true
		s.log.Warn("lines may be lost at power failure", "err", err)
	}
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
