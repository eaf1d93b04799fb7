package daemon

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"logfs/fs"
)

// heldMount is a mount and the descriptors of its holder.
func heldMount(t *testing.T) (s *fs.Server, dir, store string, k *mountKeeper) {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("no /dev/fuse on this machine: nothing of the mount is tested")
	}
	state, err := newMountState()
	must(t, err)
	defer state.Close()
	dir = t.TempDir()
	s, err = fs.Mount(fs.Options{Dir: dir, State: state, Log: slog.New(slog.DiscardHandler), Status: func(io.Writer) {}})
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	device, err := s.Connection()
	must(t, err)
	defer device.Close()
	store = t.TempDir()
	listener, err := listenMount(store)
	must(t, err)
	defer listener.Close()
	dup := func(f *os.File) int {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		must(t, err)
		return fd
	}
	k = &mountKeeper{listener: dup(listener), device: dup(device), state: dup(state)}
	t.Cleanup(func() { unix.Close(k.listener) })
	return s, dir, store, k
}

// A holder without a daemon gives up: the mount goes, and nobody waits for it any
// more.
func TestMountKeeperGivesUp(t *testing.T) {
	s, dir, _, k := heldMount(t)
	if k.until = time.Now(); k.wait() {
		t.Fatal("the holder waits on")
	}
	<-s.Done()
	var here, above unix.Stat_t
	must(t, unix.Stat(dir, &here))
	must(t, unix.Stat(filepath.Dir(dir), &above))
	if here.Dev != above.Dev {
		t.Error("the mount is still there")
	}
}

// A holder without a daemon ends when somebody takes the mount away.
func TestMountKeeperOfNothing(t *testing.T) {
	s, _, _, k := heldMount(t)
	k.until = time.Now().Add(time.Hour)
	must(t, s.Close())
	if k.wait() {
		t.Error("the holder waits on")
	}
}

// A holder gives the mount to who connects, waits as long as he is there, and ends
// when he says so.
func TestMountKeeperAndDaemons(t *testing.T) {
	s, dir, store, k := heldMount(t)
	until := time.Now().Add(time.Hour)
	k.until, k.serving = until, -1
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for k.wait() {
		}
		for _, fd := range k.daemons {
			unix.Close(fd)
		}
	}()
	for range 2 {
		m, err := findMountHolder(store)
		must(t, err)
		if m == nil || m.why != nil || m.kept.Dir != dir {
			t.Fatalf("connected to %+v", m)
		}
		m.leave()
	}
	m, err := findMountHolder(store)
	must(t, err)
	m.kept.Close()
	m.state.Close()
	m.holder.end()
	<-ended
	if k.until != until {
		t.Errorf("daemons that did not go on with the mount have put off its end to %v", k.until)
	}
	must(t, s.Close())
	if m, _ := findMountHolder(t.TempDir()); m != nil {
		t.Error("found a holder where none is")
	}
}

// A mount waits for the next daemon from the end of the one that has served it.
func TestMountKeeperWaitsForTheNext(t *testing.T) {
	s, _, store, k := heldMount(t)
	k.serving = -1
	ended := make(chan struct{})
	k.until = time.Now().Add(time.Hour)
	go func() {
		defer close(ended)
		for k.wait() {
		}
		for _, fd := range k.daemons {
			unix.Close(fd)
		}
	}()
	began := time.Now()
	m, err := findMountHolder(store)
	must(t, err)
	m.holder.goOn()
	m.leave()
	m, err = findMountHolder(store)
	must(t, err)
	m.kept.Close()
	m.state.Close()
	m.holder.end()
	<-ended
	if k.until.Before(began.Add(mountPatience)) || k.until.After(time.Now().Add(mountPatience)) {
		t.Errorf("the mount waits until %v, for a daemon that ended after %v", k.until, began)
	}
	must(t, s.Close())
}
