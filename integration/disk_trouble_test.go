package integration

import (
	"net"
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
			restore := d.limit(unix.RLIMIT_NOFILE, 3)
			c, err := net.Dial("unixpacket", d.sock) // waits in the queue
			must(t, err)
			return func() {
				restore()
				must(t, c.Close())
			}
		}, "takes no writes", true},
		{"logdir deleted", func(t *testing.T, d *daemon) func() {
			removeAll(t, d.logdir("web"))
			return nil
		}, "is there again", false},
		{"store deleted", func(t *testing.T, d *daemon) func() {
			must(t, os.Rename(d.store, d.store+".old"))
			removeAll(t, d.store+".old")
			return nil
		}, "is there again", false},
		{"logdir deleted and replaced by a link", func(t *testing.T, d *daemon) func() {
			must(t, os.Rename(d.logdir("web"), filepath.Join(d.dir, "moved")))
			elsewhere := d.linkAway(t, "web")
			removeAll(t, filepath.Join(d.dir, "moved"))
			return func() {
				elsewhere()
				must(t, os.Remove(d.logdir("web")))
			}
		}, "a symbolic link is there", false},
		{"logdir replaced by a link", func(t *testing.T, d *daemon) func() {
			must(t, os.Rename(d.logdir("web"), filepath.Join(d.dir, "moved")))
			elsewhere := d.linkAway(t, "web")
			return func() {
				elsewhere()
				must(t, os.Remove(d.logdir("web")))
				must(t, os.Rename(filepath.Join(d.dir, "moved"), d.logdir("web")))
			}
		}, "not at its path", true},
	}
	for _, tt := range troubles {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := startDaemon(t, emitter("web", last, 500, keepAll, "ring-lines = 100000", `ring-bytes = "64MiB"`)+"[service.db]\n")
			d.t = t
			d.expectLog("service=web")
			d.expectLog("is there again.* service=db|cannot accept control connections")
			if tt.name == "store deleted" { // it is moved first
				d.expectLog("not at its path.* service=db")
			}
			w := d.watch("web", "stdout", "follow")
			db := d.feed("db")
			w.await(numbered(1000) + "\n")
			db.upTo(40)
			end := tt.trouble(t, d)
			before := d.statusNumber("web", statusLast) // the files of these may be gone
			d.awaitLog(tt.said)
			db.upTo(100)
			w.await(numbered(last-5000) + "\n")
			if end != nil {
				end()
			}
			w.await(numbered(last) + "\n")
			d.awaitState("web", "exited")
			if end != nil && tt.said != "not at its path" {
				d.awaitLog("takes writes again")
			}
			db.upTo(200)
			db.close()
			d.stop()
			d.verified(d.logdir("web"))
			if tt.whole {
				if a := accountOfFiles(t, d.logdir("web")); a.lines != last || a.marks != 0 {
					t.Errorf("the files have %+v, want all %d lines", a, last)
				}
			} else {
				checkFrom(t, readLogdir(t, d.logdir("web")), before, last)
			}
			if n := strings.Count(d.log.String(), "level=WARN") + strings.Count(d.log.String(), "level=ERROR"); n > 4 {
				t.Errorf("%d warnings:\n%s", n, d.log)
			}
			if tt.name != "store deleted" {
				checkStored(t, readLogdir(t, d.logdir("db")), 200)
			}
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

// removeAll deletes a directory in which files are made.
func removeAll(t *testing.T, dir string) {
	t.Helper()
	eventually(t, func() string { return dir + " to be empty for a moment" }, func() bool { return os.RemoveAll(dir) == nil })
}

// linkAway puts a link to another directory where a logdir was, and returns
// what checks that the other is as it was.
func (d *daemon) linkAway(t *testing.T, name string) (check func()) {
	t.Helper()
	elsewhere := filepath.Join(d.dir, "elsewhere")
	must(t, os.Mkdir(elsewhere, 0o755))
	must(t, os.WriteFile(filepath.Join(elsewhere, "current"), []byte("not ours\n"), 0o600))
	must(t, os.Symlink(elsewhere, d.logdir(name)))
	return func() {
		b, err := os.ReadFile(filepath.Join(elsewhere, "current"))
		entries, _ := os.ReadDir(elsewhere)
		if err != nil || string(b) != "not ours\n" || len(entries) != 1 {
			t.Errorf("the target of the link was touched: %q, %v, %q", b, err, entries)
		}
	}
}

// checkFrom checks that stored lines hold every numbered line from some number,
// at most first, to last.
func checkFrom(t *testing.T, lines []string, first, last int) {
	t.Helper()
	n := 0
	for _, line := range lines {
		switch got := numberOf(storedText(line)); {
		case got == 0:
		case n == 0 && got > first || n > 0 && got != n+1:
			t.Fatalf("line %d after %d, want them from at most %d on", got, n, first)
		default:
			n = got
		}
	}
	if n != last {
		t.Errorf("the last line is %d, want %d", n, last)
	}
}
