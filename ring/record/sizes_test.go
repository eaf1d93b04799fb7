package record

import (
	"math/rand/v2"
	"testing"
)

// randomLines are stored lines of all kinds, with runs, lost lines, lines that
// go on and bytes that take more room than one.
func randomLines(rnd *rand.Rand, n int) (lines []byte) {
	for range n {
		kind, more := []Kind{Out, Err}[rnd.IntN(2)], rnd.IntN(3) == 0
		text := make([]byte, rnd.IntN(30))
		for i := range text {
			text[i] = "ab\x00\\\x1b\r\xc3\xa4"[rnd.IntN(8)]
		}
		if rnd.IntN(8) == 0 {
			text = append([]byte("<165>"), text...)
		}
		switch rnd.IntN(12) {
		case 0:
			kind, more, text = Mark, false, AppendStart(nil, rnd.Uint64N(2000), 7)
		case 1:
			kind, more, text = Mark, false, AppendLost(nil, rnd.Uint64N(2000))
		case 2:
			kind, more, text = Mark, false, AppendExit(nil, Exit{Known: true, Code: 1})
		}
		lines = Append(lines, at, kind, more, text)
	}
	return lines
}

// written is what readers see of records, each form written out.
type written struct {
	text, plain, out, err, all, seqOut, seqErr []byte
	open                                       Kind
}

func (w *written) add(r *Record, service string) {
	if w.open != 0 && w.open != r.Kind {
		w.text, w.plain = append(w.text, '\n'), append(w.plain, '\n')
	}
	w.open = 0
	if r.More {
		w.open = r.Kind
	}
	w.text = r.AppendText(w.text, service)
	w.all = r.AppendSeq(w.all, service)
	if r.Kind != Mark {
		w.plain = r.AppendText(w.plain, service)
	}
	switch r.Kind {
	case Out:
		w.out, w.seqOut = r.AppendBytes(w.out), r.AppendSeq(w.seqOut, service)
	case Err:
		w.err, w.seqErr = r.AppendBytes(w.err), r.AppendSeq(w.seqErr, service)
	}
}

func (w *written) lens() [7]int64 {
	var n [7]int64
	for i, b := range [][]byte{w.text, w.plain, w.out, w.err, w.all, w.seqOut, w.seqErr} {
		n[i] = int64(len(b))
	}
	return n
}

func lens(s *Sizes, service string) [7]int64 {
	return [7]int64{
		s.Text(service, true), s.Text(service, false), s.Bytes(Out), s.Bytes(Err),
		s.Seq(service, 0), s.Seq(service, Out), s.Seq(service, Err),
	}
}

// Sizes are those of the bytes written, wherever the records are divided into
// parts that are counted on their own.
func TestSizes(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		var want written
		var whole, part, joined Sizes
		for _, r := range scan(t, string(randomLines(rnd, rnd.IntN(60))), 1+rnd.Uint64N(2000), 3) {
			want.add(&r, "web")
			whole.Add(&r)
			for part.Add(&r); rnd.IntN(4) == 0; part = (Sizes{}) {
				joined.Join(part)
			}
		}
		joined.Join(part)
		if got := lens(&whole, "web"); got != want.lens() {
			t.Fatalf("seed %d: sizes %d, written %d", seed, got, want.lens())
		}
		if joined != whole {
			t.Fatalf("seed %d: joined %+v, counted at once %+v", seed, joined, whole)
		}
	}
}

// Files hold sizes. Who changes a form so that this fails gives SizesVersion
// another value, and this test the new sizes.
func TestSizesOfThisVersion(t *testing.T) {
	var b []byte
	for _, text := range [][]byte{
		AppendStart(nil, 42, 4242), AppendStart(nil, 43, 0), AppendLost(nil, 1519), AppendCut(nil, Cut{After: 7, Last: at, Torn: 17}), AppendCut(nil, Cut{}),
		AppendExit(nil, Exit{}), AppendExit(nil, Exit{Known: true, Code: 1, After: 192e9}), AppendExit(nil, Exit{Known: true, Signal: "KILL", After: 25e7}),
	} {
		b = Append(b, at, Mark, false, text)
	}
	for _, text := range []string{"", "GET /health 200", "\x00\x1b\t\r\x7f\\", "grün → \xff\xc2\x9bm", "<165>1 2026", "<192>x", "@400000006b00940a075bcd15,web,1,2,=;forged"} {
		b = Append(b, at, Out, false, []byte(text))
		b = Append(b, at, Err, true, []byte(text))
	}
	var s Sizes
	for _, r := range scan(t, string(b), 95, 9) {
		s.Add(&r)
	}
	if got, want := lens(&s, "web"), [7]int64{607, 207, 101, 94, 1345, 416, 423}; SizesVersion != "1" || got != want {
		t.Errorf("version %s has sizes %d, want version 1 with %d", SizesVersion, got, want)
	}
}

func BenchmarkSizes(b *testing.B) {
	lines := []byte{}
	for range 600 {
		lines = Append(lines, at, Out, false, []byte("GET /health 200 in 0.3 ms from 10.0.0.1, as it is asked for each second"))
	}
	b.SetBytes(int64(len(lines)))
	b.ReportAllocs()
	for b.Loop() {
		var all Sizes
		s := Scanner{Buf: lines, Seq: 1}
		for r, ok := s.Next(); ok; r, ok = s.Next() {
			all.Add(&r)
		}
	}
}
