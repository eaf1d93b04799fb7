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
	for _, way := range []string{"none", "gzip", "zstd"} {
		t.Run(way, func(t *testing.T) {
			d := startDaemon(t, `
[service.web]
ring-lines = 1000
size = "128KiB"
keep = 1000
compress = "`+way+`"
`)
			f := d.feed("web")
			f.say("line 1")
			out := filepath.Join(d.dir, "out")
			cat := exec.Command("/bin/sh", "-c", `exec cat "$0" >"$1"`, d.path("web", "follow"), out)
			must(t, cat.Start())
			t.Cleanup(func() { _ = cat.Process.Kill(); _ = cat.Wait() })
			eventually(t, func() string { return "the first line" }, func() bool { return fileSize(out) > 0 })
			must(t, cat.Process.Signal(syscall.SIGSTOP))
			const last = 200_000
			var lines strings.Builder
			for i := 2; i <= last; i++ {
				fmt.Fprintf(&lines, "line %d\n", i)
			}
			f.write(lines.String())
			f.watch.await(fmt.Sprintf("\nline %d\n", last))
			packed := map[string]string{"none": "@*.s", "gzip": "@*.s.gz", "zstd": "@*.s.zst"}[way]
			eventually(t, func() string { return "40 archives " + packed }, func() bool {
				archives, _ := filepath.Glob(filepath.Join(d.store, "web", packed))
				return len(archives) >= 40
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
