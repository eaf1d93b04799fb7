package fs

import (
	"math/rand"
	"testing"

	"logfs/ring"
	"logfs/ring/record"
)

// sizesOf counts all records of a ring.
func sizesOf(r *ring.Ring) (all record.Sizes) {
	oldest, newest := r.Held()
	for id := oldest.Block; id <= newest.Block; id++ {
		c, ok := r.Chunk(id)
		if !ok {
			break
		}
		s := record.Scanner{Buf: c.Data, Seq: c.First, Run: c.Run}
		for rec, ok := s.Next(); ok; rec, ok = s.Next() {
			if rec.Seq >= oldest.Seq {
				all.Add(&rec)
			}
		}
		c.Release()
	}
	return all
}

// What record.Sizes says is what the views have, in each layout that is shown.
func TestSizesAreThoseOfTheViews(t *testing.T) {
	for seed := range int64(20) {
		rnd := rand.New(rand.NewSource(seed))
		e := newTestEntry(ring.Limits{Lines: 300, Bytes: 1 << 20})
		for range 15 {
			appendRandom(e.Ring, rnd, rnd.Intn(80))
			s := sizesOf(e.Ring)
			for what, size := range map[string]struct {
				view *view
				want int64
			}{
				"text":           {e.newView(selAll, formText, true), s.Text("web", true)},
				"without marks":  {e.newView(selAll, formText, false), s.Text("web", false)},
				"stdout":         {e.newView(selOut, formBytes, true), s.Bytes(record.Out)},
				"stderr":         {e.newView(selErr, formBytes, true), s.Bytes(record.Err)},
				"seq":            {e.newView(selAll, formSeq, true), s.Seq("web", 0)},
				"seq of stdout":  {e.newView(selOut, formSeq, true), s.Seq("web", record.Out)},
				"seq, no marks":  {e.newView(selAll, formSeq, false), s.Seq("web", 0)},
				"seq of stderr ": {e.newView(selErr, formSeq, true), s.Seq("web", record.Err)},
			} {
				if got := int64(len(size.view.all())); got != size.want {
					t.Fatalf("seed %d, %s: %d bytes, sizes say %d", seed, what, got, size.want)
				}
			}
		}
	}
}
