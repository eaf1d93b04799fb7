package capture

import (
	"bytes"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// isDatagram says whether fd is a socket whose messages have ends.
func isDatagram(fd int) bool {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	return err == nil && kind == unix.SOCK_DGRAM
}

// receiveMessages returns what has come, each message as a line. No bytes are
// the end: the socket was shut down, and all that it had taken before is read.
//
// Descriptors that came along are never received: there is no room for them, so
// the kernel closes them.
func (s *source) receiveMessages(scratch *scratch) ([]byte, error) {
	if scratch.buf == nil {
		scratch.buf = make([]byte, readSize)
	}
	lines := scratch.buf[:0]
	for {
		size, err := unix.IoctlGetInt(s.fd, unix.SIOCINQ)
		if err != nil {
			return nil, err
		}
		if size >= cap(lines)-len(lines) {
			if len(lines) > 0 {
				return lines, nil
			}
			lines = slices.Grow(lines, size+1)
		}
		n, err := receive(s.fd, lines[len(lines):cap(lines)-1])
		switch {
		case err == unix.EINTR:
		case err == nil:
			lines = endMessage(lines, n)
		case len(lines) > 0:
			return lines, nil
		case err == unix.EAGAIN && shutDown(s.fd):
			return nil, nil
		default:
			return nil, err
		}
	}
}

// receive is recv(2) that does not wait. It asks for no address, which would be
// garbage for each message.
func receive(fd int, buf []byte) (int, error) {
	n, _, errno := unix.Syscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)),
		unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// endMessage makes a line of the n bytes behind lines, which have room for one
// more: without the NUL or newline that many senders put at the end, and with
// \x0a for those inside, so that a message is one line and none can look like two.
func endMessage(lines []byte, n int) []byte {
	text := bytes.TrimRight(lines[len(lines):len(lines)+n], "\x00\n")
	if bytes.IndexByte(text, '\n') < 0 {
		return append(lines[:len(lines)+len(text)], '\n')
	}
	for text = bytes.Clone(text); ; {
		before, after, inside := bytes.Cut(text, []byte{'\n'})
		lines = append(lines, before...)
		if !inside {
			return append(lines, '\n')
		}
		lines = append(lines, `\x0a`...)
		text = after
	}
}

// shutDown says whether nothing more can be sent to the socket.
func shutDown(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	_, err := unix.Poll(fds, 0)
	return err == nil && fds[0].Revents&unix.POLLRDHUP != 0
}
