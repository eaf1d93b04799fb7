package rotate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"logfs/ring/record"
)

// base is the stamp of the line with number 0 in tests; line n is n
// microseconds later, and the clock stands at noon.
const (
	base = record.Stamp(1_795_200_000_000_000_000)
	noon = base + 3_600_000_000_000
)

func stamp(n uint64) record.Stamp { return base + record.Stamp(n)*1000 }

// text is line n in stored form, 60 bytes for n below 10^9.
func text(n uint64) string {
	return string(record.Append(nil, stamp(n), record.Out, false, fmt.Appendf(nil, "number %09d padded to 60 b", n)))
}

// lines are the lines from to to-1.
func lines(from, to uint64) string {
	var b strings.Builder
	for n := from; n < to; n++ {
		b.WriteString(text(n))
	}
	return b.String()
}

func mark(n uint64, text []byte) string {
	return string(record.Append(nil, stamp(n), record.Mark, false, text))
}

func lost(at, n uint64) string        { return mark(at, record.AppendLost(nil, n)) }
func start(at, run uint64) string     { return mark(at, record.AppendStart(nil, run, 77)) }
func header(run, first uint64) string { return headerOf("web", run, first) }

func headerOf(service string, run, first uint64) string {
	h := record.Header{Stamp: stamp(first - 1), Service: service, Run: run, First: first}
	return string(record.AppendHeader(nil, h))
}

// options are those of most tests: small files, a clock that stands, fsync
// only when asked.
func options(dir string) Options {
	return Options{
		Dir: dir, Service: "web", Size: 700, Keep: 1000,
		Sync: 1 << 60, SyncBytes: 1 << 60,
		Now:  func() record.Stamp { return noon },
		Boot: "this boot",
	}
}

func mustOpen(t testing.TB, o Options) *Logdir {
	t.Helper()
	d, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func mustClose(t testing.TB, d *Logdir) {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

func mustAppend(t testing.TB, d *Logdir, s string, first, next, run uint64) {
	t.Helper()
	written, err := d.Append([]byte(s), first, next, run)
	if err != nil || written != next {
		t.Fatalf("Append %d to %d: written %d, error %v", first, next, written, err)
	}
}

// crash leaves the logdir as the death of the process would.
func crash(d *Logdir) {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.stopPacker()
	d.syncer.stop()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.release()
}

// files returns the logdir's files in the order of their lines, current last.
func files(t testing.TB, dir string) (names []string, content map[string]string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	content = map[string]string{}
	for _, e := range entries {
		if _, _, ok := parseArchive(e.Name()); !ok && e.Name() != currentName {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if form := compressionOf(e.Name()); form != None && err == nil {
			b, err = unpacked(b, form)
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, e.Name())
		content[e.Name()] = string(b)
	}
	slices.Sort(names) // '@' sorts before 'c'
	return names, content
}

func unpacked(b []byte, form Compression) ([]byte, error) {
	u, err := newUnpacker(bytes.NewReader(b), int64(len(b)), form)
	if err != nil {
		return nil, err
	}
	defer u.close()
	return io.ReadAll(u)
}

// checkFiles checks that every file begins with a header that says the right
// number and run, and that together they hold exactly want.
func checkFiles(t testing.TB, dir, want string) {
	t.Helper()
	names, content := files(t, dir)
	var got strings.Builder
	var c counter
	for i, name := range names {
		head, body, _ := strings.Cut(content[name], "\n")
		h, ok := record.ParseHeader([]byte(head))
		if !ok {
			t.Fatalf("%s begins with %q, want a header", name, head)
		}
		if i == 0 {
			c.next, c.run = h.First, h.Run
		}
		if h.First != c.next || h.Run != c.run || h.Service != "web" {
			t.Errorf("%s: header %q, want first=%d run=%d", name, head, c.next, c.run)
		}
		if body != "" && !strings.HasSuffix(body, "\n") {
			t.Errorf("%s ends with a torn line", name)
		}
		c.lines([]byte(body))
		got.WriteString(body)
	}
	if got.String() != want {
		t.Errorf("files hold\n%swant\n%s", got.String(), want)
	}
}

func mode(t testing.TB, path string) os.FileMode {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}

func modeOf(t testing.TB, dir string) os.FileMode { return mode(t, filepath.Join(dir, currentName)) }

var errFault = errors.New("fault made by a test")

// faultFS is the real file system, of which some calls fail: those numbered
// from to from+count-1, counted from 1. A failed write has written half.
// Fsyncs are counted apart, because the background does them when it likes,
// and not made.
type faultFS struct {
	FS
	mu           sync.Mutex
	calls, syncs int
	from, count  int
	failSync     func(name string) bool
	log          []string // calls and fsyncs, by name
	fired        bool
	full         bool // nothing can be written
	kill         bool // a call that fails kills the process instead
}

func newFaultFS(from, count int) *faultFS { return &faultFS{FS: osFS{}, from: from, count: count} }

func (f *faultFS) call(what string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	f.log = append(f.log, what)
	if f.from > 0 && f.calls >= f.from && f.calls-f.from < f.count {
		f.fired = true
		if f.kill && !strings.HasPrefix(what, "write ") { // a write is half done first
			killSelf()
		}
		return fmt.Errorf("%s: %w", what, errFault)
	}
	return nil
}

func killSelf() {
	unix.Kill(unix.Getpid(), unix.SIGKILL)
	select {} // not even the next instruction
}

func (f *faultFS) sync(name string) error {
	if f.kill {
		return f.call("fsync " + name)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.syncs++
	f.log = append(f.log, "fsync "+name)
	if f.failSync != nil && f.failSync(name) {
		return errFault
	}
	return nil
}

func (f *faultFS) synced() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.syncs
}

// logged returns the calls and fsyncs from the given one on.
func (f *faultFS) logged(from int) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.log[from:])
}

func (f *faultFS) failSyncs(which func(name string) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failSync = which
}

func (f *faultFS) OpenDir(path string) (Dir, error) {
	if err := f.call("opendir"); err != nil {
		return nil, err
	}
	d, err := f.FS.OpenDir(path)
	if err != nil {
		return nil, err
	}
	return &faultDir{d, f}, nil
}

type faultDir struct {
	Dir
	fs *faultFS
}

func (d *faultDir) Open(name string, flags int, mode uint32) (File, error) {
	if err := d.fs.call("open " + name); err != nil {
		return nil, err
	}
	f, err := d.Dir.Open(name, flags, mode)
	if err != nil {
		return nil, err
	}
	return &faultFile{f, d.fs, name}, nil
}

func (d *faultDir) Stat(name string) (Info, error) {
	if err := d.fs.call("stat " + name); err != nil {
		return Info{}, err
	}
	return d.Dir.Stat(name)
}

func (d *faultDir) Names() ([]string, error) {
	if err := d.fs.call("list"); err != nil {
		return nil, err
	}
	return d.Dir.Names()
}

func (d *faultDir) Link(name, second string) error {
	if err := d.fs.call("link " + name); err != nil {
		return err
	}
	return d.Dir.Link(name, second)
}

func (d *faultDir) Rename(from, to string) error {
	if err := d.fs.call("rename " + from); err != nil {
		return err
	}
	return d.Dir.Rename(from, to)
}

func (d *faultDir) Remove(name string) error {
	if err := d.fs.call("remove " + name); err != nil {
		return err
	}
	return d.Dir.Remove(name)
}

func (d *faultDir) Sync() error { return d.fs.sync(".") }

type faultFile struct {
	File
	fs   *faultFS
	name string
}

func (f *faultFile) Write(b []byte) (int, error) {
	if f.fs.full {
		return 0, unix.ENOSPC
	}
	if err := f.fs.call("write " + f.name); err != nil {
		n, _ := f.File.Write(b[:len(b)/2])
		if f.fs.kill {
			killSelf()
		}
		return n, err
	}
	return f.File.Write(b)
}

func (f *faultFile) ReadAt(b []byte, off int64) (int, error) {
	if err := f.fs.call("read " + f.name); err != nil {
		return 0, err
	}
	return f.File.ReadAt(b, off)
}

func (f *faultFile) Stat() (Info, error) {
	if err := f.fs.call("fstat " + f.name); err != nil {
		return Info{}, err
	}
	return f.File.Stat()
}

func (f *faultFile) Truncate(size int64) error {
	if err := f.fs.call("truncate " + f.name); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *faultFile) Chmod(mode uint32) error {
	if err := f.fs.call("chmod " + f.name); err != nil {
		return err
	}
	return f.File.Chmod(mode)
}

func (f *faultFile) Lock() error {
	if err := f.fs.call("lock"); err != nil {
		return err
	}
	return f.File.Lock()
}

func (f *faultFile) Sync() error { return f.fs.sync(f.name) }

// countLog is a log that counts its records and keeps them.
type countLog struct {
	mu  sync.Mutex
	buf bytes.Buffer
	slog.Handler
}

func (l *countLog) Enabled(context.Context, slog.Level) bool { return true }

func (l *countLog) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.WriteString(r.Message + "\n")
	return nil
}

func (l *countLog) count(message string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), message)
}
