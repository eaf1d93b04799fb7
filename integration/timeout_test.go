//go:build long

package integration

import (
	"os"
	"syscall"
	"testing"
	"time"
)

const timeoutSysctl = "/proc/sys/fs/fuse/default_request_timeout"

// With fs.fuse.default_request_timeout a reader that waits for longer does not
// cost everybody the mount. The kernel looks every 15 s, so this takes a minute.
// It takes the setting when a file system is mounted, and other mounts are none of
// ours: it is put back at once.
func TestKernelRequestTimeout(t *testing.T) {
	needRoot(t)
	was, err := os.ReadFile(timeoutSysctl)
	if err != nil {
		t.Skipf("SKIPPED: this kernel does not time requests out: %v", err)
	}
	d := newDaemon(t, smallRing)
	d.expectLog("request_timeout")
	restore := func() { must(t, os.WriteFile(timeoutSysctl, was, 0o644)) }
	t.Cleanup(restore)
	must(t, os.WriteFile(timeoutSysctl, []byte("15\n"), 0o644))
	d.start()
	restore()
	f := d.feed("web")
	f.upTo(3)
	cat := d.shell(t, setting{}, `exec cat "$M/web/follow"`)
	cat.awaitText(numbered(3))
	for n := 4; n < 6; n++ {
		select {
		case <-time.After(35 * time.Second):
		case <-cat.done:
			t.Fatalf("cat ended: %s", cat.said())
		}
		f.upTo(n)
		cat.awaitText(numbered(n))
		if n == 4 { // the next daemon has the same mount, whatever the setting is now
			d.kill()
			d.start()
		}
	}
	cat.end(syscall.SIGTERM)
}
