package daemon

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A holderProcess is a process that need not be a child. Its number is given to no
// other process while it is open here.
type holderProcess struct{ file *os.File }

func openProcess(pid int) (h holderProcess, err error) {
	fd, err := unix.PidfdOpen(pid, unix.O_NONBLOCK)
	if err != nil {
		return h, fmt.Errorf("cannot find holder %d: %w", pid, err)
	}
	return holderProcess{os.NewFile(uintptr(fd), "holder")}, nil
}

// ended is closed when the process has ended, or is closed here.
func (h holderProcess) ended() <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		conn, err := h.file.SyscallConn()
		if err != nil {
			return
		}
		_ = conn.Read(func(fd uintptr) bool {
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			_, err := unix.Poll(fds, 0)
			return err == nil && fds[0].Revents != 0
		})
	}()
	return ended
}

// signal sends a signal. A process that has gone needs none.
func (h holderProcess) signal(sig unix.Signal) {
	conn, err := h.file.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) { _ = unix.PidfdSendSignal(int(fd), sig, nil, 0) })
}

func (h holderProcess) close() { h.file.Close() }
