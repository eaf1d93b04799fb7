package fs

import (
	"io"
	"syscall"
	"testing"

	"logfs/ring"
)

// BenchmarkOpen is what a script pays for each look at a small current.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	s, err := Mount(Options{Dir: dir, ListFollow: true, Status: func(io.Writer) {}})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	r := ring.New(ring.Limits{})
	m := &mounted{t: b, s: s, ring: r, dir: dir + "/web", stamp: 1795200000_000000000}
	if m.e, err = s.Add(Service{Name: "web", Ring: r, Looks: Looks{Marks: true, Mode: 0o750}}); err != nil {
		b.Fatal(err)
	}
	m.say("= start run=1 pid=7")
	m.count(1, 20)
	buf := make([]byte, 4096)
	for _, name := range []string{"current", "follow", "stderr/seq", "run/1/current", "since/start/current", "since/10m/follow"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				fd, err := syscall.Open(m.path(name), syscall.O_RDONLY|syscall.O_NONBLOCK, 0)
				if err != nil {
					b.Fatal(err)
				}
				syscall.Read(fd, buf)
				syscall.Close(fd)
			}
		})
	}
}
