package main

import (
	"bytes"
	"testing"
)

func TestBlocks(t *testing.T) {
	for _, k := range []kind{short, plain, mixed, long, huge, hollow} {
		b := block(k)
		if !bytes.Equal(b, block(k)) {
			t.Errorf("%s: two blocks differ", k)
		}
		if len(b) < blockSize || b[len(b)-1] != '\n' {
			t.Errorf("%s: a block has %d bytes and ends with %q", k, len(b), b[len(b)-1])
		}
		lines := bytes.SplitAfter(b, []byte{'\n'})
		want := map[kind]int{short: 20, plain: 100, long: 4096, huge: 10 << 20, hollow: 1}[k]
		different := map[string]bool{}
		for _, line := range lines[:len(lines)-1] {
			if want > 0 && len(line) != want {
				t.Fatalf("%s: a line has %d bytes: %q", k, len(line), line[:min(len(line), 100)])
			}
			different[string(line)] = true
		}
		if k != hollow && len(different) != len(lines)-1 {
			t.Errorf("%s: %d different lines of %d", k, len(different), len(lines)-1)
		}
		if k == mixed && (len(b)/len(lines) < 160 || len(b)/len(lines) > 200) {
			t.Errorf("%s: %d bytes a line", k, len(b)/len(lines))
		}
	}
}

func TestPieces(t *testing.T) {
	b := block(mixed)
	for _, each := range []bool{false, true} {
		pieces := load{Kind: mixed, Each: each}.pieces(b)
		if !bytes.Equal(bytes.Join(pieces, nil), b) {
			t.Errorf("each %v: the pieces do not make the block", each)
		}
		for _, p := range pieces {
			if each && bytes.IndexByte(p, '\n') != len(p)-1 {
				t.Fatalf("%q is no line", p)
			}
		}
		if !each && len(pieces) != (len(b)+bulk-1)/bulk {
			t.Errorf("%d pieces of %d bytes", len(pieces), len(b))
		}
	}
}

func TestPing(t *testing.T) {
	var buf [pingLen]byte
	for _, sent := range []int64{0, 1, 1_234_567_890_123_456_789} {
		line := ping(buf[:], sent)
		if got, ok := pinged(line); got != sent || !ok || len(line) != pingLen {
			t.Errorf("%q was sent at %d, %v, want %d", line, got, ok, sent)
		}
		if got, ok := pinged(line[1:]); ok {
			t.Errorf("%q was sent at %d", line[1:], got)
		}
	}
	if got, ok := pinged([]byte("-- s0 run 1 started 2026-11-20T03:12:07Z pid 4242 --\n")); ok {
		t.Errorf("a mark was sent at %d", got)
	}
}
