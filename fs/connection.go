package fs

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// checkConnection says why fd, which somebody has kept, is not the connection of
// the mount with the device given. It does not wait. The device alone is not
// enough: its number may be that of another mount by now.
func checkConnection(fd int, device string) error {
	if !IsConnection(fd) {
		return errors.New("what was kept of it is no connection")
	}
	if err := unix.SetNonblock(fd, false); err != nil { // the loops wait in read
		return fmt.Errorf("cannot use its connection: %w", err)
	}
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if _, err := unix.Poll(fds, 0); err != nil {
		return fmt.Errorf("cannot look at its connection: %w", err)
	}
	if fds[0].Revents&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) != 0 {
		return errors.New("its connection has ended")
	}
	if of := connectedTo(fd); of != "" && of != device {
		return fmt.Errorf("what was kept is the connection of device %s, not of %s", of, device)
	}
	return nil
}

// IsConnection says whether fd is a file of /dev/fuse.
func IsConnection(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(10, 229)
}

// connectedTo is the device of the mount that fd is the connection of, as "0:52";
// "" if the kernel does not tell: older ones do not.
func connectedTo(fd int) (device string) {
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(info)) {
		if number, ok := strings.CutPrefix(line, "fuse_connection:\t"); ok {
			return "0:" + strings.TrimSpace(number)
		}
	}
	return ""
}
