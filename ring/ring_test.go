package ring

import (
	"bytes"
	"fmt"
	"math/rand"
	"sync"
	"testing"

	"logfs/ring/record"
)

// read returns all records a reader sees from the oldest on.
func read(t *testing.T, r *Ring) (all []record.Record) {
	t.Helper()
	c, end := r.Held()
	for id := c.Block; id <= end.Block; id++ {
		ch, ok := r.Chunk(id)
		if !ok {
			return all
		}
		s := record.Scanner{Buf: bytes.Clone(ch.Data), Seq: ch.First, Run: ch.Run}
		ch.Release()
		if id == c.Block {
			s = record.Scanner{Buf: s.Buf[c.Off:], Seq: c.Seq, Run: c.Run}
		}
		for rec, ok := s.Next(); ok; rec, ok = s.Next() {
			all = append(all, rec)
		}
		if len(s.Buf) > 0 {
			t.Fatalf("block %d ends in %q", id, s.Buf)
		}
	}
	return all
}

type oracle struct {
	limits           Limits
	lines            []string
	firsts           []uint64
	next             uint64
	bytes            int64
	appended, evicts uint64
	appendedBytes    int64
}

func (o *oracle) add(line string, span uint64) {
	o.lines, o.firsts = append(o.lines, line), append(o.firsts, o.next)
	o.next += span
	o.bytes += int64(len(line))
	o.appended++
	o.appendedBytes += int64(len(line))
}

func (o *oracle) evict() {
	for len(o.lines) > 1 && (len(o.lines) > o.limits.Lines || o.bytes > o.limits.Bytes) {
		o.bytes -= int64(len(o.lines[0]))
		o.lines, o.firsts = o.lines[1:], o.firsts[1:]
		o.evicts++
	}
}

func TestRandomAgainstSlice(t *testing.T) {
	for seed := range int64(30) {
		rnd := rand.New(rand.NewSource(seed))
		o := &oracle{limits: Limits{Lines: 1 + rnd.Intn(200), Bytes: int64(200 + rnd.Intn(40_000))}, next: 1}
		r := New(o.limits)
		for range 200 {
			step(r, o, rnd)
			compare(t, r, o)
			if rnd.Intn(10) == 0 {
				o.limits = Limits{Lines: 1 + rnd.Intn(200), Bytes: int64(200 + rnd.Intn(40_000))}
				r.Resize(o.limits)
				o.evict()
				compare(t, r, o)
			}
		}
	}
}

func step(r *Ring, o *oracle, rnd *rand.Rand) {
	b := r.Begin()
	var want []byte
	for range rnd.Intn(60) {
		kind, more, text, span := record.Out, rnd.Intn(5) == 0, bytes.Repeat([]byte{'x'}, rnd.Intn(1<<uint(rnd.Intn(13)))), uint64(1)
		if rnd.Intn(20) == 0 {
			span = 1 + uint64(rnd.Intn(50))
			kind, more, text = record.Mark, false, record.AppendLost(nil, span)
		}
		b.Add(7, kind, more, text)
		line := record.Append(nil, 7, kind, more, text)
		want = append(want, line...)
		o.add(string(line), span)
	}
	if got := bytes.Join(b.Chunks(), nil); !bytes.Equal(got, want) {
		panic(fmt.Sprintf("Chunks: %q, want %q", got, want))
	}
	b.Commit()
	o.evict()
}

func compare(t *testing.T, r *Ring, o *oracle) {
	t.Helper()
	got := read(t, r)
	if len(got) != len(o.lines) {
		t.Fatalf("%d records held, want %d", len(got), len(o.lines))
	}
	for i, rec := range got {
		line := record.Append(nil, 7, rec.Kind, rec.More, rec.Text)
		if string(line) != o.lines[i] || rec.Seq != o.firsts[i] {
			t.Fatalf("record %d: number %d %q, want %d %q", i, rec.Seq, line, o.firsts[i], o.lines[i])
		}
	}
	first, next := r.Bounds()
	if next != o.next || (len(got) > 0 && first != o.firsts[0]) {
		t.Fatalf("bounds %d, %d", first, next)
	}
	s := r.Stats()
	if s.AppendedLines != s.HeldLines+s.EvictedLines || s.AppendedBytes != s.HeldBytes+s.EvictedBytes {
		t.Fatalf("appended is not held and evicted: %+v", s)
	}
	if s.AppendedLines != o.appended || s.EvictedLines != o.evicts || s.HeldBytes != uint64(o.bytes) || s.AppendedBytes != uint64(o.appendedBytes) {
		t.Fatalf("stats %+v, want %d appended, %d evicted, %d bytes held", s, o.appended, o.evicts, o.bytes)
	}
}

func fillWith(r *Ring, n int, text string) {
	for range n {
		b := r.Begin()
		b.Add(7, record.Out, false, []byte(text))
		b.Commit()
	}
}

func TestCommitHeldKeepsTheChunks(t *testing.T) {
	r := New(Limits{Lines: 2, Bytes: 1 << 20})
	fillWith := func(text string) *Batch {
		b := r.Begin()
		for range 500 {
			b.Add(7, record.Out, false, []byte(text))
		}
		return b
	}
	b := fillWith("kept as it is")
	chunks := b.Chunks()
	want := bytes.Clone(bytes.Join(chunks, nil))
	held := b.CommitHeld()
	if len(held) != len(chunks) || len(held) < 2 {
		t.Fatalf("%d chunks held of %d, want all of several", len(held), len(chunks))
	}
	for range 5 {
		fillWith("overwrites what is free").Commit()
	}
	if got := bytes.Join(chunks, nil); !bytes.Equal(got, want) {
		t.Error("the chunks have changed under their writer")
	}
	for _, c := range held {
		c.Release()
	}
	if n := r.Stats().PinnedBytes; n != 0 {
		t.Errorf("%d bytes pinned after the release", n)
	}
}

func TestKeep(t *testing.T) {
	r := New(Limits{Lines: 10, Bytes: 1 << 20})
	add := func(n int) {
		b := r.Begin()
		for range n {
			b.Add(7, record.Out, false, bytes.Repeat([]byte{'x'}, 100))
		}
		b.Commit()
	}
	add(15)
	r.Keep(12)
	add(400)
	if first, next := r.Bounds(); first != 12 || next != 416 {
		t.Errorf("held %d to %d, want 12 to 416", first, next)
	}
	r.Keep(14)
	if first, _ := r.Bounds(); first != 14 {
		t.Errorf("held from %d, want 14", first)
	}
	r.Keep(KeepNone)
	if first, _ := r.Bounds(); first != 406 {
		t.Errorf("held from %d, want 406: the limits are in force again", first)
	}
}

func TestResizeKeepsWhatIsKept(t *testing.T) {
	r := New(Limits{Lines: 100})
	fillWith(r, 50, "x")
	r.Keep(20)
	r.Resize(Limits{Lines: 10})
	if first, next := r.Bounds(); first != 20 || next != 51 {
		t.Errorf("held %d to %d, want 20 to 51", first, next)
	}
	r.Keep(KeepNone)
	r.Resize(Limits{Lines: 1000})
	fillWith(r, 500, "x")
	if first, next := r.Bounds(); first != 41 || next != 551 {
		t.Errorf("held %d to %d, want 41 to 551", first, next)
	}
}

// A batch that is being made, in a block that others are read from, does not
// mind the ring becoming small.
func TestResizeDuringABatch(t *testing.T) {
	r := New(Limits{})
	fillWith(r, 5000, "before")
	b := r.Begin()
	b.Add(7, record.Out, false, []byte("first"))
	r.Resize(Limits{Lines: 1, Bytes: 1})
	b.Add(7, record.Out, false, bytes.Repeat([]byte{'x'}, 100_000))
	chunks := bytes.Join(b.Chunks(), nil)
	b.Commit()
	if n := bytes.Count(chunks, []byte{'\n'}); n != 2 {
		t.Errorf("the batch has %d lines, want 2", n)
	}
	if got := read(t, r); len(got) != 1 || got[0].Seq != 5002 || len(got[0].Text) != 100_000 {
		t.Errorf("held %d records, want the last alone", len(got))
	}
}

func TestPinnedChunkOutlivesEviction(t *testing.T) {
	r := New(Limits{Lines: 10, Bytes: 1 << 20})
	fillWith(r, 5, "old")
	ch, _ := r.Chunk(0)
	before := bytes.Clone(ch.Data)
	fillWith(r, 10_000, "new and longer")
	if _, ok := r.Chunk(0); ok {
		t.Error("block 0 is still held")
	}
	if !bytes.Equal(ch.Data, before) {
		t.Error("a pinned chunk changed")
	}
	if got := r.Stats().PinnedBytes; got < uint64(len(before)) {
		t.Errorf("%d bytes pinned, want at least %d", got, len(before))
	}
	ch.Release()
	if got := r.Stats().PinnedBytes; got != 0 {
		t.Errorf("%d bytes pinned after the release", got)
	}
}

func TestNothingIsSeenBeforeCommit(t *testing.T) {
	r := New(Limits{})
	b := r.Begin()
	b.Add(7, record.Out, false, []byte("x"))
	if got := read(t, r); len(got) != 0 {
		t.Fatalf("readers see %d records of an open batch", len(got))
	}
	b.Commit()
	if got := read(t, r); len(got) != 1 {
		t.Fatalf("readers see %d records, want 1", len(got))
	}
}

func TestStartSkipAndRuns(t *testing.T) {
	r := New(Limits{})
	r.Start(100, 6)
	b := r.Begin()
	b.Add(7, record.Out, false, []byte("a"))
	b.Add(7, record.Mark, false, record.AppendStart(nil, 7, 1))
	b.Skip(8, 200, 9)
	b.Add(8, record.Err, false, []byte("b"))
	if b.First() != 100 || b.Next() != 201 || b.Run() != 6 {
		t.Errorf("batch %d-%d run %d", b.First(), b.Next(), b.Run())
	}
	b.Commit()
	got := read(t, r)
	want := [][3]uint64{{100, 100, 6}, {101, 101, 7}, {102, 199, 9}, {200, 200, 9}}
	for i, w := range want {
		if got[i].Seq != w[0] || got[i].Last != w[1] || got[i].Run != w[2] {
			t.Errorf("record %d: numbers %d to %d run %d, want %v", i, got[i].Seq, got[i].Last, got[i].Run, w)
		}
	}
	if got[2].Kind != record.Mark || string(got[2].Text) != "lost lines=98" {
		t.Errorf("the numbers that were skipped are %q", got[2].Text)
	}
	if r.Run() != 9 || r.Last() != 8 {
		t.Errorf("run %d, last stamp %d", r.Run(), r.Last())
	}
}

func TestSkipWithoutRecords(t *testing.T) {
	r := New(Limits{})
	skip := func(seq, run uint64) {
		b := r.Begin()
		b.Skip(7, seq, run)
		b.Commit()
	}
	skip(50, 4)
	if first, next := r.Bounds(); first != 50 || next != 50 || r.Run() != 4 {
		t.Errorf("an empty ring that skipped: %d-%d run %d", first, next, r.Run())
	}
	fillWith(r, 1, "x")
	skip(90, 5)
	if first, next := r.Bounds(); first != 50 || next != 90 || r.Run() != 5 {
		t.Errorf("after the second skip: %d-%d run %d", first, next, r.Run())
	}
	fillWith(r, 1, "y")
	if got := read(t, r); got[0].Seq != 50 || got[1].Seq != 51 || got[1].Last != 89 || got[2].Seq != 90 || got[2].Run != 5 {
		t.Errorf("records %+v", got)
	}
}

func TestReadersAndWriterTogether(t *testing.T) {
	r := New(Limits{Lines: 50, Bytes: 8 << 10})
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for last := uint64(0); ; {
				for _, rec := range read(t, r) {
					if string(rec.Text) != fmt.Sprint(rec.Seq) {
						t.Errorf("number %d has the text %q", rec.Seq, rec.Text)
						return
					}
					last = max(last, rec.Seq)
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	readers.Go(func() {
		for lines := 1; ; lines = lines%100 + 1 {
			select {
			case <-done:
				return
			default:
				r.Resize(Limits{Lines: lines, Bytes: int64(lines) << 8})
			}
		}
	})
	for i := range 20_000 {
		b := r.Begin()
		b.Add(7, record.Out, false, fmt.Append(nil, i+1))
		b.Commit()
	}
	close(done)
	readers.Wait()
}

func TestAppendDoesNotAllocate(t *testing.T) {
	r := New(Limits{Lines: 1000, Bytes: 256 << 10})
	text := bytes.Repeat([]byte{'x'}, 100)
	append100 := func() {
		b := r.Begin()
		for range 100 {
			b.Add(7, record.Out, false, text)
		}
		b.Chunks()
		b.Commit()
	}
	for range 100 {
		append100()
	}
	if n := testing.AllocsPerRun(200, append100); n != 0 {
		t.Errorf("%v allocations per 100 records", n)
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{20, 100, 4000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			r := New(Limits{})
			text := bytes.Repeat([]byte{'x'}, size)
			b.SetBytes(int64(100 * (size + 1)))
			b.ReportAllocs()
			for b.Loop() {
				batch := r.Begin()
				for range 100 {
					batch.Add(7, record.Out, false, text)
				}
				batch.Commit()
			}
		})
	}
}
