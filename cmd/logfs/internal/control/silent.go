package control

import (
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// firstPatience is how long a client may take until it says what it wants.
	firstPatience = 30 * time.Second
	// maxSilent is how many may take their time. One more, and the one that has
	// taken longest is given up: a client that asks at once always gets through.
	maxSilent = 256
)

// silent is the connections that have not said yet what they want.
type silent struct {
	mu    sync.Mutex // guards conns
	conns []*net.UnixConn
}

func (s *silent) add(c *net.UnixConn, patience time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if s.conns = append(s.conns, c); len(s.conns) > maxSilent {
		_ = s.conns[0].SetReadDeadline(time.Now())
		s.conns = slices.Delete(s.conns, 0, 1)
	}
}

// heard says that c has spoken, or gone. From then on it may take its time.
func (s *silent) heard(c *net.UnixConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.conns, c); i >= 0 {
		s.conns = slices.Delete(s.conns, i, i+1)
	}
	_ = c.SetReadDeadline(time.Time{})
}

// coming waits for a packet and returns its length, 0 at the end. A client may
// be silent for as long as a service runs: only then is there a buffer for it.
func (p packets) coming() (n int, err error) {
	conn, err := p.SyscallConn()
	if err != nil {
		return 0, err
	}
	var b [1]byte
	var perr error
	err = conn.Read(func(fd uintptr) bool {
		n, _, perr = unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_TRUNC|unix.MSG_DONTWAIT)
		return perr != unix.EAGAIN && perr != unix.EINTR
	})
	return n, errors.Join(err, perr)
}
