package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A follower is stopped while 200,000 lines pass through a ring of 1,000 and
// through dozens of archives that are rotated and compressed under him. He
// gets every line once, in order, and does not notice.
func TestStoppedFollowerIsFedFromArchives(t *testing.T) {
	for _, tt := range []struct {
		compress, size  string
		stops, archives int
	}{
		{"none", "128KiB", 1, 40},
		{"gzip", "128KiB", 1, 40},
		{"zstd", "128KiB", 1, 40},
		{"zstd", "32KiB", 20, 200},
	} {
		t.Run(fmt.Sprintf("%s %d", tt.compress, tt.archives), func(t *testing.T) {
			d := startDaemon(t, fmt.Sprintf(`
[service.web]
ring-lines = 1000
size = %q
keep = 1000
compress = %q
`, tt.size, tt.compress))
			f := d.feed("web")
			f.say("line 1")
			out := filepath.Join(d.dir, "out")
			cat := exec.Command("/bin/sh", "-c", `exec cat "$0" >"$1"`, d.path("web", "follow"), out)
			must(t, cat.Start())
			t.Cleanup(func() { _ = cat.Process.Kill(); _ = cat.Wait() })
			eventually(t, func() string { return "the first line" }, func() bool { return fileSize(out) > 0 })
			const last = 200_000
			size := fileSize(out)
			for stop := range tt.stops {
				eventually(t, func() string { return "more lines" }, func() bool { return stop == 0 || fileSize(out) > size })
				must(t, cat.Process.Signal(syscall.SIGSTOP))
				from, to := 2+(last-1)*stop/tt.stops, 1+(last-1)*(stop+1)/tt.stops
				var lines strings.Builder
				for i := from; i <= to; i++ {
					fmt.Fprintf(&lines, "line %d\n", i)
				}
				f.write(lines.String())
				f.watch.await(fmt.Sprintf("\nline %d\n", to))
				if size = fileSize(out); stop < tt.stops-1 {
					must(t, cat.Process.Signal(syscall.SIGCONT))
				}
			}
			packed := map[string]string{"none": "@*.s", "gzip": "@*.s.gz", "zstd": "@*.s.zst"}[tt.compress]
			eventually(t, func() string { return fmt.Sprintf("%d archives %s", tt.archives, packed) }, func() bool {
				archives, _ := filepath.Glob(filepath.Join(d.store, "web", packed))
				return len(archives) >= tt.archives
			})
			must(t, cat.Process.Signal(syscall.SIGCONT))
			eventually(t, func() string { return fmt.Sprintf("line %d, have %d bytes", last, fileSize(out)) }, func() bool {
				b, _ := os.ReadFile(out)
				return strings.HasSuffix(string(b), fmt.Sprintf("\nline %d\n", last))
			})
			b, err := os.ReadFile(out)
			must(t, err)
			next := 1
			for line := range strings.Lines(string(b)) {
				if strings.HasPrefix(line, "-- web run ") {
					continue
				}
				if line != fmt.Sprintf("line %d\n", next) {
					t.Fatalf("got %q, want line %d", line, next)
				}
				next++
			}
			if next != last+1 {
				t.Errorf("%d lines, want %d", next-1, last)
			}
		})
	}
}

func fileSize(path string) int64 {
	fi, err := os.Stat(path)
	if err != nil {
		return -1
	}
	return fi.Size()
}
