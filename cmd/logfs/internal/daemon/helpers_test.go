package daemon

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"syscall"

	"logfs/capture"
	"logfs/ring/record"
	"logfs/rotate"
)

// patience bounds waits that only a failure waits out.
const patience = 30 * time.Second

// clock is a clock that stands still.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Unix(1_795_200_000, 0)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// events collects what is logged.
type events struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (e *events) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.b.Write(p)
}

func (e *events) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.b.String()
}

func (e *events) logger() *slog.Logger { return slog.New(slog.NewTextHandler(e, nil)) }

// disk is a file system whose writes to current fail on demand.
type disk struct {
	room     atomic.Int64 // bytes that may still be written; negative: all
	attempts atomic.Int64
	gate     atomic.Pointer[gate] // shut while not nil
	delay    atomic.Int64         // of each write

	onWrite func(f *os.File, b []byte) (int, error) // does the writes, if not nil
}

// gate holds writes up.
type gate struct {
	entered chan struct{} // gets a token for each write that waits
	opened  chan struct{}
}

// shut makes writes wait until open is called.
func (d *disk) shut() *gate {
	g := &gate{make(chan struct{}, 100), make(chan struct{})}
	d.gate.Store(g)
	return g
}

func (d *disk) open() { close(d.gate.Swap(nil).opened) }

func newDisk() *disk {
	d := &disk{}
	d.room.Store(-1)
	return d
}

var errDisk = errors.New("the disk is full")

func (d *disk) OpenDir(path string) (rotate.Dir, error) {
	if err := os.MkdirAll(path, 0o750); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return &diskDir{root, path, d}, nil
}

type diskDir struct {
	*os.Root
	path string
	disk *disk
}

func (d *diskDir) Open(name string, flags int, mode uint32) (rotate.File, error) {
	f, err := d.OpenFile(name, flags, fs.FileMode(mode))
	if err != nil {
		return nil, err
	}
	return &diskFile{f, d.disk}, nil
}

func (d *diskDir) Stat(name string) (rotate.Info, error) {
	fi, err := d.Lstat(name)
	if err != nil {
		return rotate.Info{}, err
	}
	return infoOf(fi), nil
}

func (d *diskDir) Names() (names []string, err error) {
	entries, err := os.ReadDir(d.path)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

func (d *diskDir) Sync() error { return nil }
func (d *diskDir) Here() error { return nil }

type diskFile struct {
	*os.File
	disk *disk
}

func (f *diskFile) Write(b []byte) (int, error) {
	f.disk.attempts.Add(1)
	if f.disk.onWrite != nil {
		return f.disk.onWrite(f.File, b)
	}
	if g := f.disk.gate.Load(); g != nil {
		g.entered <- struct{}{}
		<-g.opened
	}
	if d := f.disk.delay.Load(); d > 0 {
		time.Sleep(time.Duration(d)) // in a bubble of its own time
	}
	room := f.disk.room.Load()
	if room < 0 || int64(len(b)) <= room {
		return f.File.Write(b)
	}
	n, err := f.File.Write(b[:room])
	f.disk.room.Store(0)
	return n, errors.Join(errDisk, err)
}

func (f *diskFile) Stat() (rotate.Info, error) {
	fi, err := f.File.Stat()
	if err != nil {
		return rotate.Info{}, err
	}
	return infoOf(fi), nil
}

func (f *diskFile) Chmod(mode uint32) error { return f.File.Chmod(fs.FileMode(mode)) }
func (f *diskFile) Lock() error             { return nil }
func (f *diskFile) Gone() bool              { return false }
func (f *diskFile) Sync() error             { return nil }

func infoOf(fi fs.FileInfo) rotate.Info {
	st := fi.Sys().(*syscall.Stat_t)
	return rotate.Info{Mode: uint32(fi.Mode().Perm()), Regular: fi.Mode().IsRegular(), Size: fi.Size(),
		Dev: st.Dev, Ino: st.Ino}
}

// noStall is for batches whose write returns.
func noStall() {}

// pieces makes a batch of stdout lines.
func pieces(texts ...string) (batch []capture.Piece) {
	for _, text := range texts {
		batch = append(batch, capture.Piece{Stream: capture.Stdout, Text: []byte(text)})
	}
	return batch
}

// stored returns the lines of the logdir, headers and stamps taken off.
func stored(t *testing.T, dir string) (lines []string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "@*"))
	must(t, err)
	slices.Sort(names)
	for _, name := range append(names, filepath.Join(dir, "current")) {
		b, err := os.ReadFile(name)
		must(t, err)
		for line := range strings.Lines(string(b)) {
			if !strings.Contains(line, " = logfs ") {
				lines = append(lines, strings.TrimSpace(line[record.StampLen:]))
			}
		}
	}
	return lines
}

// held returns the lines of the ring with their numbers.
func held(l *Log) (recs []record.Record) {
	oldest, end := l.Ring().Held()
	for id := oldest.Block; id <= end.Block; id++ {
		c, ok := l.Ring().Chunk(id)
		if !ok {
			break
		}
		s := record.Scanner{Buf: bytes.Clone(c.Data), Seq: c.First, Run: c.Run}
		c.Release()
		for r, ok := s.Next(); ok; r, ok = s.Next() {
			recs = append(recs, r)
		}
	}
	return recs
}

func texts(l *Log) (all []string) {
	for _, r := range held(l) {
		all = append(all, string(r.Kind)+" "+string(r.Text))
	}
	return all
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n%s\nwant:\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
