package rotate

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"logfs/ring/record"
)

// readAll reads to the end with a buffer of the given size and joins segments
// that follow each other.
func readAll(t testing.TB, r *Reader, size int) (all []Segment) {
	t.Helper()
	buf := make([]byte, size)
	var end, run uint64
	for {
		s, err := r.Next(buf)
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		c := counter{next: s.First, run: s.Run}
		c.lines(s.Lines)
		if len(s.Lines) == 0 || len(s.Lines) > size && strings.Count(string(s.Lines), "\n") > 1 {
			t.Fatalf("%d bytes in a buffer of %d", len(s.Lines), size)
		}
		if n := len(all); n > 0 && s.First == end && s.Run == run {
			all[n-1].Lines = append(all[n-1].Lines, s.Lines...)
		} else {
			s.Lines = []byte(string(s.Lines))
			all = append(all, s)
		}
		end, run = c.next, c.run
	}
}

// oracle is a logdir and, in a plain slice, what has been appended to it.
type oracle struct {
	d     *Logdir
	lines []numbered
	next  uint64
	run   uint64
}

type numbered struct {
	number, run uint64
	text        string
}

func (o *oracle) put(t testing.TB, line string, span uint64) {
	t.Helper()
	mustAppend(t, o.d, line, o.next, o.next+span, o.run)
	o.lines = append(o.lines, numbered{o.next, o.run, line})
	o.next += span
}

func (o *oracle) random(t testing.TB, rnd *rand.Rand) {
	t.Helper()
	switch rnd.IntN(20) {
	case 0:
		o.put(t, start(o.next, o.run+1), 1)
		o.run++
	case 1:
		n := rnd.Uint64N(30) + 1
		o.put(t, lost(o.next, n), n)
	case 2:
		o.put(t, string(record.Append(nil, stamp(o.next), record.Err, true, []byte(strings.Repeat("x", rnd.IntN(1500))))), 1)
	case 3:
		if err := o.d.Rotate(); err != nil {
			t.Fatal(err)
		}
	default:
		o.put(t, text(o.next), 1)
	}
}

// since returns what a Reader should find that begins at seq, if the oldest
// record is the one numbered oldest.
func (o *oracle) since(seq, oldest uint64) (s Segment) {
	var b strings.Builder
	for _, l := range o.lines {
		if l.number < max(seq, oldest) {
			continue
		}
		if s.First == 0 {
			s.First, s.Run = l.number, l.run
		}
		b.WriteString(l.text)
	}
	s.Lines = []byte(b.String())
	return s
}

func (o *oracle) check(t *testing.T, seq uint64, size int) {
	t.Helper()
	r, err := o.d.From(seq)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got := readAll(t, r, size)
	want := o.since(seq, o.oldest())
	switch {
	case len(want.Lines) == 0 && len(got) == 0:
	case len(got) != 1 || got[0].First != want.First || got[0].Run != want.Run || string(got[0].Lines) != string(want.Lines):
		t.Fatalf("From(%d), buffer %d: %d segments, want one from %d in run %d with %d bytes", seq, size, len(got), want.First, want.Run, len(want.Lines))
	}
	if r.src != nil {
		t.Error("a file is open at the end")
	}
}

func (o *oracle) oldest() uint64 {
	if f, ok, _ := o.d.view.find(0, 0); ok {
		return f.first
	}
	return 1
}

func TestReaderAgainstOracle(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		opt := options(t.TempDir())
		opt.Keep, opt.Compress = []int{1000, 3}[seed%2], Compression(seed/2%3)
		o := &oracle{d: mustOpen(t, opt), next: 1}
		for range 40 {
			for range rnd.IntN(12) {
				o.random(t, rnd)
			}
			for _, size := range []int{0, 1, 60, 61, 200, 64 << 10} {
				o.check(t, rnd.Uint64N(o.next+3), size)
			}
			o.check(t, 0, 500)
			if rnd.IntN(10) == 0 {
				mustClose(t, o.d)
				o.d = mustOpen(t, opt)
			}
		}
		mustClose(t, o.d)
	}
}

// TestReaderGoesOn reads to the end, where it gets EOF, and goes on after
// more was written, rotations included.
func TestReaderGoesOn(t *testing.T) {
	d := mustOpen(t, options(t.TempDir()))
	defer d.Close()
	r, err := d.From(1)
	if err != nil {
		t.Fatal(err)
	}
	next := uint64(1)
	for _, n := range []uint64{0, 1, 0, 9, 10, 1, 35, 0, 2} {
		mustAppend(t, d, lines(next, next+n), next, next+n, 0)
		got := readAll(t, r, 300)
		if join(got) != lines(next, next+n) || n > 0 && (len(got) != 1 || got[0].First != next) {
			t.Fatalf("after %d more lines: %d segments, %q", n, len(got), join(got))
		}
		next += n
	}
	r.Close()
	if _, err := r.Next(nil); !errors.Is(err, ErrClosed) {
		t.Errorf("closed Reader: %v", err)
	}
	r, _ = d.From(1)
	mustClose(t, d)
	if _, err := r.Next(nil); !errors.Is(err, ErrClosed) {
		t.Errorf("closed Logdir: %v", err)
	}
	if _, err := d.From(1); !errors.Is(err, ErrClosed) {
		t.Errorf("From of a closed Logdir: %v", err)
	}
}

// What a retired logdir has is read to its end, also when the next owner writes
// on, and rotates.
func TestReaderOfARetiredLogdir(t *testing.T) {
	o := options(t.TempDir())
	d := mustOpen(t, o)
	mustAppend(t, d, lines(1, 41), 1, 41, 0)
	r, err := d.From(1)
	if err != nil {
		t.Fatal(err)
	}
	s, err := r.Next(make([]byte, 100))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Retire(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Append([]byte(lines(41, 42)), 41, 42, 0); !errors.Is(err, ErrClosed) {
		t.Errorf("Append: %v, want %v", err, ErrClosed)
	}
	next := mustOpen(t, o)
	if !next.State().Clean {
		t.Error("not closed cleanly")
	}
	mustAppend(t, next, lines(41, 81), 41, 81, 0)
	if err := next.Rotate(); err != nil {
		t.Fatal(err)
	}
	if got := string(s.Lines) + join(readAll(t, r, 300)); got != lines(1, 41) {
		t.Errorf("read %q, want the lines 1 to 40", got)
	}
	mustClose(t, next)
	r.Close()
}

// TestReaderJumpsExactly lets retention delete what a reader has not read,
// also the file he is in the middle of.
func TestReaderJumpsExactly(t *testing.T) {
	o := options(t.TempDir())
	o.Keep = 2
	d := mustOpen(t, o)
	defer d.Close()
	mustAppend(t, d, lines(1, 26), 1, 26, 0) // ten lines a file
	inside, _ := d.From(1)
	defer inside.Close()
	first, err := inside.Next(make([]byte, 130))
	if err != nil || string(first.Lines) != lines(1, 2) {
		t.Fatalf("%q, %v", first.Lines, err)
	}
	outside, _ := d.From(15)
	mustAppend(t, d, lines(26, 100), 26, 100, 0)
	got := readAll(t, outside, 1000)
	if len(got) != 1 || got[0].First != 71 || string(got[0].Lines) != lines(71, 100) {
		t.Errorf("outside: %d segments, from %d", len(got), got[0].First)
	}
	got = readAll(t, inside, 1000)
	if len(got) != 1 || got[0].First != 71 || string(got[0].Lines) != lines(71, 100) {
		t.Errorf("inside: %d segments, from %d", len(got), got[0].First)
	}
}

// TestReaderOpensOnlyWhatItNeeds finds a number among many archives: one of
// them is opened, and none twice.
func TestReaderOpensOnlyWhatItNeeds(t *testing.T) {
	fs := newFaultFS(0, 0)
	o := options(t.TempDir())
	o.FS = fs
	d := mustOpen(t, o)
	defer d.Close()
	mustAppend(t, d, lines(1, 1000), 1, 1000, 0)
	at := len(fs.logged(0))
	r, _ := d.From(555)
	defer r.Close()
	s, err := r.Next(make([]byte, 100))
	if err != nil || s.First != 555 {
		t.Fatalf("from %d, %v", s.First, err)
	}
	opens := 0
	for _, call := range fs.logged(at) {
		if strings.HasPrefix(call, "open ") {
			opens++
		}
	}
	if opens != 1 {
		t.Errorf("%d files opened, want 1", opens)
	}
}

// TestReaderDuringRotation runs readers of several speeds beside a writer
// through 200 rotations. Whoever is fast enough gets every line; whoever is
// not gets every line but those that retention had deleted.
func TestReaderDuringRotation(t *testing.T) {
	t.Parallel()
	for i, keep := range []int{1000, 2, 1000, 2} {
		o := options(t.TempDir())
		o.Keep, o.Compress = keep, []Compression{None, None, Gzip, Zstd}[i]
		d := mustOpen(t, o)
		const end = 2001
		wrote := make(chan struct{}, end)
		var wg sync.WaitGroup
		wg.Go(func() {
			defer close(wrote)
			for n := uint64(1); n < end; n += 4 {
				if _, err := d.Append([]byte(lines(n, n+4)), n, n+4, 0); err != nil {
					t.Error(err)
				}
				wrote <- struct{}{}
			}
		})
		for pace := range 3 {
			wg.Go(func() { follow(t, d, keep, pace, end, wrote) })
		}
		wg.Wait()
		mustClose(t, d)
	}
}

// follow reads up to the number end; at pace 0 as fast as it can, else so
// many lines for each time the writer has written.
func follow(t *testing.T, d *Logdir, keep, pace int, end uint64, wrote <-chan struct{}) {
	r, err := d.From(1)
	if err != nil {
		t.Error(err)
		return
	}
	defer r.Close()
	next, jumps := uint64(1), 0
	buf := make([]byte, 61*max(pace, 1))
	for next < end {
		if pace > 0 {
			<-wrote
		}
		s, err := r.Next(buf)
		if err == io.EOF {
			continue
		}
		if err != nil {
			t.Error(err)
			return
		}
		if s.First != next {
			jumps++
		}
		if s.First < next || s.First > next && (keep > 500 || s.First%10 != 1) {
			t.Errorf("pace %d: segment from %d, want %d or the first number of a file", pace, s.First, next)
		}
		next = s.First + uint64(strings.Count(string(s.Lines), "\n"))
		if string(s.Lines) != lines(s.First, next) {
			t.Errorf("pace %d: segment from %d holds %q", pace, s.First, s.Lines)
		}
	}
}

// TestReaderPassesOver meets the files of TestTailPassesOver, and a damaged
// line. Each number is jumped over that cannot be had, and no other.
func TestReaderPassesOver(t *testing.T) {
	dir := t.TempDir()
	for i, content := range []string{
		"@400000006b00928d1908bac4 of multilog\n",
		header(1, 1) + lines(1, 4) + "@4000 torn",
		header(1, 9) + lines(9, 12),
		header(1, 2) + lines(2, 4), // numbers taken
		"",
		header(2, 12),
		header(2, 12) + lines(12, 14),
		header(2, 14) + lines(14, 16),
	} {
		lay(t, dir, file{archiveName(stamp(uint64(i)), complete), content, false})
	}
	lay(t, dir, file{currentName, header(2, 16) + text(16) + "\x00\x00\n" + text(18), true})
	d := mustOpen(t, options(dir))
	defer d.Close()
	if err := os.Remove(filepath.Join(dir, archiveName(stamp(7), complete))); err != nil {
		t.Fatal(err)
	}
	r, _ := d.From(0)
	defer r.Close()
	want := []Segment{
		{1, 1, []byte(text(1))},
		{2, 1, []byte(lines(2, 4))},
		{12, 2, []byte(lines(12, 14))},
		{16, 2, []byte(text(16))},
		{18, 2, []byte(text(18))},
	}
	var got []Segment
	for {
		s, err := r.Next(make([]byte, 1000))
		if err != nil {
			break
		}
		got = append(got, s)
	}
	if len(got) != len(want) {
		t.Fatalf("%d segments, want %d", len(got), len(want))
	}
	for i, s := range got {
		if s.First != want[i].First || s.Run != want[i].Run || string(s.Lines) != string(want[i].Lines) {
			t.Errorf("segment %d: from %d in run %d: %q", i, s.First, s.Run, s.Lines)
		}
	}
}

func BenchmarkReader(b *testing.B) {
	o := options(b.TempDir())
	o.Size = 1 << 20
	d := mustOpen(b, o)
	defer d.Close()
	mustAppend(b, d, lines(1, 100_001), 1, 100_001, 0)
	buf := make([]byte, 128<<10)
	b.SetBytes(60 * 100_000)
	b.ReportAllocs()
	for b.Loop() {
		r, err := d.From(1)
		if err != nil {
			b.Fatal(err)
		}
		for err == nil {
			_, err = r.Next(buf)
		}
		r.Close()
	}
}
