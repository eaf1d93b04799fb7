package capture

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"
)

// show writes pieces down: a line as it is, a part of one with a + after it.
func show(pieces []Piece) []string {
	shown := []string{}
	for _, p := range pieces {
		text := string(p.Text)
		if p.More {
			text += "+"
		}
		shown = append(shown, text)
	}
	return shown
}

// clone keeps pieces beyond the next call that made them.
func clone(pieces []Piece) []Piece {
	kept := make([]Piece, len(pieces))
	for i, p := range pieces {
		kept[i] = Piece{Stream: p.Stream, More: p.More, Text: bytes.Clone(p.Text)}
	}
	return kept
}

// split gives the pieces of input read in chunks of the sizes that next says.
// The chunk is overwritten after each call, as a reader's buffer is.
func split(s *Splitter, input []byte, next func() int) []Piece {
	var all, out []Piece
	for len(input) > 0 {
		n := min(max(next(), 0), len(input))
		chunk := bytes.Clone(input[:n])
		out = s.Split(chunk, out[:0])
		all = append(all, clone(out)...)
		clear(chunk)
		input = input[n:]
	}
	return append(all, clone(s.Finish(nil))...)
}

func always(n int) func() int { return func() int { return n } }

func TestSplitter(t *testing.T) {
	for _, tt := range []struct {
		name  string
		limit int
		input string
		want  []string
	}{
		{"nothing", 4, "", nil},
		{"one line", 4, "ab\n", []string{"ab"}},
		{"lines", 4, "ab\nc\nd\n", []string{"ab", "c", "d"}},
		{"empty lines", 4, "\n\na\n\n", []string{"", "", "a", ""}},
		{"unfinished", 4, "ab\nc", []string{"ab", "c+"}},
		{"only unfinished", 4, "c", []string{"c+"}},
		{"exactly the limit", 4, "abcd\n", []string{"abcd"}},
		{"limit, unfinished", 4, "abcd", []string{"abcd+"}},
		{"limit and one", 4, "abcde\n", []string{"abcd+", "e"}},
		{"limit and one, unfinished", 4, "abcde", []string{"abcd+", "e+"}},
		{"twice the limit", 4, "abcdefgh\n", []string{"abcd+", "efgh"}},
		{"twice the limit, unfinished", 4, "abcdefgh", []string{"abcd+", "efgh+"}},
		{"long, then short", 4, "abcdefghi\nj\nk", []string{"abcd+", "efgh+", "i", "j", "k+"}},
		{"long after short", 4, "a\nbcdefgh\n", []string{"a", "bcde+", "fgh"}},
		{"limit of one", 1, "ab\n\nc\n", []string{"a+", "b", "", "c"}},
		{"CR stays", 9, "a\r\nb\rc\n", []string{"a\r", "b\rc"}},
		{"NUL stays", 9, "\x00\na\x00b\n", []string{"\x00", "a\x00b"}},
		{"invalid UTF-8 stays", 9, "\xff\xfe\n\xc3\n", []string{"\xff\xfe", "\xc3"}},
		{"a character across the limit", 2, "aé\n", []string{"a\xc3+", "\xa9"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for size := 1; size <= len(tt.input)+1; size++ {
				s := NewSplitter(Stderr, tt.limit)
				got := split(s, []byte(tt.input), always(size))
				if !slices.Equal(show(got), tt.want) {
					t.Errorf("in chunks of %d: got %q, want %q", size, show(got), tt.want)
				}
				for _, p := range got {
					if p.Stream != Stderr {
						t.Errorf("piece %q is of %s", p.Text, p.Stream)
					}
				}
			}
		})
	}
}

func TestSplitterDeliversAtNewline(t *testing.T) {
	s := NewSplitter(Stdout, 4)
	for _, step := range []struct {
		chunk string
		want  []string
	}{
		{"ab", nil},
		{"", nil},
		{"\n", []string{"ab"}},
		{"abcd", nil}, // the next byte may be its newline
		{"e", []string{"abcd+"}},
		{"fgh", nil},
		{"\nx", []string{"efgh"}},
		{"yzwv", []string{"xyzw+"}},
	} {
		got := show(s.Split([]byte(step.chunk), nil))
		if !slices.Equal(got, step.want) {
			t.Fatalf("after %q: got %q, want %q", step.chunk, got, step.want)
		}
	}
	if got := show(s.Finish(nil)); len(got) != 1 || got[0] != "v+" {
		t.Fatalf("at the end: got %q, want v+", got)
	}
}

func TestSplitterIsNewAfterFinish(t *testing.T) {
	s := NewSplitter(Stdout, 4)
	s.Split([]byte("abcdef"), nil)
	if got := show(s.Finish(nil)); len(got) != 1 || got[0] != "ef+" {
		t.Fatalf("first end: got %q, want ef+", got)
	}
	if got := show(s.Finish(nil)); len(got) != 0 {
		t.Fatalf("second end: got %q, want nothing", got)
	}
	if got := show(s.Split([]byte("gh\n"), nil)); len(got) != 1 || got[0] != "gh" {
		t.Fatalf("new stream: got %q, want gh", got)
	}
}

func TestSplitterLimitOfTheNextLine(t *testing.T) {
	for _, tt := range []struct {
		name   string
		limits []int // before each chunk
		chunks []string
		want   []string
	}{
		{"less, at a line's start", []int{4, 2}, []string{"abcd\n", "abcd\n"}, []string{"abcd", "ab+", "cd"}},
		{"less, in a line", []int{4, 2}, []string{"abcd", "ef\nabc\n"}, []string{"abcd+", "ef", "ab+", "c"}},
		{"less, in the second piece", []int{4, 1}, []string{"abcdefg", "hi\nab"}, []string{"abcd+", "efgh+", "i", "a+", "b+"}},
		{"more, in a line", []int{2, 4}, []string{"a", "bcd\nabcd\n"}, []string{"ab+", "cd", "abcd"}},
		{"not positive", []int{2, 0}, []string{"a\n", "abc\n"}, []string{"a", "ab+", "c"}},
	} {
		s := NewSplitter(Stdout, 100)
		var got []Piece
		for i, chunk := range tt.chunks {
			s.SetLimit(tt.limits[i])
			got = append(got, clone(s.Split([]byte(chunk), nil))...)
		}
		got = append(got, clone(s.Finish(nil))...)
		if !slices.Equal(show(got), tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, show(got), tt.want)
		}
	}
}

func TestSplitterDefaultLimit(t *testing.T) {
	for _, limit := range []int{0, -1} {
		got := NewSplitter(Stdout, limit).Split(make([]byte, DefaultLimit+1), nil)
		if len(got) != 1 || len(got[0].Text) != DefaultLimit {
			t.Errorf("limit %d: got %d pieces, want one of %d bytes", limit, len(got), DefaultLimit)
		}
	}
}

func TestSplitterDoesNotCopyWholeLines(t *testing.T) {
	chunk := []byte("one\ntwo\nlonger than ten\nrest")
	for _, p := range NewSplitter(Stdout, 10).Split(chunk, nil) {
		at := bytes.Index(chunk, p.Text)
		if unsafe.SliceData(p.Text) != &chunk[at] {
			t.Errorf("piece %q is a copy", p.Text)
		}
		if cap(p.Text) != len(p.Text) {
			t.Errorf("piece %q has room: appending to it would change the next line", p.Text)
		}
	}
}

func TestSplitterDoesNotAllocate(t *testing.T) {
	for _, tt := range []struct{ line, chunk, limit int }{
		{20, 4096, DefaultLimit},
		{100, 65536, DefaultLimit},
		{100, 64, DefaultLimit},
		{4096, 5000, DefaultLimit},
		{50_000, 4096, DefaultLimit},
		{50_000, 65536, DefaultLimit},
	} {
		input := bytes.Repeat(append(bytes.Repeat([]byte("x"), tt.line-1), '\n'), 40)
		s := NewSplitter(Stdout, tt.limit)
		var out []Piece
		run := func() {
			for at := 0; at < len(input); at += tt.chunk {
				out = s.Split(input[at:min(at+tt.chunk, len(input))], out[:0])
			}
		}
		if n := testing.AllocsPerRun(10, run); n != 0 {
			t.Errorf("lines of %d in chunks of %d: %v allocations", tt.line, tt.chunk, n)
		}
	}
}

// A line that never ends costs the limit and what the last chunk left over.
func TestSplitterMemoryIsBounded(t *testing.T) {
	const total = 100 << 20
	for _, tt := range []struct{ limit, chunk int }{
		{DefaultLimit, 64 << 10},
		{DefaultLimit, 4093},
		{1 << 20, 4093},
		{1000, 1000},
	} {
		s := NewSplitter(Stdout, tt.limit)
		chunk := bytes.Repeat([]byte("x"), tt.chunk)
		var out []Piece
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		delivered := 0
		for fed := 0; fed < total; fed += len(chunk) {
			out = s.Split(chunk, out[:0])
			for _, p := range out {
				delivered += len(p.Text)
			}
			if held := cap(s.part) + cap(s.next); held > tt.limit+tt.chunk {
				t.Fatalf("limit %d, chunks of %d: holds %d bytes", tt.limit, tt.chunk, held)
			}
		}
		runtime.ReadMemStats(&after)
		if delivered < total-tt.limit {
			t.Errorf("limit %d: %d of %d bytes delivered", tt.limit, delivered, total)
		}
		if grown := after.TotalAlloc - before.TotalAlloc; grown > uint64(4*tt.limit+1<<20) {
			t.Errorf("limit %d, chunks of %d: allocated %d bytes", tt.limit, tt.chunk, grown)
		}
	}
}

func TestSplitterShrink(t *testing.T) {
	s := NewSplitter(Stdout, DefaultLimit)
	s.Split([]byte(strings.Repeat("x", 8000)), nil)
	s.shrink()
	if got := s.Split([]byte("\nab"), nil); len(got) != 1 || len(got[0].Text) != 8000 {
		t.Fatalf("shrink cost an unfinished line its bytes")
	}
	s.shrink()
	if got := show(s.Split([]byte("c\n"), nil)); len(got) != 1 || got[0] != "abc" {
		t.Fatalf("got %q, want abc", got)
	}
	s.shrink()
	s.Split([]byte(strings.Repeat("x", 8000)), nil)
	s.Split([]byte("\n"), nil)
	s.shrink()
	if held := cap(s.part) + cap(s.next); held > 1024 {
		t.Errorf("holds %d bytes with no line unfinished", held)
	}
}

// pieces is the Splitter in its plainest form: all of input at once.
func pieces(input []byte, limit int) []Piece {
	var all []Piece
	cut := func(line []byte, more bool) {
		for len(line) > limit {
			all = append(all, Piece{Stream: Stdout, More: true, Text: line[:limit]})
			line = line[limit:]
		}
		if !more || len(line) > 0 {
			all = append(all, Piece{Stream: Stdout, More: more, Text: line})
		}
	}
	lines := bytes.Split(input, []byte("\n"))
	for _, line := range lines[:len(lines)-1] {
		cut(line, false)
	}
	cut(lines[len(lines)-1], true)
	return all
}

func same(a, b Piece) bool {
	return a.Stream == b.Stream && a.More == b.More && bytes.Equal(a.Text, b.Text)
}

func joined(pieces []Piece) []byte {
	var all []byte
	for _, p := range pieces {
		all = append(all, p.Text...)
		if !p.More {
			all = append(all, '\n')
		}
	}
	return all
}

// FuzzSplitter reads input in chunks of the sizes in cuts, over and over. The
// pieces must be those of the input as a whole, and join back to it.
func FuzzSplitter(f *testing.F) {
	f.Add([]byte("one\ntwo\nthree"), []byte{1}, uint16(4))
	f.Fuzz(func(t *testing.T, input, cuts []byte, limit uint16) {
		lim := int(limit)%300 + 1
		at := 0
		next := func() int {
			if len(cuts) == 0 {
				return len(input)
			}
			at++
			return int(cuts[at%len(cuts)]) + at%2 // some chunks may be empty, not all
		}
		got := split(NewSplitter(Stdout, lim), input, next)
		want := pieces(input, lim)
		if !slices.EqualFunc(got, want, same) {
			t.Errorf("limit %d, cuts %v: got %q, want %q", lim, cuts, show(got), show(want))
		}
		if !bytes.Equal(joined(got), input) {
			t.Errorf("pieces join to %q, not to %q", joined(got), input)
		}
	})
}

func BenchmarkSplitter(b *testing.B) {
	for _, line := range []int{20, 100, 4096, 10 << 20} {
		b.Run(fmt.Sprintf("line=%d", line), func(b *testing.B) {
			input := bytes.Repeat(append(bytes.Repeat([]byte("x"), line-1), '\n'), max(1<<20/line, 1))
			s := NewSplitter(Stdout, DefaultLimit)
			var out []Piece
			b.SetBytes(int64(len(input)))
			b.ReportAllocs()
			for b.Loop() {
				for at := 0; at < len(input); at += 64 << 10 {
					out = s.Split(input[at:min(at+64<<10, len(input))], out[:0])
				}
			}
		})
	}
}

// Chunks cut at random places leave as few partial lines behind as a real pipe.
func BenchmarkSplitterShortChunks(b *testing.B) {
	rnd := rand.New(rand.NewPCG(1, 2))
	input := bytes.Repeat(append(bytes.Repeat([]byte("x"), 99), '\n'), 10_000)
	var cuts []int
	for at := 0; at < len(input); at += 1 + rnd.IntN(400) {
		cuts = append(cuts, at)
	}
	cuts = append(cuts, len(input))
	s := NewSplitter(Stdout, DefaultLimit)
	var out []Piece
	b.SetBytes(int64(len(input)))
	b.ReportAllocs()
	for b.Loop() {
		for i := range cuts[1:] {
			out = s.Split(input[cuts[i]:cuts[i+1]], out[:0])
		}
	}
}
