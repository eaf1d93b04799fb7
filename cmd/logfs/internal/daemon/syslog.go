package daemon

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"logfs/cmd/logfs/internal/config"
	"logfs/cmd/logfs/internal/exit"
)

// A syslogSocket is a datagram socket with a name. A nil one is none.
//
// The kernel loses nothing of what it has taken: a sender waits, or is told, when
// max_dgram_qlen messages are in the queue or his own buffer is full.
type syslogSocket struct {
	fd       int
	path     string
	dev, ino uint64 // of the name
}

// listenSyslog makes the socket. It takes the place of one that nobody reads any
// more, which a killed daemon leaves, and of nothing else.
func listenSyslog(c config.Service) (*syslogSocket, error) {
	if err := makeParent(c.Syslog); err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, exit.Refusedf("cannot make a socket: %w", err)
	}
	s := &syslogSocket{fd: fd, path: c.Syslog}
	if err := s.bind(c); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return s, nil
}

// bind gives the socket its name. Nobody else can use it before it has its owner
// and mode.
func (s *syslogSocket) bind(c config.Service) error {
	if err := unix.Fchmod(s.fd, 0o600); err != nil {
		return exit.Refusedf("cannot protect the socket: %w", err)
	}
	addr := &unix.SockaddrUnix{Name: s.path}
	err := unix.Bind(s.fd, addr)
	if err == unix.EADDRINUSE {
		if err := removeStale(s.path); err != nil {
			return err
		}
		err = unix.Bind(s.fd, addr)
	}
	if err != nil {
		return exit.Refusedf("cannot bind the socket: %w", err)
	}
	fd, st, err := fileAt(s.path)
	if err != nil {
		return exit.Refusedf("cannot look at the socket: %w", err)
	}
	defer unix.Close(fd)
	s.dev, s.ino = st.Dev, st.Ino
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return wrongKind(st, "a socket")
	}
	if err := dress(fd, c, 0o600); err != nil {
		return errors.Join(err, s.unlink())
	}
	return nil
}

// removeStale removes a socket that nobody reads.
func removeStale(path string) error {
	fd, st, err := fileAt(path)
	if err != nil {
		return exit.Refusedf("cannot look at what is there: %w", err)
	}
	unix.Close(fd)
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return wrongKind(st, "a socket that nobody reads")
	}
	probe, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return exit.Refusedf("cannot make a socket: %w", err)
	}
	defer unix.Close(probe)
	if err := unix.Connect(probe, &unix.SockaddrUnix{Name: path}); err != unix.ECONNREFUSED {
		return exit.Refusedf("it is in use: another process reads that socket")
	}
	if err := unix.Unlink(path); err != nil {
		return exit.Refusedf("cannot remove the stale socket: %w", err)
	}
	return nil
}

// stream is the socket once more, to be read from and closed.
func (s *syslogSocket) stream() (*os.File, error) {
	fd, err := unix.FcntlInt(uintptr(s.fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), s.path), nil
}

// refuse has senders told that nobody listens. What they have sent before can
// still be read; then comes the end.
func (s *syslogSocket) refuse() { _ = unix.Shutdown(s.fd, unix.SHUT_RD) }

func (s *syslogSocket) close() error {
	if s == nil {
		return nil
	}
	unix.Close(s.fd)
	return s.unlink()
}

// unlink removes the name, if it is still that of this socket.
func (s *syslogSocket) unlink() error {
	var st unix.Stat_t
	if unix.Lstat(s.path, &st) != nil || st.Dev != s.dev || st.Ino != s.ino {
		return nil
	}
	if err := unix.Unlink(s.path); err != nil {
		return exit.Refusedf("cannot remove socket %q: %w", s.path, err)
	}
	return nil
}
