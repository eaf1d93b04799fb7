package rotate

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"logfs/ring/record"
)

var forms = []Compression{Gzip, Zstd}

// waitPacked returns when the packer has nothing left to do.
func waitPacked(d *Logdir) { d.packer.done.Wait() }

// TestPack compresses archives with runs, marks and a long line, and unpacks
// them with the tools of the system.
func TestPack(t *testing.T) {
	for _, form := range forms {
		dir := t.TempDir()
		o := options(dir)
		d := mustOpen(t, o)
		long := string(record.Append(nil, stamp(9), record.Err, true, []byte(strings.Repeat("long ", 20_000))))
		all := lines(1, 5) + start(5, 3) + lost(6, 90) + lines(96, 98) + long + lines(99, 120)
		mustAppend(t, d, all, 1, 120, 2)
		mustClose(t, d)
		plain, content := files(t, dir)
		o.Compress = form
		d = mustOpen(t, o) // what is found plain is compressed
		waitPacked(d)
		var bytes int64
		for _, name := range plain[:len(plain)-1] {
			if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
				t.Errorf("%s is still there", name)
			}
			checkPacked(t, filepath.Join(dir, name+form.suffix()), content[name], form)
			bytes += sizeOf(t, filepath.Join(dir, name+form.suffix()))
		}
		if want := bytes + sizeOf(t, filepath.Join(dir, currentName)); d.DiskBytes() != want {
			t.Errorf("DiskBytes %d, want %d", d.DiskBytes(), want)
		}
		mustClose(t, d)
		if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
			t.Errorf("%q are left", left)
		}
	}
}

func sizeOf(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func checkPacked(t *testing.T, path, content string, form Compression) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c, ok, err := readSummary(bytes.NewReader(b), form)
	want, _ := count(strings.NewReader(content), int64(len(content)))
	want.header.Stamp, want.header.Service = 0, "" // left to the header
	if !ok || err != nil || c != want {
		t.Errorf("%s: summary %+v, %v, %v\nwant %+v", path, c, ok, err, want)
	}
	counted, err := countUnpacked(bytes.NewReader(b), int64(len(b)), form)
	counted.header.Stamp, counted.header.Service = 0, ""
	if err != nil || counted != want {
		t.Errorf("%s: counted %+v, %v\nwant %+v", path, counted, err, want)
	}
	if got, err := unpacked(b, form); err != nil || string(got) != content {
		t.Errorf("%s holds %d bytes, %v; want %d", path, len(got), err, len(content))
	}
	tool := map[Compression]string{Gzip: "zcat", Zstd: "zstdcat"}[form]
	if _, err := exec.LookPath(tool); err != nil {
		t.Logf("%s NOT TESTED: not installed", tool)
		return
	}
	if got, err := exec.Command(tool, path).Output(); err != nil || string(got) != content {
		t.Errorf("%s %s: %d bytes, %v; want %d", tool, path, len(got), err, len(content))
	}
}

func TestSummaryIsStrict(t *testing.T) {
	const good = "logfs format=1 first=18441 last=18999 run=42 end=43 lines=540 bytes=65536 from=@400000006b00928d1908bac4 to=@4000000070000000000000ff"
	if c, ok := parseSummary(good); !ok || c.next != 19000 || c.run != 43 || c.header.Run != 42 || c.seen != 540 || c.whole != 65536 {
		t.Errorf("%+v, %v", c, ok)
	}
	for _, bad := range []string{
		"", "logfs", good + " ", good + "\n", " " + good, good[:len(good)-1], strings.Replace(good, "format=1", "format=2", 1),
		strings.Replace(good, "first=18441", "first=0", 1), strings.Replace(good, "540", "-540", 1) + "x", strings.Replace(good, "=18441", "=018441", 1),
	} {
		if _, ok := parseSummary(bad); ok {
			t.Errorf("%q accepted", bad)
		}
	}
}

// TestTailOfPacked compares Tail of compressed archives with Tail of the same
// files plain.
func TestTailOfPacked(t *testing.T) {
	for _, form := range forms {
		o := options(t.TempDir())
		d := mustOpen(t, o)
		mustAppend(t, d, lines(1, 15)+start(15, 4)+lost(16, 9)+lines(25, 60), 1, 60, 3)
		type limit struct {
			lines int
			bytes int64
		}
		want := map[limit]string{}
		for _, l := range []limit{{0, 0}, {1, 0}, {9, 0}, {20, 0}, {21, 0}, {44, 0}, {0, 500}, {0, 601}, {13, 790}, {0, 2000}} {
			s, err := d.Tail(l.lines, l.bytes)
			if err != nil {
				t.Fatal(err)
			}
			want[l] = show(s)
		}
		o.Compress = form
		if err := d.Configure(o); err != nil {
			t.Fatal(err)
		}
		waitPacked(d)
		for l, want := range want {
			s, err := d.Tail(l.lines, l.bytes)
			if got := show(s); err != nil || got != want {
				t.Errorf("%s: Tail(%d, %d): %v, %s\nwant %s", form.suffix(), l.lines, l.bytes, err, got, want)
			}
		}
		mustClose(t, d)
	}
}

// TestReaderWhileFileIsCompressed is in the middle of a file when that is
// compressed under its feet, open and not open.
func TestReaderWhileFileIsCompressed(t *testing.T) {
	for _, form := range forms {
		for _, atEnd := range []bool{false, true} {
			o := options(t.TempDir())
			d := mustOpen(t, o)
			mustAppend(t, d, lines(1, 6), 1, 6, 0)
			r, _ := d.From(1)
			buf := make([]byte, 130)
			s, err := r.Next(buf)
			next := s.First + uint64(strings.Count(string(s.Lines), "\n"))
			for atEnd && err == nil && next < 6 {
				s, err = r.Next(buf)
				next = s.First + uint64(strings.Count(string(s.Lines), "\n"))
			}
			if err != nil {
				t.Fatal(err)
			}
			mustAppend(t, d, lines(6, 45), 6, 45, 0)
			o.Compress = form
			if err := d.Configure(o); err != nil {
				t.Fatal(err)
			}
			waitPacked(d)
			got := readAll(t, r, 100)
			if len(got) != 1 || got[0].First != next || string(got[0].Lines) != lines(next, 45) {
				t.Errorf("%s, at the end %v: %d segments, want from %d to 44", form.suffix(), atEnd, len(got), next)
			}
			mustClose(t, d)
		}
	}
}

// TestNumbersFromPacked opens logdirs whose only memory of the numbers is a
// compressed archive, with its summary and without.
func TestNumbersFromPacked(t *testing.T) {
	for _, form := range forms {
		for _, summary := range []bool{true, false} {
			dir := t.TempDir()
			content := header(3, 40) + lines(40, 45) + start(45, 4) + lost(46, 10)
			layPacked(t, dir, archiveName(stamp(90), complete), content, form, summary)
			o := options(dir)
			d := mustOpen(t, o)
			if s := d.State(); s.Next != 56 || s.Run != 4 || s.Last != stamp(46) {
				t.Errorf("%s, summary %v: opened as %+v", form.suffix(), summary, s)
			}
			r, _ := d.From(42)
			if got := readAll(t, r, 1000); len(got) != 1 || got[0].First != 42 || got[0].Run != 3 {
				t.Errorf("%s, summary %v: %d segments", form.suffix(), summary, len(got))
			}
			r.Close()
			if s, err := d.Tail(2, 0); err != nil || join(s) != start(45, 4)+lost(46, 10) {
				t.Errorf("%s, summary %v: Tail %q, %v", form.suffix(), summary, join(s), err)
			}
			mustClose(t, d)
		}
	}
}

func layPacked(t *testing.T, dir, name, content string, form Compression, summary bool) {
	t.Helper()
	var b bytes.Buffer
	c, err := count(strings.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	if !summary {
		c.header.First = 0
	}
	w, err := packWriter(&b, form, &c, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	lay(t, dir, file{name: name + form.suffix(), content: b.String()})
}

// TestPlainAndCompressed opens what a crash between the two names leaves, and
// what only looks like it.
func TestPlainAndCompressed(t *testing.T) {
	const name = first + complete
	content := header(1, 1) + lines(1, 9)
	for _, form := range forms {
		for what, damage := range map[string]func(b string) string{
			"whole":     func(b string) string { return b },
			"truncated": func(b string) string { return b[:len(b)-9] },
			"damaged":   func(b string) string { return b[:len(b)-30] + "damage" + b[len(b)-24:] },
			"empty":     func(string) string { return "" },
			"no such":   func(string) string { return "garbage\n" },
		} {
			dir := t.TempDir()
			layPacked(t, dir, name, content, form, true)
			packed := filepath.Join(dir, name+form.suffix())
			b, err := os.ReadFile(packed)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(packed, []byte(damage(string(b))), 0o600); err != nil {
				t.Fatal(err)
			}
			lay(t, dir, file{name: name, content: content})
			lay(t, dir, file{name: currentName, content: header(1, 9) + text(9), clean: true})
			log := &countLog{}
			o := options(dir)
			o.Compress, o.Log = form, slog.New(log)
			d := mustOpen(t, o)
			waitPacked(d)
			r, _ := d.From(0)
			if got := readAll(t, r, 1000); len(got) != 1 || string(got[0].Lines) != lines(1, 10) {
				t.Errorf("%s, %s: %d segments", form.suffix(), what, len(got))
			}
			_, statErr := os.Lstat(filepath.Join(dir, name))
			if whole := what == "whole"; whole != (statErr != nil) || whole != (log.count("passed over") == 0) {
				t.Errorf("%s, %s: plain archive: %v, log %q", form.suffix(), what, statErr, log.buf.String())
			}
			if after, err := os.ReadFile(packed); err != nil || string(after) != damage(string(b)) {
				t.Errorf("%s, %s: the compressed file was changed: %v", form.suffix(), what, err)
			}
			mustClose(t, d)
		}
	}
}

// TestDamagedCompressedArchive is said once and jumped over.
func TestDamagedCompressedArchive(t *testing.T) {
	for _, form := range forms {
		dir := t.TempDir()
		layPacked(t, dir, first+complete, header(1, 1)+lines(1, 9), form, true)
		if err := os.Truncate(filepath.Join(dir, first+complete+form.suffix()), 190); err != nil {
			t.Fatal(err)
		}
		lay(t, dir, file{name: currentName, content: header(1, 9) + text(9), clean: true})
		log := &countLog{}
		o := options(dir)
		o.Log = slog.New(log)
		d := mustOpen(t, o)
		for range 2 {
			r, _ := d.From(0)
			got := readAll(t, r, 1000)
			if len(got) == 0 || !strings.HasSuffix(string(got[len(got)-1].Lines), text(9)) {
				t.Errorf("%s: %d segments", form.suffix(), len(got))
			}
			if s, err := d.Tail(0, 0); err != nil || join(s) != text(9) {
				t.Errorf("%s: Tail %q, %v", form.suffix(), join(s), err)
			}
		}
		if n := log.count("file passed over"); n != 1 {
			t.Errorf("%s: %d warnings, want 1", form.suffix(), n)
		}
		mustClose(t, d)
	}
}

// TestOneCompressionAtATime keeps the one place taken: Append and Close do not
// wait for it, and everything is compressed once it is free.
func TestOneCompressionAtATime(t *testing.T) {
	o := options(t.TempDir())
	o.Compress = Gzip
	packing <- struct{}{}
	d := mustOpen(t, o)
	mustAppend(t, d, lines(1, 25), 1, 25, 0)
	mustClose(t, d)
	packed := func() int {
		names, _ := filepath.Glob(filepath.Join(o.Dir, "@*.gz"))
		return len(names)
	}
	if packed() != 0 {
		t.Error("compressed without the place")
	}
	d = mustOpen(t, o)
	<-packing
	waitPacked(d)
	if packed() != 2 {
		t.Errorf("%d archives compressed, want 2", packed())
	}
	mustClose(t, d)
	checkFiles(t, o.Dir, lines(1, 25))
}

func TestLowPriority(t *testing.T) {
	var inside int
	if err := lowPriority(func() (err error) {
		inside, err = unix.Getpriority(unix.PRIO_PROCESS, unix.Gettid())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	outside, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		t.Fatal(err)
	}
	if inside != 20-19 || outside == inside {
		t.Errorf("priority %d inside, %d outside; want 1 inside only", inside, outside)
	}
}

// TestFailureOfEveryPackingCall lets every call fail that is made while
// archives are compressed, alone or with all after it, as a kill does; then
// the logdir is opened again.
func TestFailureOfEveryPackingCall(t *testing.T) {
	t.Parallel()
	for _, count := range []int{1, 1 << 30} {
		for n := 1; ; n++ {
			dir := t.TempDir()
			fs := newFaultFS(0, 0)
			o := options(dir)
			o.FS, o.Keep = fs, 4
			d := mustOpen(t, o)
			mustAppend(t, d, lines(1, 36), 1, 36, 0)
			fs.mu.Lock()
			fs.from, fs.count = fs.calls+n, count
			fs.mu.Unlock()
			o.Compress = forms[n%2]
			if err := d.Configure(o); err != nil {
				t.Fatal(err)
			}
			waitPacked(d)
			fs.mu.Lock()
			fired, log := fs.fired, strings.Join(fs.log[max(0, len(fs.log)-8):], "; ")
			fs.from = 0
			fs.mu.Unlock()
			if count < 10 {
				r, _ := d.From(0)
				if got := readAll(t, r, 1000); len(got) != 1 || string(got[0].Lines) != lines(1, 36) {
					t.Errorf("%d segments", len(got))
				}
				r.Close()
			}
			crash(d)
			d = mustOpen(t, o)
			waitPacked(d)
			mustAppend(t, d, lines(36, 40), 36, 40, 0)
			mustClose(t, d)
			checkFiles(t, dir, lines(1, 40))
			if names, _ := filepath.Glob(filepath.Join(dir, "@*"+complete)); len(names) > 0 {
				t.Errorf("%q are plain", names)
			}
			if t.Failed() {
				t.Fatalf("%d calls fail from %d on: %s", count, n, log)
			}
			if !fired {
				if n < 20 {
					t.Errorf("only %d calls", n)
				}
				break
			}
		}
	}
}

func BenchmarkPack(b *testing.B) {
	for _, form := range forms {
		b.Run(form.suffix(), func(b *testing.B) {
			content := []byte(header(1, 1) + lines(1, 17_000))
			c, err := count(bytes.NewReader(content), int64(len(content)))
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(content)))
			b.ReportAllocs()
			for b.Loop() {
				w, err := packWriter(new(bytes.Buffer), form, &c, "")
				if err != nil {
					b.Fatal(err)
				}
				if _, err := w.Write(content); err != nil {
					b.Fatal(err)
				}
				if err := w.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func show(segments []Segment) string {
	var b strings.Builder
	for _, s := range segments {
		fmt.Fprintf(&b, "from %d in run %d:\n%s", s.First, s.Run, s.Lines)
	}
	return b.String()
}
