package daemon

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"logfs/cmd/logfs/internal/control"
	"logfs/fs"
)

// mountPatience is how long a holder waits for a daemon to go on with the mount.
// All who use the mount wait as long. Daemons that come and fail give them no more.
const mountPatience = time.Minute

// A mountKeeper is the holder of a mount, as a process of its own. It opens no
// file of the mount, and does nothing while a daemon is connected.
type mountKeeper struct {
	listener, device, state int
	daemons                 []int     // those connected: one, but for moments
	serving                 int       // the one that goes on with the mount
	until                   time.Time // when it gives up, without a daemon
}

// KeepMount is what a holder of a mount does.
func KeepMount() {
	k := mountKeeper{listener: holdListener, device: holdDevice, state: holdState, daemons: []int{holdConn}, serving: holdConn}
	for fd := holdListener; fd <= holdState; fd++ {
		unix.CloseOnExec(fd)
	}
	for k.wait() {
	}
	unix.Close(k.device) // before the connections: who waits for their end waits for this
}

// wait waits for something to do and does it. It returns false when there is
// nothing left to hold.
func (k *mountKeeper) wait() bool {
	fds := []unix.PollFd{{Fd: int32(k.listener), Events: unix.POLLIN}}
	timeout := -1
	if len(k.daemons) == 0 {
		// Every request for the mount wakes who polls its connection, and with a
		// daemon that is many.
		fds = append(fds, unix.PollFd{Fd: int32(k.device)})
		timeout = int(max(0, time.Until(k.until)).Milliseconds())
	}
	for _, fd := range k.daemons {
		fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	n, err := unix.Poll(fds, timeout)
	switch {
	case err == unix.EINTR:
		return true
	case err != nil:
		return false
	case n == 0:
		k.giveUp()
		return false
	}
	for _, fd := range fds {
		if fd.Revents != 0 && !k.answer(int(fd.Fd)) {
			return false
		}
	}
	return true
}

func (k *mountKeeper) answer(fd int) bool {
	switch fd {
	case k.device:
		return false // unmounted, or aborted
	case k.listener:
		k.admit()
		return true
	}
	said := make([]byte, len(sayEnd))
	n, err := unix.Read(fd, said)
	if err == unix.EINTR {
		return true
	}
	switch {
	case n <= 0 || err != nil:
		k.dismiss(fd)
	case string(said[:n]) == sayOn:
		k.serving = fd
	case string(said[:n]) == sayEnd:
		return false
	}
	return true
}

// admit gives the mount to a daemon.
func (k *mountKeeper) admit() {
	fd, _, err := unix.Accept4(k.listener, unix.SOCK_CLOEXEC)
	if err != nil {
		return
	}
	rights := unix.UnixRights(k.device, k.state)
	if control.CheckPeer(fd) != nil || unix.Sendmsg(fd, []byte(sayMount), rights, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL) != nil {
		unix.Close(fd)
		return
	}
	k.daemons = append(k.daemons, fd)
}

func (k *mountKeeper) dismiss(fd int) {
	unix.Close(fd)
	for i, d := range k.daemons {
		if d == fd {
			k.daemons = append(k.daemons[:i], k.daemons[i+1:]...)
			break
		}
	}
	if fd == k.serving {
		k.serving, k.until = -1, time.Now().Add(mountPatience)
	}
}

// giveUp takes the mount away, so that nobody waits for ever.
func (k *mountKeeper) giveUp() {
	device, state := os.NewFile(uintptr(k.device), "device"), os.NewFile(uintptr(k.state), "state")
	if kept, err := fs.OpenKept(device, state); err == nil {
		_ = kept.Abandon()
		kept.Close()
	}
	device.Close()
}
