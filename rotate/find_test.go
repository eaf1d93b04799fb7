package rotate

import (
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"logfs/ring/record"
)

// TestPastAgainstOracle compares what is found, measured and said of runs with
// a plain slice, while the logdir lives.
func TestPastAgainstOracle(t *testing.T) {
	t.Parallel()
	seeds := uint64(8)
	if os.Getenv("LOGFS_LONG") == "1" {
		seeds = 300
	}
	for seed := range seeds {
		rnd := rand.New(rand.NewPCG(seed, 5))
		opt := options(t.TempDir())
		opt.Size, opt.Keep, opt.Compress = 5000, []int{1000, 6}[seed%2], Compression(seed/2%3)
		opt.FS = newFaultFS(0, 0) // no fsync
		p := &past{opt: opt, rnd: rnd, clock: base, next: 1}
		label := noon
		p.opt.Now = func() record.Stamp { label += record.Stamp(time.Second); return label }
		p.open(t)
		for i := range 200 {
			p.step(t)
			if p.check(t); t.Failed() {
				t.Fatalf("seed %d, step %d", seed, i)
			}
		}
		mustClose(t, p.d)
	}
}

// TestPastBesideAppend asks while everything goes on: what is there for good
// has the same answer each time.
func TestPastBesideAppend(t *testing.T) {
	o := options(t.TempDir())
	o.Size, o.Compress = 5000, Zstd
	d := mustOpen(t, o)
	defer d.Close()
	mustAppend(t, d, start(1, 1)+lines(2, 500), 1, 500, 0)
	want, err := d.Measure(3, 490)
	if err != nil {
		t.Fatal(err)
	}
	var asking sync.WaitGroup
	stop := make(chan struct{})
	for range 3 {
		asking.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if got, err := d.Measure(3, 490); err != nil || got != want {
					t.Errorf("Measure: %+v, %v", got, err)
				}
				if seq, ok, err := d.Find(stamp(77)); err != nil || !ok || seq != 77 {
					t.Errorf("Find: %d, %v, %v", seq, ok, err)
				}
				if runs := d.Runs(); len(runs) != 1 || runs[0].Began != stamp(1) || runs[0].Last < 499 {
					t.Errorf("Runs: %+v", runs)
				}
				if all, err := d.Measure(0, math.MaxUint64); err != nil || all.Out.Records < 498 {
					t.Errorf("Measure of all: %+v, %v", all, err)
				}
			}
		})
	}
	for n := uint64(500); n < 4000; n += 10 {
		mustAppend(t, d, lines(n, n+10), n, n+10, 1)
	}
	waitPacked(d)
	close(stop)
	asking.Wait()
	all, err := d.Measure(0, math.MaxUint64)
	if err != nil || all.Out.Records != 3998 || all.Marks.Records != 1 {
		t.Errorf("Measure of all: %+v, %v", all, err)
	}
}

// opened are the archives that were opened since the given call.
func opened(fs *faultFS, from int) (names []string) {
	for _, call := range fs.logged(from) {
		if name, ok := strings.CutPrefix(call, "open @"); ok {
			names = append(names, name)
		}
	}
	return names
}

func calls(fs *faultFS) int {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return len(fs.log)
}

// TestFewFilesAreOpened has a hundred archives, plain and compressed, just
// written and after a restart.
func TestFewFilesAreOpened(t *testing.T) {
	for _, form := range []Compression{None, Gzip, Zstd} {
		fs := newFaultFS(0, 0)
		o := options(t.TempDir())
		o.FS, o.Compress = fs, form
		d := mustOpen(t, o)
		n := uint64(1)
		for run := uint64(0); n < 1000; n += 10 {
			s := start(n, run+1) + lines(n+1, n+10)
			mustAppend(t, d, s, n, n+10, run)
			run++
		}
		if archives := len(d.archives); archives < 90 {
			t.Fatalf("%d archives", archives)
		}
		for _, restarted := range []bool{false, true} {
			if restarted {
				mustClose(t, d)
				d = mustOpen(t, o)
			}
			waitPacked(d)
			for at := uint64(1); at < n; at += 7 {
				from := calls(fs)
				if seq, ok, err := d.Find(stamp(at)); seq != at || !ok || err != nil {
					t.Fatalf("Find %d: %d, %v, %v", at, seq, ok, err)
				}
				if names := opened(fs, from); len(names) > 2 {
					t.Fatalf("%s: Find opens %q", form.suffix(), names)
				}
			}
			fewForAll(t, d, fs, form, n)
		}
		mustClose(t, d)
	}
}

// fewForAll asks for all there is, twice: only plain archives are opened, and
// only the first time.
func fewForAll(t *testing.T, d *Logdir, fs *faultFS, form Compression, n uint64) {
	t.Helper()
	for i := range 2 {
		from := calls(fs)
		if runs := d.Runs(); len(runs) != 100 || runs[99].Last != n-1 {
			t.Fatalf("%d runs", len(runs))
		}
		names := opened(fs, from)
		if want := len(d.archives); form == None && i == 0 && len(names) != want {
			t.Errorf("Runs opens %d plain archives, want %d", len(names), want)
		} else if (form != None || i > 0) && len(names) > 0 {
			t.Errorf("%s: Runs opens %d archives", form.suffix(), len(names))
		}
		from = calls(fs)
		if s, err := d.Measure(55, n); err != nil || s.Out.Records+s.Marks.Records != int64(n-55) {
			t.Fatalf("Measure: %+v, %v", s, err)
		}
		if names := opened(fs, from); len(names) > 1 {
			t.Errorf("%s: Measure opens %q", form.suffix(), names)
		}
	}
}

// A clock that has stepped back inside a file is known from the header behind
// it, also after a restart.
func TestFindAfterAStepInsideAFile(t *testing.T) {
	for _, form := range []Compression{None, Gzip, Zstd} {
		o := options(t.TempDir())
		o.Size = 1 << 20
		d := mustOpen(t, o)
		mustAppend(t, d, lines(1, 5), 1, 5, 0)
		if err := d.Rotate(); err != nil {
			t.Fatal(err)
		}
		mustAppend(t, d, lines(500, 505)+lines(100, 105), 5, 15, 0)
		if err := d.Rotate(); err != nil {
			t.Fatal(err)
		}
		mustAppend(t, d, lines(105, 110), 15, 20, 0)
		for _, restarted := range []bool{false, true} {
			if restarted {
				mustClose(t, d)
				o.Compress = form
				d = mustOpen(t, o)
				waitPacked(d)
			}
			for at, want := range map[uint64]uint64{3: 3, 5: 5, 108: 5, 500: 5, 504: 9} {
				if seq, ok, err := d.Find(stamp(at)); seq != want || !ok || err != nil {
					t.Errorf("%s, restarted %v: Find %d: %d, %v, %v; want %d", form.suffix(), restarted, at, seq, ok, err, want)
				}
			}
			if seq, ok, err := d.Find(stamp(505)); ok || err != nil {
				t.Errorf("Find after the end: %d, %v", seq, err)
			}
		}
		mustClose(t, d)
	}
}

// A damaged compressed archive says more than can be read. Once a reader has
// found that, it is not believed.
func TestPastOfADamagedArchive(t *testing.T) {
	for _, form := range forms {
		log := &countLog{}
		o := options(t.TempDir())
		o.Compress, o.Log = form, slog.New(log)
		d := mustOpen(t, o)
		mustAppend(t, d, start(1, 1)+lines(2, 40), 1, 40, 0)
		waitPacked(d)
		names, _ := files(t, o.Dir)
		mustClose(t, d)
		path := filepath.Join(o.Dir, names[1])
		if err := os.Truncate(path, sizeOf(t, path)-12); err != nil {
			t.Fatal(err)
		}
		d = mustOpen(t, o)
		r, _ := d.From(0)
		var want survey
		for _, s := range readAll(t, r, 1000) {
			want.add(s, math.MaxUint64)
		}
		r.Close()
		if got, err := d.Measure(0, math.MaxUint64); err != nil || got != want.sizes || got.Out.Records > 37 {
			t.Errorf("%s: Measure %+v, %v; a reader gets %+v", form.suffix(), got, err, want.sizes)
		}
		if got := d.Runs(); !slices.Equal(got, want.runs) {
			t.Errorf("%s: Runs %+v", form.suffix(), got)
		}
		if n := log.count("file passed over"); n != 1 {
			t.Errorf("%s: %d warnings", form.suffix(), n)
		}
		mustClose(t, d)
	}
}

// An archive that somebody deletes is missing when a reader has missed it, and
// the mark for its lines has a size.
func TestPastOfADeletedArchive(t *testing.T) {
	for _, form := range []Compression{None, Gzip} {
		o := options(t.TempDir())
		o.Compress = form
		d := mustOpen(t, o)
		mustAppend(t, d, start(1, 1)+lines(2, 40), 1, 40, 0)
		waitPacked(d)
		if s, err := d.Measure(0, 99); err != nil || s.Out.Records != 38 {
			t.Fatalf("%+v, %v", s, err)
		}
		names, _ := files(t, o.Dir)
		if err := os.Remove(filepath.Join(o.Dir, names[1])); err != nil {
			t.Fatal(err)
		}
		r, _ := d.From(0)
		var want survey
		for _, s := range readAll(t, r, 1000) {
			want.add(s, math.MaxUint64)
		}
		r.Close()
		for range 2 {
			if got, err := d.Measure(0, 99); err != nil || got != want.sizes || got.Marks.Records != 2 || got.Out.Records > 30 {
				t.Errorf("Measure %+v, %v; a reader gets %+v", got, err, want.sizes)
			}
			if got := d.Runs(); !slices.Equal(got, want.runs) {
				t.Errorf("Runs %+v", got)
			}
		}
		mustClose(t, d)
	}
}

// Of numbers that two files have readers get those of the newer one, whatever
// the older one says, and it says nothing once it is compressed.
func TestPastOfNumbersUsedTwice(t *testing.T) {
	name := archiveName(stamp(50), complete)
	for _, form := range forms {
		for _, packed := range []bool{false, true} {
			o := options(t.TempDir())
			o.Compress = form
			lay(t, o.Dir, file{name: name, content: header(0, 1) + start(1, 1) + lines(2, 30)})
			lay(t, o.Dir, file{name: currentName, content: header(1, 30) + text(30), clean: true})
			if packed {
				d := mustOpen(t, o)
				waitPacked(d)
				mustClose(t, d)
			}
			lay(t, o.Dir, file{name: currentName, content: header(1, 20) + text(20), clean: true})
			d := mustOpen(t, o)
			waitPacked(d)
			f, err := d.dir.Open(name+form.suffix(), os.O_RDONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if n, err := readNotes(f, form); err != nil || !n.ok || n.surveyed != packed {
				t.Errorf("%s: surveyed %v, %v", form.suffix(), n.surveyed, err)
			}
			f.Close()
			if s, err := d.Measure(0, 99); err != nil || s.Out.Records != 19 || s.Marks.Records != 1 {
				t.Errorf("%s, packed before %v: %+v, %v", form.suffix(), packed, s, err)
			}
			if runs := d.Runs(); len(runs) != 1 || runs[0].Last != 20 {
				t.Errorf("%s: %+v", form.suffix(), runs)
			}
			mustClose(t, d)
		}
	}
}

func TestPastOfAClosedLogdir(t *testing.T) {
	d := mustOpen(t, options(t.TempDir()))
	mustAppend(t, d, start(1, 1)+lines(2, 40), 1, 40, 0)
	mustClose(t, d)
	if _, _, err := d.Find(0); err != ErrClosed {
		t.Errorf("Find: %v", err)
	}
	if _, err := d.Measure(0, 9); err != ErrClosed {
		t.Errorf("Measure: %v", err)
	}
	if runs := d.Runs(); runs != nil {
		t.Errorf("Runs: %+v", runs)
	}
}

func TestSurveyIsStrict(t *testing.T) {
	v := survey{first: 7, next: 90, run: 3, top: base, runs: []RunInfo{{3, 7, 8, 0, base}, {4, 9, 89, base + 1, 0}}}
	v.sizes = record.Sizes{Out: record.Tally{Records: 1, Text: 2, Bytes: 3, Seq: 4}, Breaks: 5, First: record.Err, Open: record.Out}
	good := v.text()
	if got, ok := parseSurvey(good); !ok || got.text() != good || fmt.Sprint(got) != fmt.Sprint(v) {
		t.Errorf("%+v, %v", got, ok)
	}
	empty := (&survey{}).text()
	if got, ok := parseSurvey(empty); !ok || got.next != 0 || got.runs != nil {
		t.Errorf("%+v, %v", got, ok)
	}
	for _, bad := range []string{
		"", "logfs", good + " ", good + "\n", " " + good, good[:len(good)-1], good + ";", strings.Replace(good, "survey=1", "survey=2", 1),
		strings.Replace(good, "first=7", "first=07", 1), strings.Replace(good, "begins=e", "begins=ex", 1), strings.Replace(good, ";", ";;", 1),
		strings.Replace(good, "3:7-8", "3:7", 1), strings.Replace(good, "top=@4", "top=@5", 1), good + "\x00", strings.TrimSuffix(good, "-"),
	} {
		if _, ok := parseSurvey(bad); ok {
			t.Errorf("%q accepted", bad)
		}
	}
}

func FuzzSurvey(f *testing.F) {
	f.Add((&survey{}).text())
	v := survey{first: 7, next: 90, run: 3, top: base, runs: []RunInfo{{3, 7, 8, 0, base}, {4, 9, 89, base + 1, 0}}}
	f.Add(v.text())
	f.Fuzz(func(t *testing.T, text string) {
		if v, ok := parseSurvey(text); ok && v.text() != text {
			t.Errorf("%q accepted", text)
		}
		ofExtraField([]byte(text))
	})
}

// An archive with more runs than the extra field can say is unpacked once.
func TestManyRuns(t *testing.T) {
	for _, form := range forms {
		fs := newFaultFS(0, 0)
		o := options(t.TempDir())
		o.FS, o.Size, o.Compress = fs, 1<<20, form
		d := mustOpen(t, o)
		var b strings.Builder
		for n := uint64(1); n <= 5000; n++ {
			b.WriteString(start(n, n))
		}
		mustAppend(t, d, b.String(), 1, 5001, 0)
		if err := d.Rotate(); err != nil {
			t.Fatal(err)
		}
		waitPacked(d)
		mustClose(t, d)
		d = mustOpen(t, o)
		for _, want := range []int{1, 0} {
			from := calls(fs)
			if runs := d.Runs(); len(runs) != 5000 || runs[4999].Began != stamp(5000) {
				t.Errorf("%s: %d runs", form.suffix(), len(runs))
			}
			if names := opened(fs, from); len(names) != want {
				t.Errorf("%s: opened %q", form.suffix(), names)
			}
		}
		mustClose(t, d)
	}
}
