package rotate

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"logfs/ring/record"
)

func TestAppendRotatesAtLineBoundaries(t *testing.T) {
	for _, batch := range []uint64{1, 2, 7, 40, 100} {
		dir := t.TempDir()
		o := options(dir)
		d := mustOpen(t, o)
		for n := uint64(1); n <= 100; n += batch {
			next := min(n+batch, 101)
			mustAppend(t, d, lines(n, next), n, next, 0)
		}
		want := d.DiskBytes()
		mustClose(t, d)
		checkFiles(t, dir, lines(1, 101))
		names, content := files(t, dir)
		var bytes int64
		for i, name := range names {
			size := int64(len(content[name]))
			bytes += size
			if size > o.Size || name != currentName && size+60 <= o.Size {
				t.Errorf("batches of %d: file %d has %d bytes", batch, i, size)
			}
		}
		if bytes != want {
			t.Errorf("batches of %d: DiskBytes %d, files have %d", batch, want, bytes)
		}
	}
}

func TestLineLongerThanSize(t *testing.T) {
	dir := t.TempDir()
	d := mustOpen(t, options(dir))
	long := string(record.Append(nil, stamp(3), record.Err, true, []byte(strings.Repeat("x", 2000))))
	all := lines(1, 3) + long + lines(4, 6)
	mustAppend(t, d, all, 1, 6, 0)
	mustClose(t, d)
	checkFiles(t, dir, all)
	names, content := files(t, dir)
	if len(names) != 3 || !strings.HasSuffix(content[names[1]], long) {
		t.Errorf("%d files, want the long line alone in the second of three", len(names))
	}
}

func TestNumbersAndRunsSurviveRestart(t *testing.T) {
	dir := t.TempDir()
	var all string
	next, run := uint64(1), uint64(0)
	put := func(d *Logdir, s string, span uint64) {
		mustAppend(t, d, s, next, next+span, run)
		all += s
		next += span
	}
	for i := range uint64(6) {
		d := mustOpen(t, options(dir))
		if s := d.State(); s.Next != next || s.Run != run || !s.Clean || s.New != (i == 0) {
			t.Fatalf("opened as %+v, want next %d run %d", s, next, run)
		}
		put(d, lines(next, next+1)+start(next+1, run+1)+lines(next+2, next+9), 9)
		run++
		put(d, lost(next, 1000)+lines(next+1000, next+1003), 1003)
		if i%2 == 0 {
			if err := d.Rotate(); err != nil {
				t.Fatal(err)
			}
		}
		mustClose(t, d)
	}
	checkFiles(t, dir, all)
}

func TestRotateFindsRunOfLastBatch(t *testing.T) {
	dir := t.TempDir()
	o := options(dir)
	o.Size = 1 << 20
	d := mustOpen(t, o)
	forged := string(record.Append(nil, stamp(2), record.Out, false, []byte("@4 = start run=99 pid=1")))
	all := start(1, 7) + forged
	mustAppend(t, d, all, 1, 3, 0)
	if err := d.Rotate(); err != nil {
		t.Fatal(err)
	}
	if err := d.Rotate(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, d)
	checkFiles(t, dir, all)
	names, content := files(t, dir)
	if len(names) != 2 || !strings.Contains(content[currentName], " run=7 first=3\n") {
		t.Errorf("%d files, current %q; want two, and run 7 from number 3", len(names), content[currentName])
	}
}

func TestAppendRefusesWrongNumbers(t *testing.T) {
	d := mustOpen(t, options(t.TempDir()))
	defer d.Close()
	mustAppend(t, d, lines(1, 4), 1, 4, 0)
	for _, c := range []struct {
		name, lines string
		first, next uint64
	}{
		{"gap", lines(5, 6), 5, 6},
		{"repeat", lines(3, 4), 3, 4},
		{"too few", lines(4, 5), 4, 6},
		{"too many", lines(4, 7), 4, 6},
		{"backwards", "", 4, 3},
		{"torn", strings.TrimSuffix(text(4), "\n"), 4, 5},
		{"mark too short", lost(4, 5) + text(10), 10, 11},
		{"mark too long", lost(4, 7) + text(10), 10, 11},
		{"mark not first", text(4) + lost(5, 5), 10, 10},
	} {
		written, err := d.Append([]byte(c.lines), c.first, c.next, 0)
		if !errors.Is(err, ErrNumbers) || written != 4 {
			t.Errorf("%s: written %d, error %v", c.name, written, err)
		}
	}
	mustAppend(t, d, "", 4, 4, 0)
	mustAppend(t, d, lost(4, 6)+text(10), 10, 11, 0) // first after the mark
	mustAppend(t, d, lost(11, 3), 11, 14, 0)         // first at the mark
	checkFiles(t, d.opt.Dir, lines(1, 4)+lost(4, 6)+text(10)+lost(11, 3))
}

func TestLabelsGrowWhenClockStepsBack(t *testing.T) {
	dir := t.TempDir()
	o := options(dir)
	clock := noon
	o.Now = func() record.Stamp { return clock }
	o.Keep = 5
	const future = "@4000000070000000000000ff.u"
	if err := os.WriteFile(filepath.Join(dir, future), []byte("of another logger\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	d := mustOpen(t, o)
	for n := uint64(1); n < 9; n++ {
		mustAppend(t, d, text(n), n, n+1, 0)
		if err := d.Rotate(); err != nil {
			t.Fatal(err)
		}
		clock -= 86_400_000_000_000
	}
	mustClose(t, d)
	checkFiles(t, dir, lines(4, 9)) // the newest five, the future one deleted as oldest
	names, _ := files(t, dir)
	if names[0] <= future {
		t.Errorf("label %s is not after %s", names[0], future)
	}
}

func TestLabelNotBeforeLastLine(t *testing.T) {
	dir := t.TempDir()
	o := options(dir)
	o.Now = func() record.Stamp { return base }
	d := mustOpen(t, o)
	mustAppend(t, d, text(5), 1, 2, 0)
	if err := d.Rotate(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, d)
	names, _ := files(t, dir)
	if want := archiveName(stamp(5), complete); names[0] != want {
		t.Errorf("archive %s, want %s", names[0], want)
	}
}

func TestLinkNeverOverwrites(t *testing.T) {
	dir := t.TempDir()
	d := mustOpen(t, options(dir))
	taken := filepath.Join(dir, archiveName(noon, complete))
	if err := os.WriteFile(taken, []byte("mine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, d, text(1), 1, 2, 0)
	if err := d.Rotate(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, d)
	_, content := files(t, dir)
	if content[filepath.Base(taken)] != "mine\n" {
		t.Errorf("the file of that name holds %q", content[filepath.Base(taken)])
	}
	if got := content[archiveName(noon+1, complete)]; !strings.HasSuffix(got, text(1)) {
		t.Errorf("the archive holds %q", got)
	}
}

func TestRetentionLeavesForeignNamesAlone(t *testing.T) {
	dir := t.TempDir()
	foreign := []string{
		"@400000006b00928d1908bac4", "@400000006b00928d1908bac4.s.bz2", "@400000006b00928d1908bac4.s.gz.zst", "@400000006b00928d1908bac.s",
		"@400000006B00928D1908BAC4.s", "@400000006b00928dffffffff.s", "@400000006b00928d1908bac4.t",
		"x@400000006b00928d1908bac4.s", "notes", "state", "processed", "current.bak",
	}
	for _, name := range foreign {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	directory := filepath.Join(dir, "@400000006b00928d1908bac5.s")
	if err := os.Mkdir(directory, 0o700); err != nil {
		t.Fatal(err)
	}
	o := options(dir)
	o.Keep = 2
	d := mustOpen(t, o)
	mustAppend(t, d, lines(1, 201), 1, 201, 0)
	mustClose(t, d)
	for _, name := range foreign {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != name {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	if err := os.Remove(directory); err != nil {
		t.Error(err)
	}
	names, _ := files(t, dir)
	if len(names) != 3 {
		t.Errorf("files %q, want two archives and current", names)
	}
}

func TestUndeletableArchiveDoesNotStopTheLog(t *testing.T) {
	dir := t.TempDir()
	o := options(dir)
	log := &countLog{}
	o.Log, o.Keep = slog.New(log), 1
	d := mustOpen(t, o)
	for n := uint64(1); n < 6; n++ {
		mustAppend(t, d, text(n), n, n+1, 0)
		if err := d.Rotate(); err != nil {
			t.Fatal(err)
		}
		if n == 1 {
			stuck := filepath.Join(dir, d.archives[0].name)
			if err := os.Remove(stuck); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(stuck, 0o700); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(d.archives) != 2 || log.count("archive not deleted") != 1 {
		t.Errorf("%d archives, log %q; want the stuck one and the newest, and one warning", len(d.archives), log.buf.String())
	}
	mustClose(t, d)
}

func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store", "web")
	defer unix.Umask(unix.Umask(0o027))
	d := mustOpen(t, options(dir))
	if m := mode(t, dir); m != 0o750 {
		t.Errorf("directory has mode %o", m)
	}
	if m := modeOf(t, dir); m != 0o640 {
		t.Errorf("current in use has mode %o", m)
	}
	mustAppend(t, d, lines(1, 30), 1, 30, 0)
	if m := modeOf(t, dir); m != 0o640 {
		t.Errorf("current after a rotation has mode %o", m)
	}
	mustClose(t, d)
	if m := modeOf(t, dir); m != 0o740 {
		t.Errorf("current closed cleanly has mode %o", m)
	}
	d = mustOpen(t, options(dir))
	if m := modeOf(t, dir); m != 0o640 {
		t.Errorf("current in use again has mode %o", m)
	}
	mustClose(t, d)
}

func TestCurrentDeletedByOthers(t *testing.T) {
	dir := t.TempDir()
	d := mustOpen(t, options(dir))
	mustAppend(t, d, lines(1, 3), 1, 3, 0)
	must(t, d.Sync())
	d.syncer.stop()
	must(t, os.Remove(filepath.Join(dir, currentName)))
	mustAppend(t, d, lines(3, 30), 3, 30, 0)
	mustClose(t, d)
	checkFiles(t, dir, lines(3, 30))
}

// TestCurrentTruncatedByOthers: a torn line is cut off, but what others have
// cut off does not come back as NULs.
func TestCurrentTruncatedByOthers(t *testing.T) {
	dir := t.TempDir()
	fs := newFaultFS(0, 0)
	o := options(dir)
	o.FS = fs
	d := mustOpen(t, o)
	mustAppend(t, d, lines(1, 9), 1, 9, 0)
	if err := os.Truncate(filepath.Join(dir, currentName), 0); err != nil {
		t.Fatal(err)
	}
	fs.from, fs.count = fs.calls+1, 1
	if _, err := d.Append([]byte(text(9)), 9, 10, 0); err == nil {
		t.Fatal("no fault")
	}
	crash(d)
	if _, content := files(t, dir); strings.Contains(content[currentName], "\x00") {
		t.Errorf("current holds %q", content[currentName])
	}
}

func TestArchivesDeletedByOthers(t *testing.T) {
	dir := t.TempDir()
	o := options(dir)
	log := &countLog{}
	o.Keep, o.Log = 3, slog.New(log)
	d := mustOpen(t, o)
	mustAppend(t, d, lines(1, 35), 1, 35, 0)
	for _, a := range d.archives {
		if err := os.Remove(filepath.Join(dir, a.name)); err != nil {
			t.Fatal(err)
		}
	}
	mustAppend(t, d, lines(35, 100), 35, 100, 0)
	if len(d.archives) != 3 || log.buf.Len() > 0 {
		t.Errorf("%d archives, log %q; want 3 and nothing", len(d.archives), log.buf.String())
	}
	mustClose(t, d)
}

func TestClosedLogdir(t *testing.T) {
	d := mustOpen(t, options(t.TempDir()))
	mustClose(t, d)
	mustClose(t, d)
	_, err := d.Append([]byte(text(1)), 1, 2, 0)
	_, tailErr := d.Tail(0, 0)
	for _, err := range []error{err, d.Rotate(), d.Sync(), tailErr} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("error %v, want ErrClosed", err)
		}
	}
}

func TestServiceNamesThatAHeaderCannotCarry(t *testing.T) {
	for _, name := range []string{"", "a b", "a\nb", "a\tb"} {
		o := options(filepath.Join(t.TempDir(), "d"))
		o.Service = name
		if _, err := Open(o); err == nil {
			t.Errorf("service %q accepted", name)
		}
		if _, err := os.Lstat(o.Dir); err == nil {
			t.Errorf("service %q: directory made", name)
		}
	}
}

func TestAppendDoesNotAllocate(t *testing.T) {
	o := options(t.TempDir())
	o.Size = 1 << 40
	d := mustOpen(t, o)
	defer d.Close()
	batch := []byte(lines(1, 65))
	next := uint64(1)
	allocs := testing.AllocsPerRun(500, func() {
		if _, err := d.Append(batch, next, next+64, 1); err != nil {
			t.Fatal(err)
		}
		next += 64
	})
	if allocs != 0 {
		t.Errorf("%v allocations per Append", allocs)
	}
}

func TestRunAfter(t *testing.T) {
	forged := string(record.Append(nil, stamp(1), record.Out, false, []byte(start(1, 5)[:40])))
	for _, c := range []struct {
		name, lines string
		want        uint64
	}{
		{"nothing", "", 3},
		{"no mark", lines(1, 9), 3},
		{"first line", start(1, 4) + lines(2, 5), 4},
		{"last line", lines(1, 5) + start(5, 8), 8},
		{"two", start(1, 4) + text(2) + start(3, 5), 5},
		{"forged", forged, 3},
		{"forged and true", forged + start(2, 6) + forged, 6},
		{"not a mark", strings.Repeat("= start run=9\n", 3), 3},
	} {
		if got := runAfter([]byte(c.lines), 3); got != c.want {
			t.Errorf("%s: run %d, want %d", c.name, got, c.want)
		}
		slow := counter{run: 3}
		slow.lines([]byte(c.lines))
		if slow.run != c.want {
			t.Errorf("%s: line by line run %d, want %d", c.name, slow.run, c.want)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	line := record.Append(nil, base, record.Out, false, []byte(strings.Repeat("x", 100-record.StampLen-4)))
	batch := slices.Repeat(line, 64<<10/len(line))
	n := uint64(len(batch) / len(line))
	d, err := Open(Options{Dir: b.TempDir(), Service: "web", Size: 1 << 20, Keep: 10})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(batch)))
	b.ReportAllocs()
	next := uint64(1)
	for b.Loop() {
		if _, err := d.Append(batch, next, next+n, 1); err != nil {
			b.Fatal(err)
		}
		next += n
	}
	if err := d.Close(); err != nil {
		b.Fatal(err)
	}
}
