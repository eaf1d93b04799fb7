package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"logfs/cmd/logfs/internal/control"
	"logfs/fs"
)

// The mount has a holder as well, which keeps its connection to the kernel and
// what its readers have read so far. A daemon is connected to it for as long as
// it lives. One that comes gets both, and goes on with the mount.

const (
	mountSocket = ".mount" // beside the locks of the holders; no service has such a name
	sayMount    = "mount"  // comes with the descriptors
	sayEnd      = "end"    // asks the holder to end: the mount is gone
	sayOn       = "on"     // tells the holder that this daemon goes on with the mount
	// mountHolderPatience is how long an answer of the holder is waited for.
	mountHolderPatience = 5 * time.Second
)

// The descriptors of a holder of a mount, behind HoldSpec.
const (
	holdListener = HoldSpec + 1 + iota
	holdConn
	holdDevice
	holdState
)

// A mountHolder is the daemon's end of the connection to a holder.
type mountHolder struct{ conn *os.File }

// heldDir opens the directory of the holders, so that a path in it fits into the
// address of a socket.
func heldDir(store string) (fd int, err error) {
	return unix.Open(filepath.Join(store, locksDir), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

func mountAddress(dir int) *unix.SockaddrUnix {
	return &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(dir) + "/" + mountSocket}
}

// findMountHolder connects to the holder of the mount of an earlier daemon. It
// returns nil if there is none.
func findMountHolder(store string) (*oldMount, error) {
	dir, err := heldDir(store)
	if err != nil {
		return nil, nil // there never was one
	}
	defer unix.Close(dir)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot make a socket: %w", err)
	}
	if err := unix.Connect(fd, mountAddress(dir)); err != nil {
		unix.Close(fd)
		return nil, nil
	}
	m := &oldMount{}
	m.kept, m.state, m.why = receiveMount(fd)
	m.holder = &mountHolder{pollable(fd)}
	return m, nil
}

// pollable is a file whose reads the runtime waits for.
func pollable(fd int) *os.File {
	_ = unix.SetNonblock(fd, true)
	return os.NewFile(uintptr(fd), "holder of the mount")
}

func receiveMount(fd int) (*fs.Kept, *os.File, error) {
	if err := control.CheckPeer(fd); err != nil {
		return nil, nil, err
	}
	patience := unix.NsecToTimeval(int64(mountHolderPatience))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience); err != nil {
		return nil, nil, err
	}
	said, oob := make([]byte, len(sayMount)), make([]byte, unix.CmsgSpace(4*2))
	n, oobn, _, _, err := unix.Recvmsg(fd, said, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot hear its holder: %w", err)
	}
	files := filesOf(oob[:oobn])
	if string(said[:n]) != sayMount {
		closeAll(files)
		return nil, nil, errors.New("its holder says something unknown")
	}
	return openKept(files)
}

func filesOf(oob []byte) (files []*os.File) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) != 1 {
		return nil
	}
	fds, _ := unix.ParseUnixRights(&messages[0])
	for _, fd := range fds {
		files = append(files, os.NewFile(uintptr(fd), "mount"))
	}
	return files
}

// goOn tells the holder that the mount is served.
func (h *mountHolder) goOn() { _, _ = h.conn.WriteString(sayOn) }

// end has the holder let go of everything, and returns when it has.
func (h *mountHolder) end() {
	_, _ = h.conn.WriteString(sayEnd)
	_ = h.conn.SetReadDeadline(time.Now().Add(mountHolderPatience))
	for {
		if n, err := h.conn.Read(make([]byte, 1)); n == 0 || err != nil {
			break
		}
	}
	h.conn.Close()
}

// lost returns when the holder has gone, or this end was closed.
func (h *mountHolder) lost() {
	_, _ = h.conn.Read(make([]byte, 1))
}

// newMountState makes the memory in which the tree notes what the next daemon has
// to know.
func newMountState() (*os.File, error) {
	f, err := memory("logfs-mount", int64(fs.StateSize))
	if err != nil {
		return nil, fmt.Errorf("cannot make memory for the state of the mount: %w", err)
	}
	return f, nil
}

// memory is shared memory whose size does not change any more.
func memory(name string, size int64) (*os.File, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(name, flags|unix.MFD_NOEXEC_SEAL)
	if err == unix.EINVAL { // before Linux 6.3
		fd, err = unix.MemfdCreate(name, flags)
	}
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	if err = unix.Ftruncate(fd, size); err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// startMountHolder starts a holder for a mount.
func (d *Daemon) startMountHolder(device, state *os.File) (*mountHolder, error) {
	listener, err := listenMount(d.o.Config.Store)
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot make a socket: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "conn")
	defer theirs.Close()
	h := &mountHolder{pollable(pair[0])}
	if err := d.runMountHolder(listener, theirs, device, state); err != nil {
		h.conn.Close()
		return nil, fmt.Errorf("cannot start it: %w", err)
	}
	return h, nil
}

func (d *Daemon) runMountHolder(files ...*os.File) error {
	spec, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer spec.Close()
	defer w.Close()
	cmd := exec.Command(d.o.Holder, HoldWord, mountSocket)
	cmd.Args[0], cmd.Dir = "logfs", "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.ExtraFiles = append([]*os.File{spec}, files...)
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }()
	return json.NewEncoder(w).Encode(Holding{Mount: true})
}

// listenMount makes the socket of a holder. The store is ours: what has the name
// was left by a holder that is gone.
func listenMount(store string) (*os.File, error) {
	if err := os.Mkdir(filepath.Join(store, locksDir), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	dir, err := heldDir(store)
	if err != nil {
		return nil, fmt.Errorf("cannot open the directory of the holders: %w", err)
	}
	defer unix.Close(dir)
	if err := unix.Unlinkat(dir, mountSocket, 0); err != nil && err != unix.ENOENT {
		return nil, fmt.Errorf("cannot remove the socket of the last holder: %w", err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot make a socket: %w", err)
	}
	if err = unix.Bind(fd, mountAddress(dir)); err == nil {
		err = unix.Listen(fd, 8)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot listen on the socket of a holder: %w", err)
	}
	return os.NewFile(uintptr(fd), "listener"), nil
}
