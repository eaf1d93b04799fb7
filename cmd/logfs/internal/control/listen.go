package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"logfs/cmd/logfs/internal/exit"
)

// maxPath is the longest path of a unix socket.
const maxPath = len(unix.RawSockaddrUnix{}.Path) - 1

// CheckPath reports why no socket can have the path.
func CheckPath(path string) error {
	if len(path) > maxPath {
		return exit.Misusef("control socket %q is too long: at most %d bytes are accepted", path, maxPath)
	}
	return nil
}

// listen makes the socket. It takes the place of a socket that nobody listens
// on any more, which a killed daemon leaves, and of nothing else.
func listen(path string) (*net.UnixListener, error) {
	if err := CheckPath(path); err != nil {
		return nil, err
	}
	if err := makeParent(filepath.Dir(path)); err != nil {
		return nil, err
	}
	addr := &net.UnixAddr{Name: path, Net: "unixpacket"}
	l, err := net.ListenUnix(addr.Net, addr)
	if errors.Is(err, unix.EADDRINUSE) {
		if err := removeStale(addr); err != nil {
			return nil, err
		}
		l, err = net.ListenUnix(addr.Net, addr)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot listen on control socket %q: %w", path, errno(err))
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("cannot protect control socket: %w", err)
	}
	return l, nil
}

// makeParent makes the socket's directory if it is missing: for everybody to
// pass if root made it, else for its user only.
func makeParent(dir string) error {
	mode := fs.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o755
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		return fmt.Errorf("cannot make the control socket's directory: %w", err)
	}
	return nil
}

func removeStale(addr *net.UnixAddr) error {
	fi, err := os.Lstat(addr.Name)
	if err != nil {
		return fmt.Errorf("cannot look at control socket: %w", err)
	}
	if fi.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("control socket %q cannot be made: a file that is no socket has the name", addr.Name)
	}
	c, err := net.DialUnix(addr.Net, nil, addr)
	if err == nil {
		c.Close()
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("control socket %q is in use: a daemon listens on it", addr.Name)
	}
	if err := os.Remove(addr.Name); err != nil {
		return fmt.Errorf("cannot remove stale control socket: %w", err)
	}
	return nil
}

// errno is the system's reason in err: the net package wraps it in the names
// of the call and the address, which our messages have already.
func errno(err error) error {
	var e unix.Errno
	if errors.As(err, &e) {
		return e
	}
	return err
}
