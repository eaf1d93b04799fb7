package rotate

import (
	"bytes"
	"fmt"
	"math"
	"testing"
	"time"

	"logfs/ring/record"
)

// longPast is a logdir with 200 MiB of lines, half of them compressed, as it is
// after a restart.
func longPast(b *testing.B) (d *Logdir, next uint64) {
	o := options(b.TempDir())
	o.Size, o.FS, o.Compress = 2<<20, newFaultFS(0, 0), Zstd
	d = mustOpen(b, o)
	next = 1
	for i := range 200 {
		if i == 100 {
			waitPacked(d)
			o.Compress = None
			if err := d.Configure(o); err != nil {
				b.Fatal(err)
			}
		}
		first := next
		var batch bytes.Buffer
		for batch.Len() < 1<<20 {
			batch.Write(record.Append(nil, stamp(next), record.Out, false, fmt.Appendf(nil, "GET /%d 200 in %d ms, 10.0.0.1 asks for it each second or so", next*7919%1000, next%97)))
			next++
		}
		mustAppend(b, d, batch.String(), first, next, 1)
	}
	mustClose(b, d)
	return mustOpen(b, o), next
}

func BenchmarkFind(b *testing.B) {
	d, next := longPast(b)
	defer d.Close()
	for _, part := range []struct {
		name  string
		share uint64
	}{{"compressed", 25}, {"plain", 75}} {
		b.Run(part.name, func(b *testing.B) {
			b.ReportAllocs()
			for n := next * part.share / 100; b.Loop(); n += 919 {
				if seq, ok, err := d.Find(stamp(n)); seq != n || !ok || err != nil {
					b.Fatal(seq, ok, err)
				}
			}
		})
	}
}

func BenchmarkMeasure(b *testing.B) {
	d, next := longPast(b)
	defer d.Close()
	began := time.Now()
	if _, err := d.Measure(0, math.MaxUint64); err != nil {
		b.Fatal(err)
	}
	b.Logf("all of it, the first time: %v", time.Since(began))
	b.Run("all", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := d.Measure(0, math.MaxUint64); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, part := range []struct {
		name  string
		share uint64
	}{{"compressed", 25}, {"plain", 75}} {
		b.Run("from/"+part.name, func(b *testing.B) {
			b.ReportAllocs()
			for n := next * part.share / 100; b.Loop(); n += 919 {
				if _, err := d.Measure(n, math.MaxUint64); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
