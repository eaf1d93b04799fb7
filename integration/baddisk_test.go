package integration

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// A badDisk is a file system in a process of its own that fails on demand.
type badDisk struct {
	t       testing.TB
	faults  string // file that names what fails
	backing string // directory with what is on the disk
}

// badDisk gives a service such a file system.
func (d *daemon) badDisk(name string) *badDisk {
	t := d.t
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root mounts a file system where the daemon of root reads it")
	}
	disk := &badDisk{t, filepath.Join(d.dir, "faults"), filepath.Join(d.dir, "backing")}
	dir := d.logdir(name)
	must(t, os.MkdirAll(disk.backing, 0o750))
	must(t, os.MkdirAll(dir, 0o750))
	disk.fail()
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command(self, disk.backing, dir, disk.faults)
	cmd.Env = append(os.Environ(), "LOGFS_TEST_HELPER=baddisk")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	d.disks = append(d.disks, dir)
	t.Cleanup(func() {
		disk.fail()
		if d.running() {
			d.stop()
		}
		_ = unix.Unmount(dir, unix.MNT_DETACH)
		force := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		defer force.Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the bad disk ended with %v", err)
		}
	})
	if n, err := out.Read(make([]byte, 1)); n != 1 {
		t.Fatalf("the bad disk did not start: %v", err)
	}
	return disk
}

// The faults of a bad disk.
const (
	failWrites   = "write" // EIO, with half of the bytes written
	failSyncs    = "fsync" // EIO
	failReads    = "read"  // EIO where nothing has been fsynced
	loseUnsynced = "lose"  // a failed fsync leaves zeros where nothing had been fsynced
	junkUnsynced = "junk"  // the same, and there are other lines
	readOnly     = "rofs"  // EROFS for all that changes something
	wholeFile    = "whole" // what had been fsynced is gone as well
)

// fail has nothing work from now on but what is not named.
func (b *badDisk) fail(faults ...string) {
	b.t.Helper()
	fresh := b.faults + ".new"
	must(b.t, os.WriteFile(fresh, []byte(strings.Join(faults, " ")), 0o600))
	must(b.t, os.Rename(fresh, b.faults))
}

// serveBadDisk shows the directory args[0] at args[1]; the file args[2] names
// what fails.
func serveBadDisk(args []string) int {
	faulty := &faultyDisk{faults: args[2], synced: map[uint64]int64{}}
	root, err := fs.NewLoopbackRoot(args[0])
	if err != nil {
		return fail(err)
	}
	data := root.(*fs.LoopbackNode).RootData
	data.NewNode = func(data *fs.LoopbackRoot, _ *fs.Inode, _ string, _ *syscall.Stat_t) fs.InodeEmbedder {
		return &faultyNode{fs.LoopbackNode{RootData: data}, faulty}
	}
	top := &faultyNode{fs.LoopbackNode{RootData: data}, faulty}
	data.RootNode = top
	server, err := fs.Mount(args[1], top, &fs.Options{MountOptions: fuse.MountOptions{FsName: "baddisk", DirectMountStrict: true}})
	if err != nil {
		return fail(err)
	}
	fmt.Println()
	server.Wait()
	return 0
}

type faultyDisk struct {
	faults string
	mu     sync.Mutex
	synced map[uint64]int64 // how far a file has been fsynced, by inode
}

// fails says whether one of the faults is there.
func (d *faultyDisk) fails(faults ...string) bool {
	b, err := os.ReadFile(d.faults)
	if err != nil {
		return true
	}
	for _, f := range faults {
		if bytes.Contains(b, []byte(f)) {
			return true
		}
	}
	return false
}

func (d *faultyDisk) safe(ino uint64) int64 {
	if d.fails(wholeFile) {
		return 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.synced[ino]
}

type faultyNode struct {
	fs.LoopbackNode
	disk *faultyDisk
}

func (n *faultyNode) path(name ...string) string {
	return filepath.Join(append([]string{n.RootData.Path, n.Path(n.Root())}, name...)...)
}

func (n *faultyNode) open(path string, flags uint32, mode uint32) (*faultyFile, error) {
	f, err := os.OpenFile(path, int(flags)&^(unix.O_APPEND|unix.O_ACCMODE)|os.O_RDWR, os.FileMode(mode))
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &st)
	return &faultyFile{fs.NewLoopbackFileFromOS(f), f, st.Ino, n.disk}, err
}

func (n *faultyNode) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	f, err := n.open(n.path(), flags, 0)
	return f, fuse.FOPEN_DIRECT_IO, fs.ToErrno(err)
}

func (n *faultyNode) Create(ctx context.Context, name string, flags uint32, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	if n.disk.fails(readOnly) {
		return nil, nil, 0, syscall.EROFS
	}
	f, err := n.open(n.path(name), flags|unix.O_CREAT, mode)
	if err != nil {
		return nil, nil, 0, fs.ToErrno(err)
	}
	inode, errno := n.Lookup(ctx, name, out)
	return inode, f, fuse.FOPEN_DIRECT_IO, errno
}

func (n *faultyNode) Setattr(ctx context.Context, f fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if n.disk.fails(readOnly) {
		return syscall.EROFS
	}
	return n.LoopbackNode.Setattr(ctx, f, in, out)
}

func (n *faultyNode) Link(ctx context.Context, target fs.InodeEmbedder, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if n.disk.fails(readOnly) {
		return nil, syscall.EROFS
	}
	from := filepath.Join(n.RootData.Path, target.EmbeddedInode().Path(n.Root()))
	if err := os.Link(from, n.path(name)); err != nil {
		return nil, fs.ToErrno(err)
	}
	return n.Lookup(ctx, name, out)
}

func (n *faultyNode) Rename(_ context.Context, name string, parent fs.InodeEmbedder, newName string, _ uint32) syscall.Errno {
	if n.disk.fails(readOnly) {
		return syscall.EROFS
	}
	return fs.ToErrno(os.Rename(n.path(name), parent.(*faultyNode).path(newName)))
}

func (n *faultyNode) Unlink(_ context.Context, name string) syscall.Errno {
	if n.disk.fails(readOnly) {
		return syscall.EROFS
	}
	return fs.ToErrno(os.Remove(n.path(name)))
}

type faultyFile struct {
	*fs.LoopbackFile
	f    *os.File
	ino  uint64
	disk *faultyDisk
}

// PassthroughFd would have the kernel read and write without asking.
func (f *faultyFile) PassthroughFd() (int, bool) { return 0, false }

func (f *faultyFile) Write(ctx context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	switch {
	case f.disk.fails(readOnly):
		return 0, syscall.EROFS
	case f.disk.fails(failWrites):
		_, _ = f.f.WriteAt(data[:len(data)/2], off)
		return 0, syscall.EIO
	}
	return f.LoopbackFile.Write(ctx, data, off)
}

func (f *faultyFile) Read(_ context.Context, buf []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	if f.disk.fails(failReads) {
		safe := f.disk.safe(f.ino)
		if buf = buf[:min(int64(len(buf)), max(safe-off, 0))]; len(buf) == 0 {
			return nil, syscall.EIO
		}
	}
	n, _ := f.f.ReadAt(buf, off)
	return fuse.ReadResultData(buf[:n]), 0
}

func (f *faultyFile) Fsync(context.Context, uint32) syscall.Errno {
	info, err := f.f.Stat()
	if err != nil {
		return fs.ToErrno(err)
	}
	if f.disk.fails(failSyncs, loseUnsynced, junkUnsynced) {
		safe := f.disk.safe(f.ino)
		unsynced := make([]byte, max(info.Size()-safe, 0))
		if f.disk.fails(junkUnsynced) {
			copy(unsynced, bytes.Repeat([]byte("junk\n"), len(unsynced)/5))
		}
		if f.disk.fails(junkUnsynced, loseUnsynced) {
			_, _ = f.f.WriteAt(unsynced, safe)
		}
		return syscall.EIO
	}
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.disk.synced[f.ino] = info.Size()
	return 0
}
