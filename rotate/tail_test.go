package rotate

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// tailOracle is what Tail should return: the last lines of all, cut where the
// limits say.
func tailOracle(all []string, maxLines int, maxBytes int64) string {
	var bytes int64
	i := len(all)
	for i > 0 {
		bytes += int64(len(all[i-1]))
		if maxLines > 0 && len(all)-i == maxLines || maxBytes > 0 && bytes > maxBytes {
			break
		}
		i--
	}
	return strings.Join(all[i:], "")
}

func join(segments []Segment) string {
	var b strings.Builder
	for _, s := range segments {
		b.Write(s.Lines)
	}
	return b.String()
}

func TestTail(t *testing.T) {
	dir := t.TempDir()
	o := options(dir)
	o.Size = 200_000 // files longer than a block
	d := mustOpen(t, o)
	defer d.Close()
	var all []string
	numbers := map[string][2]uint64{} // number and run in force, by line
	next, run := uint64(1), uint64(0)
	put := func(line string, span uint64) {
		mustAppend(t, d, line, next, next+span, run)
		numbers[line] = [2]uint64{next, run}
		all = append(all, line)
		next += span
	}
	for i := range 12_000 {
		switch {
		case i%3000 == 10:
			put(start(next, run+1), 1)
			run++
		case i%2500 == 7:
			put(lost(next, 17), 17)
		default:
			put(text(next), 1)
		}
	}
	for _, maxLines := range []int{0, 1, 2, 999, 3000, 3334, 5000, 11_999, 12_000, 50_000} {
		for _, maxBytes := range []int64{0, 1, 59, 60, 61, 10_000, 64 << 10, 199_999, 300_000, 1 << 40} {
			segments, err := d.Tail(maxLines, maxBytes)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := join(segments), tailOracle(all, maxLines, maxBytes); got != want {
				t.Errorf("Tail(%d, %d): %d bytes, want %d", maxLines, maxBytes, len(got), len(want))
			}
			end := uint64(0)
			for _, s := range segments {
				head, _, _ := strings.Cut(string(s.Lines), "\n")
				if want := numbers[head+"\n"]; s.First != want[0] || s.Run != want[1] {
					t.Errorf("Tail(%d, %d): segment from %d in run %d, want %v", maxLines, maxBytes, s.First, s.Run, want)
				}
				if end != 0 && s.First != end {
					t.Errorf("Tail(%d, %d): segment from %d after one to %d", maxLines, maxBytes, s.First, end)
				}
				c := counter{next: s.First}
				c.lines(s.Lines)
				end = c.next
			}
		}
	}
}

func TestTailOpensOnlyWhatItNeeds(t *testing.T) {
	fs := newFaultFS(0, 0)
	o := options(t.TempDir())
	o.FS = fs
	d := mustOpen(t, o)
	defer d.Close()
	mustAppend(t, d, lines(1, 100), 1, 100, 0)
	at := len(fs.logged(0))
	if _, err := d.Tail(12, 0); err != nil {
		t.Fatal(err)
	}
	opens := 0
	for _, call := range fs.logged(at) {
		if strings.HasPrefix(call, "open ") {
			opens++
		}
	}
	if opens != 1 {
		t.Errorf("%d archives opened, want 1: there are nine lines in current, ten in each archive", opens)
	}
}

// TestTailPassesOver meets files that have no numbers, or wrong ones, a gap,
// a torn archive, and one that is gone.
func TestTailPassesOver(t *testing.T) {
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
	lay(t, dir, file{currentName, header(2, 16) + lines(16, 19), true})
	d := mustOpen(t, options(dir))
	defer d.Close()
	gone := archiveName(stamp(7), complete)
	if err := os.Remove(filepath.Join(dir, gone)); err != nil {
		t.Fatal(err)
	}
	segments, err := d.Tail(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := []Segment{
		{2, 1, []byte(lines(2, 4))},
		{12, 2, []byte(lines(12, 14))},
		{16, 2, []byte(lines(16, 19))},
	}
	if len(segments) != len(want) {
		t.Fatalf("%d segments, want %d", len(segments), len(want))
	}
	for i, s := range segments {
		if s.First != want[i].First || s.Run != want[i].Run || string(s.Lines) != string(want[i].Lines) {
			t.Errorf("segment %d: from %d in run %d: %q", i, s.First, s.Run, s.Lines)
		}
	}
}

// TestTailDuringAppend reads while files are written, rotated and deleted:
// what it returns is always without a gap at its newer end.
func TestTailDuringAppend(t *testing.T) {
	o := options(t.TempDir())
	o.Keep = 2
	d := mustOpen(t, o)
	defer d.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := uint64(1); n < 3000; n += 3 {
			if _, err := d.Append([]byte(lines(n, n+3)), n, n+3, 0); err != nil {
				t.Error(err)
			}
		}
	})
	for range 300 {
		segments, err := d.Tail(15, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range segments {
			end := s.First + uint64(strings.Count(string(s.Lines), "\n"))
			if string(s.Lines) != lines(s.First, end) {
				t.Fatalf("segment from %d holds %q", s.First, s.Lines)
			}
		}
	}
	wg.Wait()
}

func BenchmarkTail(b *testing.B) {
	o := options(b.TempDir())
	o.Size = 1 << 20
	d := mustOpen(b, o)
	defer d.Close()
	mustAppend(b, d, lines(1, 100_001), 1, 100_001, 0)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Tail(10_000, 4<<20); err != nil {
			b.Fatal(err)
		}
	}
}
