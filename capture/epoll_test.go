package capture

import (
	"testing"

	"golang.org/x/sys/unix"
)

// A finished input is not reported any more, though another descriptor keeps
// its open file alive; else the Pump would spin until the other input ends.
func TestWatcherForgets(t *testing.T) {
	r, w := pipe(t)
	idle := 0
	watch, err := newWatcher(func() { idle++ })
	if err != nil {
		t.Fatal(err)
	}
	defer watch.close()
	fd, err := unix.FcntlInt(r.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := watch.add(fd, 7); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if ready, err := watch.wait(false); err != nil || len(ready) != 1 || ready[0].Fd != 7 {
		t.Fatalf("ended pipe: got %v, %v, want 7", ready, err)
	}
	watch.remove(fd)
	unix.Close(fd)
	if ready, err := watch.wait(true); err != nil || len(ready) != 0 {
		t.Errorf("removed pipe: got %v, %v, want nothing", ready, err)
	}
	if idle != 0 {
		t.Errorf("idle was called %d times without parking", idle)
	}
}
