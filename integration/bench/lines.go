package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
)

// A kind is a sort of lines.
type kind string

const (
	short  kind = "20 B"
	plain  kind = "100 B"
	mixed  kind = "mixed 180 B" // access log and JSON
	long   kind = "4 KiB"
	huge   kind = "10 MiB"
	hollow kind = "empty"
)

// blockSize is about how many bytes of lines are made before they repeat.
const blockSize = 4 << 20

// block returns lines of a kind, the same at every call but none like the one
// before it, as far as there is room for a difference.
func block(k kind) []byte {
	make := map[kind]func(*rand.Rand, int) string{
		short: sized(20), plain: sized(100), long: sized(4096), huge: sized(10 << 20),
		mixed: mixture, hollow: func(*rand.Rand, int) string { return "\n" },
	}[k]
	var b bytes.Buffer
	random := rand.New(rand.NewPCG(1, 2))
	for n := 1; b.Len() < blockSize; n++ {
		b.WriteString(make(random, n))
	}
	return b.Bytes()
}

var words = strings.Fields(`request accepted from client timeout retry upstream closed
	connection cache miss user session started worker 12 finished in ms queue length
	warning: slow query took commit index rebuilt GET POST 200 404 /api/v1/items`)

// sized returns what makes lines of exactly size bytes, newline included.
func sized(size int) func(*rand.Rand, int) string {
	return func(r *rand.Rand, n int) string {
		var b strings.Builder
		fmt.Fprintf(&b, "%07d", n)
		for b.Len() < size {
			b.WriteByte(' ')
			b.WriteString(words[r.IntN(len(words))])
		}
		return b.String()[:size-1] + "\n"
	}
}

var (
	paths  = []string{"/", "/index.html", "/api/v1/items", "/api/v1/items/4711/comments", "/static/app.5f3c1.js", "/login"}
	agents = []string{"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", "kube-probe/1.30",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Version/17.5"}
	levels = []string{"debug", "info", "info", "info", "warn", "error"}
)

// mixture makes lines as a web server and a service behind it write them.
func mixture(r *rand.Rand, n int) string {
	at := fmt.Sprintf("%02d:%02d:%02d", n/3600%24, n/60%60, n%60)
	path, took := paths[r.IntN(len(paths))], r.IntN(2000)
	if n%2 == 0 {
		return fmt.Sprintf("10.%d.%d.%d - - [21/Nov/2026:%s +0000] \"GET %s?page=%d HTTP/1.1\" %d %d \"https://shop.example/%s\" \"%s\"\n",
			r.IntN(256), r.IntN(256), r.IntN(256), at, path, r.IntN(100), 200+r.IntN(4)*100+r.IntN(5), r.IntN(100_000),
			words[r.IntN(len(words))], agents[r.IntN(len(agents))])
	}
	return fmt.Sprintf(`{"ts":"2026-11-21T%s.%03dZ","level":"%s","service":"shop","trace":"%016x","route":"%s","took_ms":%d,"user":%d,"msg":"%s %s %s %s"}`+"\n",
		at, r.IntN(1000), levels[r.IntN(len(levels))], r.Uint64(), path, took, r.IntN(1_000_000),
		words[r.IntN(len(words))], words[r.IntN(len(words))], words[r.IntN(len(words))], words[r.IntN(len(words))])
}

// A load is what is written to a logger as fast as it takes it.
type load struct {
	Kind kind
	Each bool // each line with a write(2) of its own, else 64 KiB at once
}

func (l load) String() string {
	if l.Each {
		return string(l.Kind) + ", a write a line"
	}
	return string(l.Kind) + ", bulk"
}

// bulk is how much is written at once where lines are not.
const bulk = 64 << 10

// pieces cuts a block into what is written at once.
func (l load) pieces(block []byte) (all [][]byte) {
	for len(block) > 0 {
		n := min(bulk, len(block))
		if l.Each {
			n = bytes.IndexByte(block, '\n') + 1
		}
		all = append(all, block[:n])
		block = block[n:]
	}
	return all
}
