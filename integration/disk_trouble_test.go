package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Whatever is done to the logdir, capture and readers go on, other services
// notice nothing, and the log of the daemon is not flooded.
func TestDiskTrouble(t *testing.T) {
	const last = 20_000
	troubles := []struct {
		name    string
		trouble func(t *testing.T, d *daemon) (end func())
		said    string // in the log, once
		whole   bool   // nothing is lost in the end
	}{
		{"file size limit", func(t *testing.T, d *daemon) func() {
			return d.limit(unix.RLIMIT_FSIZE, 16<<10)
		}, "takes no writes", true},
		{"no descriptors", func(t *testing.T, d *daemon) func() {
			return d.limit(unix.RLIMIT_NOFILE, 3)
		}, "takes no writes", true},
		{"logdir deleted", func(t *testing.T, d *daemon) func() {
			must(t, os.RemoveAll(d.logdir("web")))
			return nil
		}, "takes no writes", false},
		{"logdir replaced by a link", func(t *testing.T, d *daemon) func() {
			elsewhere := filepath.Join(d.dir, "elsewhere")
			must(t, os.Mkdir(elsewhere, 0o755))
			must(t, os.WriteFile(filepath.Join(elsewhere, "current"), []byte("not ours\n"), 0o600))
			must(t, os.Rename(d.logdir("web"), filepath.Join(d.dir, "moved")))
			must(t, os.Symlink(elsewhere, d.logdir("web")))
			return func() {
				b, err := os.ReadFile(filepath.Join(elsewhere, "current"))
				entries, _ := os.ReadDir(elsewhere)
				if err != nil || string(b) != "not ours\n" || len(entries) != 1 {
					t.Errorf("the target of the link was touched: %q, %v, %q", b, err, entries)
				}
				must(t, os.Remove(d.logdir("web")))
				must(t, os.Rename(filepath.Join(d.dir, "moved"), d.logdir("web")))
			}
		}, "", true},
	}
	for _, tt := range troubles {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := startDaemon(t, emitter("web", last, 500, keepAll, "ring-lines = 100000", `ring-bytes = "64MiB"`)+"[service.db]\n")
			d.t = t
			d.expectLog("service=web")
			w := d.watch("web", "stdout", "follow")
			db := d.feed("db")
			w.await(numbered(1000) + "\n")
			end := tt.trouble(t, d)
			if tt.said != "" {
				d.awaitLog(tt.said)
			}
			if strings.HasPrefix(tt.name, "logdir") {
				db.upTo(100)
			}
			w.await(numbered(last-5000) + "\n")
			if end != nil {
				end()
			}
			w.await(numbered(last) + "\n")
			d.awaitState("web", "exited")
			if tt.said != "" && tt.whole {
				d.awaitLog("takes writes again")
			}
			db.upTo(200)
			db.close()
			if tt.whole {
				d.stop()
				d.verified(d.logdir("web"))
				if a := accountOfFiles(t, d.logdir("web")); a.lines != last || a.marks != 0 {
					t.Errorf("the files have %+v, want all %d lines", a, last)
				}
			} else {
				must(t, d.cmd.Process.Signal(unix.SIGTERM))
				d.awaitExit()
			}
			if n := strings.Count(d.log.String(), "level=WARN"); n > 3 {
				t.Errorf("%d warnings:\n%s", n, d.log)
			}
			checkStored(t, readLogdir(t, d.logdir("db")), 200)
		})
	}
}

// limit sets a soft limit of the running daemon and returns what takes it back.
func (d *daemon) limit(resource int, soft uint64) (restore func()) {
	d.t.Helper()
	var old unix.Rlimit
	must(d.t, unix.Prlimit(d.pid(), resource, nil, &old))
	must(d.t, unix.Prlimit(d.pid(), resource, &unix.Rlimit{Cur: soft, Max: old.Max}, nil))
	return func() { must(d.t, unix.Prlimit(d.pid(), resource, &old, nil)) }
}
