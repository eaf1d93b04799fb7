package fs

import (
	"bytes"
	"math/rand"
	"testing"

	"logfs/ring"
	"logfs/ring/record"
)

// newTestEntry is an entry without a mount.
func newTestEntry(limits ring.Limits) *Entry {
	return newEntry(Service{Name: "web", Ring: ring.New(limits), Looks: Looks{Marks: true}}, nil, 1)
}

func appendRandom(r *ring.Ring, rnd *rand.Rand, n int) {
	b := r.Begin()
	for range n {
		kind, more := record.Out, rnd.Intn(4) == 0
		if rnd.Intn(2) == 0 {
			kind = record.Err
		}
		text := bytes.Repeat([]byte{'x'}, rnd.Intn(40))
		for i := range text {
			text[i] = "ab\x00\\\x1b\r\xc3\xa4"[rnd.Intn(8)]
		}
		if rnd.Intn(10) == 0 {
			kind, more, text = record.Mark, false, record.AppendStart(nil, uint64(rnd.Intn(200)), 7)
		}
		b.Add(record.Stamp(1795200000_000000000+rnd.Int63n(1e9)), kind, more, text)
	}
	b.Commit()
}

// all is the whole view, written record by record.
func (v *view) all() []byte {
	head, end := v.catchUp()
	var b []byte
	p, base := head, head.off
	if c, ok := v.ring.Chunk(head.Block); ok {
		base = v.base(head, c)
		c.Release()
	}
	for p.Seq < end.Seq {
		c, ok := v.ring.Chunk(p.Block)
		if !ok {
			panic("the block of a record held is gone")
		}
		open := p.open
		p.walk(&v.layout, c, func(rec record.Record, _ int) bool {
			b = v.write(b, open, &rec)
			if v.sel.takes(rec.Kind) {
				open = v.after(&rec)
			}
			return true
		})
		c.Release()
		if p.Seq < end.Seq && !v.enterNext(&p) {
			panic("a block is missing")
		}
	}
	return b[base-head.off:]
}

// Every read at every offset gives the bytes that the records have when they
// are written one behind the other, for every view, while the ring wraps.
func TestReadsAgreeWithRecords(t *testing.T) {
	for seed := range int64(8) {
		rnd := rand.New(rand.NewSource(seed))
		e := newTestEntry(ring.Limits{Lines: 300, Bytes: 1 << 20})
		for range 25 {
			appendRandom(e.Ring, rnd, rnd.Intn(80))
			for sel := range streamKinds {
				for _, k := range []fileKind{current, seq} {
					checkReads(t, e, sel, k, rnd)
				}
			}
		}
	}
}

func checkReads(t *testing.T, e *Entry, sel streams, k fileKind, rnd *rand.Rand) {
	t.Helper()
	n := &node{kind: k, e: e, v: e.view(sel, k)}
	n.settle()
	h := newHandle(n)
	defer h.close()
	want := n.v.all()
	if got := n.size(); got != int64(len(want)) {
		t.Fatalf("selection %d, %s: size %d, want %d", sel, fileNames[k], got, len(want))
	}
	for range 10 {
		off := rnd.Intn(len(want) + 1)
		dst := make([]byte, 1+rnd.Intn(300))
		a := h.reading(int64(off), 0)
		m, _ := h.answer(dst, &a)
		got := dst[:m]
		if exp := want[off:min(len(want), off+len(dst))]; !bytes.Equal(got, exp) {
			t.Fatalf("selection %d, %s: read(%d) at %d:\n got %q\nwant %q", sel, fileNames[k], len(dst), off, got, exp)
		}
	}
}

// A follower that keeps up gets every byte once, and only whole lines as long
// as they fit.
func TestFollowerGetsEverything(t *testing.T) {
	for seed := range int64(8) {
		rnd := rand.New(rand.NewSource(seed))
		e := newTestEntry(ring.Limits{Lines: 10_000, Bytes: 64 << 20})
		n := &node{kind: follow, e: e, v: e.view(selAll, follow)}
		n.settle()
		h := newHandle(n)
		var got []byte
		for range 200 {
			appendRandom(e.Ring, rnd, rnd.Intn(5))
			dst := make([]byte, 1+rnd.Intn(500))
			a := h.reading(int64(len(got)), 0)
			if n, v := h.answer(dst, &a); v == data {
				got = append(got, dst[:n]...)
			}
		}
		dst := make([]byte, 1<<20)
		a := h.reading(int64(len(got)), 0)
		m, _ := h.answer(dst, &a)
		if want := n.v.all(); !bytes.Equal(append(got, dst[:m]...), want) {
			t.Fatal("the reads of a follower are not the bytes of the view")
		}
		h.close()
	}
}

// Whatever the ring drops under a slow follower, what he gets is numbered
// without a gap that no mark has told him of, and the marks tell no more.
func TestSlowFollowerLosesNothingSilently(t *testing.T) {
	for seed := range int64(20) {
		rnd := rand.New(rand.NewSource(seed))
		e := newTestEntry(ring.Limits{Lines: 60, Bytes: 1 << 20})
		n := &node{kind: seq, e: e, v: e.view(selAll, seq)}
		n.settle()
		h := newHandle(n)
		var got []byte
		for range 300 {
			b := e.Ring.Begin()
			for range rnd.Intn(100) {
				b.Add(7, record.Out, false, bytes.Repeat([]byte{'x'}, rnd.Intn(20)))
			}
			b.Commit()
			h.mu.Lock()
			_, end := n.v.catchUp()
			dst := make([]byte, 300+rnd.Intn(2000))
			m, _ := h.main.read(dst, request{off: int64(len(got)), end: end, whole: true})
			h.mu.Unlock()
			got = append(got, dst[:m]...)
		}
		checkNumbers(t, got)
		h.close()
	}
}

// checkNumbers follows the numbers of seq records, lost ranges included.
func checkNumbers(t *testing.T, got []byte) {
	t.Helper()
	next, marks := uint64(1), 0
	for line := range bytes.Lines(got) {
		f := bytes.SplitN(line, []byte{','}, 5)
		from, to := number(f[3])
		if from != next {
			t.Fatalf("%q follows number %d", line, next-1)
		}
		if next = to + 1; f[4][0] == '=' {
			marks++
		}
	}
	if marks == 0 {
		t.Error("the reader never lost a line: nothing was tested")
	}
}

func number(f []byte) (from, to uint64) {
	a, b, ranged := bytes.Cut(f, []byte{'-'})
	for _, c := range a {
		from = 10*from + uint64(c-'0')
	}
	if !ranged {
		return from, from
	}
	for _, c := range b {
		to = 10*to + uint64(c-'0')
	}
	return from, to
}
