package record

import (
	"bytes"
	"testing"
)

// hundred is a line of 100 bytes, newline not included.
var hundred = bytes.Repeat([]byte("GET /health 200 "), 7)[:99]

// BenchmarkAppend makes the stored form of one line, with a stamp of its own.
func BenchmarkAppend(b *testing.B) {
	buf := make([]byte, 0, 1024)
	b.SetBytes(int64(len(hundred) + 1))
	b.ReportAllocs()
	for t := at; b.Loop(); t++ {
		Append(buf, t, Out, false, hundred)
	}
}

// BenchmarkForm makes of one stored line what readers see.
func BenchmarkForm(b *testing.B) {
	buf := make([]byte, 0, 1024)
	line := Append(nil, at, Out, false, hundred)
	for _, form := range []struct {
		name string
		add  func(r *Record)
	}{
		{"text", func(r *Record) { r.AppendText(buf, "web") }},
		{"bytes", func(r *Record) { r.AppendBytes(buf) }},
		{"seq", func(r *Record) { r.AppendSeq(buf, "web") }},
	} {
		b.Run(form.name, func(b *testing.B) {
			b.SetBytes(int64(len(hundred) + 1))
			b.ReportAllocs()
			var r Record
			for b.Loop() {
				s := Scanner{Buf: line, Seq: 1}
				r, _ = s.Next()
				form.add(&r)
			}
		})
	}
}
