package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkHistory compares a search through the whole history with one through
// the same files by the tools that made them: half of them compressed. The
// normal run has a tenth of it.
func BenchmarkHistory(b *testing.B) {
	needTools(b, "zstdcat")
	lines := 160_000
	if long {
		lines = 1_600_000 // 200 MiB in the files
	}
	d := past(b, "1MiB", lines)
	times := map[string][]time.Duration{}
	for b.Loop() {
		for name, script := range map[string]string{
			"mount": `grep -c needle "$F"; true`,
			"files": `cd "$S" && { zstdcat *.zst; cat *.s current; } | grep -c needle; true`,
			"tail":  `tail -n 20 "$F"`,
			"tac":   `tac "$F" | tail -n 1`,
		} {
			began := time.Now()
			p := d.shell(b, setting{}, script, "F="+d.path("web", "since", "start", "current"), "S="+d.logdir("web"))
			if p.wait() != 0 {
				b.Fatal(p.said())
			}
			times[name] = append(times[name], time.Since(began))
		}
	}
	for name, all := range times {
		b.ReportMetric(float64(percentile(all, 50))/1e6, name+"-ms")
	}
	b.ReportMetric(float64(percentile(times["mount"], 50))/float64(percentile(times["files"], 50)), "ratio")
	b.ReportMetric(0, "ns/op")
	d.stop()
}

// BenchmarkProbe measures the time from the line to the end of the readiness
// probe, and from the death of the process.
func BenchmarkProbe(b *testing.B) {
	d := startDaemon(b, "[service.web]\n")
	for name, last := range map[string]string{"line": "echo listening on 80; read -r end", "death": "exit 3"} {
		b.Run(name, func(b *testing.B) {
			var times []time.Duration
			for b.Loop() {
				times = append(times, d.probe(b, last))
			}
			b.ReportMetric(float64(percentile(times, 50))/1e6, "p50-ms")
			b.ReportMetric(float64(percentile(times, 99))/1e6, "p99-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
	d.stop()
}

// probe starts a service that does what last says when it is told to, and
// returns how long after that the probe has ended.
func (d *daemon) probe(b *testing.B, last string) time.Duration {
	stamp := filepath.Join(d.dir, "stamp")
	_ = os.Remove(stamp)
	cmd := exec.Command(logfsBin, "run", "--socket", d.sock, "web", "--", "sh", "-c",
		`echo ready; read -r go; date +%s.%N >"$0"; `+last, stamp)
	in, err := cmd.StdinPipe()
	must(b, err)
	before := d.runs()
	must(b, cmd.Start())
	eventually(b, func() string { return "the run" }, func() bool { return d.runs() != before })
	p := d.shell(b, setting{}, `grep -qm1 'listening on' "$M/web/run/now/follow"; date +%s.%N`)
	d.awaitReaders("web", 1)
	fmt.Fprintln(in, "go")
	p.wait()
	began, err := os.ReadFile(stamp)
	must(b, err)
	from, err := strconv.ParseFloat(strings.TrimSpace(string(began)), 64)
	must(b, err)
	to, err := strconv.ParseFloat(strings.TrimSpace(p.output()), 64)
	must(b, err)
	in.Close()
	_ = cmd.Wait()
	eventually(b, func() string { return "its end" }, func() bool { return d.statusOf("web")[1] != "running" })
	return time.Duration((to - from) * 1e9)
}

// runs is what run/now says.
func (d *daemon) runs() string {
	now, _ := os.Readlink(d.path("web", "run", "now"))
	return now
}
