package integration

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A signal rotates all services, the command those named; archives are
// compressed, and readers notice nothing.
func TestRotationWithCompression(t *testing.T) {
	t.Parallel()
	for form, tool := range map[string]string{"gzip": "zcat", "zstd": "zstdcat"} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			needTools(t, tool)
			d := startDaemon(t, fmt.Sprintf("[defaults]\nrotate = \"daily\"\ncompress = %q\ntotal = \"10MiB\"\nage = \"7d\"\n[service.web]\n[service.db]\n", form))
			web, db := d.feed("web"), d.feed("db")
			archives := func(name string, want int) (found []string) {
				eventually(t, func() string { return fmt.Sprintf("%d archives of %s, now %q", want, name, found) }, func() bool {
					found, _ = filepath.Glob(filepath.Join(d.logdir(name), "@*.s.*"))
					return len(found) == want
				})
				return found
			}
			web.upTo(10)
			db.upTo(10)
			must(t, d.cmd.Process.Signal(unix.SIGALRM))
			archives("db", 1)
			packed := archives("web", 1)[0]
			web.upTo(20)
			if res := d.logfs("rotate", "web"); res.status != 0 {
				t.Errorf("rotate: %+v", res)
			}
			archives("web", 2)
			web.upTo(30)
			archives("db", 1)
			if res := runCommand(t, nil, d.dir, lookTool(tool), packed); strings.Count(res.stdout, " o n=00000") != 10 {
				t.Errorf("%s: %+v", tool, res)
			}
			if first, last := checkSnapshot(t, "current", d.read("web", "current")); first != 1 || last != 30 {
				t.Errorf("current holds %d to %d, want 1 to 30", first, last)
			}
			web.close()
			db.close()
			d.stop()
			d.verified(d.logdir("web"))
			d.verified(d.logdir("db"))
		})
	}
}
