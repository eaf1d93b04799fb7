package fs

import (
	"fmt"
	"strings"
	"testing"

	"logfs/ring"
	"logfs/ring/record"
)

// fullChorus is 50 services with full rings.
func fullChorus(b *testing.B) *chorus {
	c := newChorus(b, 50, ring.Limits{})
	text := []byte(strings.Repeat("x", 80))
	for i := range 10_000 {
		for j, e := range c.all {
			batch := e.Ring.Begin()
			batch.Add(noon+record.Stamp(100*i+j), record.Out, false, text)
			batch.Commit()
		}
	}
	return c
}

func BenchmarkMerge(b *testing.B) {
	c := fullChorus(b)
	o := c.order(selAll, formText)
	b.Run("lookup", func(b *testing.B) {
		for range b.N {
			c.order(selAll, formText)
		}
	})
	b.Run("lookup of a new width", func(b *testing.B) {
		for i := range b.N {
			o := c.order(selAll, formText)
			o.width += 1 + i
			o.begin()
		}
	})
	for _, f := range []form{formText, formSeq} {
		b.Run(fmt.Sprintf("read %d", f), func(b *testing.B) {
			o := c.order(selAll, f)
			b.SetBytes(o.size)
			for range b.N {
				newMerger(o).readAll2(b, 128<<10)
			}
		})
	}
	b.Run("last 4096", func(b *testing.B) {
		for range b.N {
			if s := newMerger(o).pread(b, 4096, o.size-4096); len(s) != 4096 {
				b.Fatal(len(s))
			}
		}
	})
	b.Run("backwards", func(b *testing.B) {
		b.SetBytes(o.size)
		for range b.N {
			m := newMerger(o)
			for off := o.size; off > 0; off -= 64 << 10 {
				m.pread(b, 64<<10, max(0, off-64<<10))
			}
		}
	})
	b.Run("a line", func(b *testing.B) {
		m := newMerger(o)
		m.end(o.size)
		for i := range b.N {
			c.now = noon + record.Stamp(100*(10_000+i))
			c.say(c.all[i%50], c.now, "o another line")
			c.now++
			o.advance()
			if m.pread(b, 4096, m.off) == "" {
				b.Fatal("it does not come")
			}
		}
	})
}

// readAll2 is readAll without keeping it.
func (m *merger) readAll2(b *testing.B, n int) {
	for off := int64(0); ; {
		s := m.pread(b, n, off)
		if s == "" {
			return
		}
		off += int64(len(s))
	}
}
