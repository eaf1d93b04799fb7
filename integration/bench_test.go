package integration

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

// BenchmarkFollowLatency measures the time from a service's write of a line
// until a read that was blocked on follow returns with it in another process,
// and beside it, in the same run, what a plain pipe between two processes
// takes.
func BenchmarkFollowLatency(b *testing.B) {
	for _, way := range []struct {
		name string
		run  func(b *testing.B) (lines io.Writer, reader *exec.Cmd)
	}{
		{"follow", latencyByFollow},
		{"pipe", latencyByPipe},
	} {
		b.Run(way.name, func(b *testing.B) {
			lines, reader := way.run(b)
			times := pingEach(b, lines, reader)
			b.ReportMetric(float64(percentile(times, 50))/1e3, "p50-µs")
			b.ReportMetric(float64(percentile(times, 99))/1e3, "p99-µs")
		})
	}
}

func latencyByFollow(b *testing.B) (io.Writer, *exec.Cmd) {
	d := startDaemon(b, "[service.web]\n")
	f := d.feed("web")
	f.say("begin")
	return f.w, latencyReader(d.path("web", "follow"))
}

func latencyByPipe(b *testing.B) (io.Writer, *exec.Cmd) {
	r, w, err := os.Pipe()
	must(b, err)
	b.Cleanup(func() { r.Close(); w.Close() })
	reader := latencyReader()
	reader.Stdin = r
	return w, reader
}

func latencyReader(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "LOGFS_TEST_HELPER=latency")
	return cmd
}

// warmUp is how many lines go first that are not counted.
const warmUp = 20

// pingEach writes b.N lines, each some time after the reader has answered the
// one before, and returns the times the reader measured.
func pingEach(b *testing.B, lines io.Writer, reader *exec.Cmd) []time.Duration {
	answers, err := reader.StdoutPipe()
	must(b, err)
	must(b, reader.Start())
	b.Cleanup(func() { _ = reader.Process.Kill(); _ = reader.Wait() })
	pace := time.NewTicker(2 * time.Millisecond)
	defer pace.Stop()
	var times []time.Duration
	answer := make([]byte, 8)
	for i := range warmUp + b.N {
		if i == warmUp {
			b.ResetTimer()
		}
		<-pace.C
		fmt.Fprintf(lines, "sent %d\n", monotonic())
		_, err := io.ReadFull(answers, answer)
		must(b, err)
		times = append(times, time.Duration(binary.LittleEndian.Uint64(answer)))
	}
	return times[warmUp:]
}

// percentile sorts times and returns the one that p of a hundred do not exceed.
func percentile(times []time.Duration, p int) time.Duration {
	slices.Sort(times)
	return times[min(len(times)-1, len(times)*p/100)]
}
