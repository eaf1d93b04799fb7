package capture

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// hotRead is half of an ungrown pipe. One filled by small writes holds less
	// than its size, because a write that does not fit what is left of a page
	// begins the next page, but never less than half.
	hotRead = 32 << 10

	// hotPipe is the size a pipe gets that its service fills faster than it is
	// emptied. Others stay at 64 KiB: an unprivileged user has 256 pipes of
	// this size before the kernel gives him tiny ones.
	hotPipe = 256 << 10
)

// Input is a descriptor to read and the stream its bytes belong to.
type Input struct {
	File   *os.File
	Stream Stream
	// Hold, if not nil, keeps what the Sink has not said to be Done with. The
	// inputs of one Pump share one, and each has another stream. Without it each
	// message of a datagram socket is a line.
	Hold *Hold
}

// source is an Input taken over by Pump.
type source struct {
	stream   Stream
	fd       int // -1 when closed
	splitter *Splitter
	hold     *Hold
	left     []Piece   // what a dead process has read, to be handed on first
	hot      bool      // read every now and then, not when it is ready
	last     time.Time // when it was read
	often    int       // reads in a row that brought little, soon after another
	unmoved  bool      // the input cannot be spliced into hold
	direct   bool      // can always be read: epoll does not take it
	blocking bool      // the kernel has no RWF_NOWAIT for it
	messages bool      // a datagram socket
	grown    bool      // growing the pipe was tried
	drained  int       // bytes read since ctx was done
	vector   [1][]byte // for readNoWait, here because it escapes
}

// takeOver moves the input's descriptor into a source and closes its File.
//
// The descriptor is duplicated because a File of os.Pipe is in the netpoller
// until it is closed, and would wake the runtime at every write of the service.
// Nothing is changed on the open file itself, which others may share.
func takeOver(in Input, limit int) (*source, error) {
	defer in.File.Close()
	fd, err := own(in.File)
	if err != nil {
		return nil, fmt.Errorf("cannot take over %s: %w", in.Stream, err)
	}
	s := &source{stream: in.Stream, fd: fd, splitter: NewSplitter(in.Stream, limit), hold: in.Hold}
	if s.hold != nil {
		s.left = s.splitter.Split(s.hold.held(s.stream), nil)
	} else {
		s.messages = isDatagram(fd)
	}
	return s, nil
}

// own duplicates the descriptor of f.
func own(f *os.File) (fd int, err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	cerr := conn.Control(func(old uintptr) {
		fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 3)
	})
	if cerr != nil {
		err = cerr
	}
	if err != nil {
		return -1, err
	}
	return fd, nil
}

func (s *source) open() bool { return s.fd >= 0 }

func (s *source) close() {
	if s.open() {
		unix.Close(s.fd)
		s.fd = -1
	}
}

// receive returns what is there: in the memory of the Hold, or in the buffer of
// scratch. Its errors, and its end, are those of read.
func (s *source) receive(scratch *scratch) ([]byte, error) {
	if s.messages {
		return s.receiveMessages(scratch)
	}
	room := readSize
	if s.hold != nil {
		if !s.unmoved {
			text, err := s.hold.read(s.stream, s.fd)
			if err != errNoSplice {
				s.grow(len(text))
				return text, err
			}
			s.unmoved = true
		}
		room = s.hold.makeRoom(s.stream)
	}
	if scratch.buf == nil {
		scratch.buf = make([]byte, readSize)
	}
	n, err := s.read(scratch.buf[:room])
	if n <= 0 || err != nil {
		return nil, err
	}
	if s.hold != nil {
		return s.hold.add(s.stream, scratch.buf[:n]), nil
	}
	return scratch.buf[:n], nil
}

// split returns the pieces that text completes.
func (s *source) split(text []byte, pieces []Piece) []Piece {
	pieces = s.splitter.Split(text, pieces)
	s.took(s.splitter.rest())
	return pieces
}

// end returns the unfinished line.
func (s *source) end() []Piece {
	pieces := s.splitter.Finish(nil)
	s.took(0)
	return pieces
}

// took has the Hold know where the pieces end that are handed on next: rest bytes
// before the end of what was read.
func (s *source) took(rest int) {
	if s.hold != nil {
		s.hold.took(s.stream, rest)
	}
}

// retake returns the first pieces of what a dead process has read, as many as
// there are.
func (s *source) retake(n uint64) []Piece {
	n = min(n, uint64(len(s.left)))
	pieces := s.left[:n]
	s.left = s.left[n:]
	s.took(s.splitter.rest() + length(s.left))
	return pieces
}

// length is how many bytes of a stream the pieces were.
func length(pieces []Piece) (n int) {
	for i := range pieces {
		n += len(pieces[i].Text)
		if !pieces[i].More {
			n++
		}
	}
	return n
}

// read fills buf with what is there. The error is unix.EAGAIN if nothing is,
// though epoll said so: another process reads the same input. At the end of
// the stream it returns 0, whatever way the kernel says it for this input.
func (s *source) read(buf []byte) (int, error) {
	for {
		n, err := s.readOnce(buf)
		switch {
		case err == nil:
			s.grow(n)
			return n, nil
		case err == unix.EINTR:
		case err == unix.ECONNRESET: // the peer died with unread bytes
			return 0, nil
		case err == unix.EIO && !s.direct: // the last user of the terminal is gone
			return 0, nil
		default:
			return 0, err
		}
	}
}

// readOnce prefers a read that does not wait where somebody else was faster.
// Terminals, and pipes of older kernels, have only the one that may; a regular
// file has to wait for its disk.
func (s *source) readOnce(buf []byte) (int, error) {
	if !s.direct && !s.blocking {
		n, err := s.readNoWait(buf)
		if err != unix.EOPNOTSUPP && err != unix.ENOSYS {
			return n, err
		}
		s.blocking = true
	}
	return unix.Read(s.fd, buf)
}

// readNoWait is a read(2) that answers EAGAIN where it would wait, without the
// descriptor being in non-blocking mode.
func (s *source) readNoWait(buf []byte) (int, error) {
	s.vector[0] = buf
	n, err := unix.Preadv2(s.fd, s.vector[:], -1, unix.RWF_NOWAIT)
	s.vector[0] = nil
	return n, err
}

// grow gives a hot pipe more room, so that its service is not held up while the
// Sink works, and reads are larger. It is tried once, and errors are of no
// consequence: the input is no pipe, or its user has no more pipe memory.
func (s *source) grow(n int) {
	if n < hotRead || s.grown {
		return
	}
	s.grown = true
	if size, err := unix.FcntlInt(uintptr(s.fd), unix.F_GETPIPE_SZ, 0); err == nil && size < hotPipe {
		unix.FcntlInt(uintptr(s.fd), unix.F_SETPIPE_SZ, hotPipe)
		s.hold.grow()
	}
}
