package control

import (
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"logfs/ring/record"
)

// anyDaemon takes every run and forgets it.
type anyDaemon struct{ fakeDaemon }

func (*anyDaemon) Attach(a Attach) (Run, error) {
	closeAll(append(a.Streams, a.Hold...))
	return make(noRun), nil
}

func (*anyDaemon) Status(w io.Writer) { _, _ = io.WriteString(w, "well\n") }

// noRun ends when its client does.
type noRun chan struct{}

func (noRun) Start(int) error        { return nil }
func (noRun) Exit(record.Exit) error { return nil }
func (r noRun) Wait() error          { <-r; return nil }
func (r noRun) Detach()              { close(r) }

// FuzzServer sends whatever there is in two packets, with descriptors. The server
// goes on to answer others, and keeps none of the descriptors.
func FuzzServer(f *testing.F) {
	for _, seed := range []struct {
		first, second string
		files         byte
	}{
		{`{"do":"status"}`, "", 0}, {`{"do":"attach","name":"web","kind":"run"}`, `{"do":"start","pid":1}`, 2},
		{`{"do":"attach","name":"web","kind":"pipe","hold":true}`, `{"do":"exit"}`, 4},
		{`{"do":"rotate","names":["a","\u0000"]}`, "{}", 20}, {"\x00", "[]", 1}, {strings.Repeat("[", 10_000), "", 0},
		{`{"do":"attach","kind":"pipe","pid":-1e400}`, `{"do":"start","pid":99999999999999999999}`, 1},
		{strings.Repeat("x", maxPacket), strings.Repeat("x", shortPacket+1), 0}, {"", "", 3},
	} {
		f.Add([]byte(seed.first), []byte(seed.second), seed.files)
	}
	path := filepath.Join(f.TempDir(), "control")
	s, err := Listen(path, &anyDaemon{}, slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	null, err := os.Open(os.DevNull)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { null.Close() })
	f.Fuzz(func(t *testing.T, first, second []byte, n byte) {
		c := dial(t, path)
		files := make([]*os.File, min(int(n), 100))
		for i := range files {
			files[i] = null
		}
		// A packet too long for the socket is refused here already, and one that
		// comes when the server has hung up.
		if c.p.write(first, files) == nil {
			_ = c.p.write(second, files)
		}
		var b strings.Builder
		must(t, dial(t, path).Status(&b))
		if b.String() != "well\n" {
			t.Errorf("another client gets %q", &b)
		}
	})
}

// However many connections say nothing, one that asks is answered, and none of
// them costs a buffer.
func TestSilentConnections(t *testing.T) {
	d, path := serve(t)
	d.setStatus("well\n")
	attached, there, _ := attach(t, d, path, Command)
	must(t, attached.Start(1)) // silent from now on, as runs are
	there.hears(t, "start 1")
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var silent []*net.UnixConn
	for range 4 * maxSilent {
		silent = append(silent, dial(t, path).p.UnixConn)
		if len(silent)%maxSilent == 0 {
			must(t, dial(t, path).Status(io.Discard))
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > 8<<20 {
		t.Errorf("%d silent connections take %d bytes", len(silent), grown)
	}
	// Those that have taken longest were given up.
	for _, c := range silent[:2*maxSilent] {
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("an old silent connection: %v, want it closed", err)
		}
	}
	must(t, attached.Exit(record.Exit{Known: true}))
	there.hears(t, `exit true 0 ""`)
	there.ended <- nil
	must(t, attached.Wait())
	attached.Detach()
	there.hears(t, "detach")
}
