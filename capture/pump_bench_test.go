package capture

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// serviceEnv makes the test binary the service of a benchmark: it writes so
// many lines of so many bytes, so many of them in each write.
const serviceEnv = "CAPTURE_BENCH_SERVICE"

func TestMain(m *testing.M) {
	if order := os.Getenv(serviceEnv); order != "" {
		if err := service(order); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if path := os.Getenv(holderEnv); path != "" {
		if err := captureHeld(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func service(order string) error {
	var lines, size, each int
	if _, err := fmt.Sscan(order, &lines, &size, &each); err != nil {
		return fmt.Errorf("cannot read order %q: %w", order, err)
	}
	line := append(bytes.Repeat([]byte("x"), size-1), '\n')
	block := bytes.Repeat(line, each)
	for ; lines > 0; lines -= each {
		if _, err := syscall.Write(1, block[:size*min(lines, each)]); err != nil {
			return fmt.Errorf("cannot write: %w", err)
		}
	}
	return nil
}

// startService returns the pipe of a process that writes lines.
func startService(b *testing.B, lines, size, each int) *os.File {
	b.Helper()
	r, w := pipe(b)
	defer w.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d %d", serviceEnv, lines, size, each))
	cmd.Stdout, cmd.Stderr = w, os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := cmd.Wait(); err != nil {
			b.Errorf("service: %v", err)
		}
	})
	return r
}

// BenchmarkPump reads a process that writes as fast as it can. One operation is
// one line; cpu-s/GiB is what this process spent, to compare with other loggers.
func BenchmarkPump(b *testing.B) {
	for _, bb := range []struct {
		name       string
		size, each int
		inputs     int
	}{
		{"100B bulk", 100, 655, 1},
		{"100B a write a line", 100, 1, 1},
		{"100B a write a line and an idle input", 100, 1, 2},
		{"20B bulk", 20, 3276, 1},
		{"20B a write a line", 20, 1, 1},
		{"4KiB bulk", 4096, 16, 1},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.SetBytes(int64(bb.size))
			b.ReportAllocs()
			got := 0
			var quiet *os.File
			inputs := []Input{{File: startService(b, b.N, bb.size, bb.each), Stream: Stdout}}
			if bb.inputs > 1 {
				r, w := pipe(b)
				quiet = w
				inputs = append(inputs, Input{File: r, Stream: Stderr})
			}
			sink := sinkFunc(func(batch []Piece) {
				got += len(batch)
				if got == b.N && quiet != nil {
					quiet.Close()
				}
			})
			before := cpuSeconds(b)
			if err := Pump(b.Context(), 0, sink, inputs...); err != nil {
				b.Fatal(err)
			}
			spent := cpuSeconds(b) - before
			if got != b.N {
				b.Errorf("got %d lines, want %d", got, b.N)
			}
			b.ReportMetric(spent/float64(b.N*bb.size)*(1<<30), "cpu-s/GiB")
		})
	}
}

func cpuSeconds(b *testing.B) float64 {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return float64(r.Utime.Nano()+r.Stime.Nano()) / 1e9
}

// BenchmarkPumpLine is the way of one line, written when the one before was
// taken, by a service that does nothing else: its input is hot, so it is the
// pause that is seen, and what it allocates.
func BenchmarkPumpLine(b *testing.B) {
	r, w := pipe(b)
	taken := make(chan struct{})
	done := make(chan error)
	sink := sinkFunc(func([]Piece) { taken <- struct{}{} })
	go func() { done <- Pump(b.Context(), 0, sink, Input{File: r, Stream: Stdout}) }()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := io.WriteString(w, "GET /health 200\n"); err != nil {
			b.Fatal(err)
		}
		<-taken
	}
	w.Close()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}
