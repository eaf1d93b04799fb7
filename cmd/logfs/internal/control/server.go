package control

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"logfs/cmd/logfs/internal/exit"
	"logfs/ring/record"
)

const (
	// acceptPause keeps a server that cannot accept from spinning.
	acceptPause = 100 * time.Millisecond
	// strangerPatience is how long a peer that will be refused may take.
	strangerPatience = time.Second
)

// A Handler does what clients ask for. The exit status of its errors goes to
// the client with them.
type Handler interface {
	// Attach takes the name for a new run. It owns the streams from now on,
	// also if it refuses.
	Attach(Attach) (Run, error)
	// Rotate and Flush without names mean all services.
	Rotate(names []string) error
	Flush(names []string) error
	Status(io.Writer)
	Limits(io.Writer)
	// Leave has the daemon end and leave everything to another one.
	Leave() error
}

// A Server answers the clients of one socket.
type Server struct {
	listener *net.UnixListener
	handler  Handler
	log      *slog.Logger
	serving  sync.WaitGroup // connections
	telling  sync.WaitGroup // answers to runs that have ended
	silent   silent

	mu     sync.Mutex // guards the following
	conns  map[*net.UnixConn]struct{}
	closed bool
}

// Listen makes the socket at path, and its directory if that is missing, and
// serves clients until Close.
func Listen(path string, h Handler, log *slog.Logger) (*Server, error) {
	l, err := listen(path)
	if err != nil {
		return nil, err
	}
	s := &Server{listener: l, handler: h, log: log, conns: map[*net.UnixConn]struct{}{}}
	s.serving.Go(s.accept)
	return s, nil
}

// Close removes the socket, ends all connections and waits until no Handler
// call is under way. The Handler must have ended all runs: their clients are
// told first.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	err := s.listener.Close() // removes the socket
	s.mu.Unlock()
	s.telling.Wait()
	s.mu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.serving.Wait()
	return err
}

func (s *Server) accept() {
	for said := false; ; {
		c, err := s.listener.AcceptUnix()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			// Out of descriptors, most likely: it passes when some are closed.
			if !said {
				s.log.Error("cannot accept control connections", "err", err)
				said = true
			}
			time.Sleep(acceptPause)
		case s.add(c):
			said = false
			s.serving.Go(func() { s.serve(c) })
		}
	}
}

func (s *Server) add(c *net.UnixConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		c.Close()
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *Server) drop(c *net.UnixConn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	c.Close()
}

func (s *Server) serve(c *net.UnixConn) {
	defer s.drop(c)
	p := packets{c}
	stranger := mayAsk(c)
	if errors.Is(stranger, net.ErrClosed) {
		return // the server is closing
	}
	if stranger != nil {
		s.log.Warn("control connection refused", "err", stranger)
		// The request is read all the same: closing a socket with unread
		// packets would take the answer from the peer.
		s.silent.add(c, strangerPatience)
	} else {
		s.silent.add(c, firstPatience)
	}
	var q request
	files, err := p.receive(&q, maxPacket)
	s.silent.heard(c)
	switch {
	case stranger != nil:
		closeAll(files)
		_ = p.send(failure(stranger))
	case err == io.EOF, errors.Is(err, os.ErrDeadlineExceeded):
		closeAll(files)
	case err != nil:
		closeAll(files)
		_ = p.send(failure(exit.With(exit.Misuse, err)))
	case q.Do == doAttach:
		s.attach(p, q, files)
	default:
		closeAll(files)
		_ = p.send(result(s.answer(p, q)))
	}
}

func (s *Server) answer(p packets, q request) error {
	switch q.Do {
	case doRotate:
		return s.handler.Rotate(q.Names)
	case doFlush:
		return s.handler.Flush(q.Names)
	case doStatus:
		s.handler.Status(textWriter{p})
		return nil
	case doLimits:
		s.handler.Limits(textWriter{p})
		return nil
	case doLeave:
		return s.handler.Leave()
	}
	return exit.Misusef("unknown request %q: this daemon knows attach, rotate, flush, status, limits and leave", q.Do)
}

// attach serves a connection that carries a run, until the client has gone.
func (s *Server) attach(p packets, q request, files []*os.File) {
	streams, known := q.Kind.streams()
	want := streams
	if q.Hold {
		want += holdFiles
	}
	if !known || want != len(files) {
		closeAll(files)
		_ = p.send(failure(exit.Misusef("attach of kind %q with %d descriptors: run needs 2, pipe 1, written none, a hold %d more",
			q.Kind, len(files), holdFiles)))
		return
	}
	run, err := s.handler.Attach(Attach{
		Name: q.Name, Kind: q.Kind, Streams: files[:streams], Hold: files[streams:], Service: q.Own, About: q.About,
	})
	if err != nil {
		_ = p.send(failure(err))
		return
	}
	defer run.Detach()
	taken := reply{Re: reOK}
	if m, ok := run.(Mounted); ok {
		taken.Mount = m.Mount()
	}
	if p.send(taken) != nil {
		return
	}
	started := false
	for {
		var q request
		extra, err := p.receive(&q, shortPacket)
		closeAll(extra)
		switch {
		case err != nil:
			return
		case q.Do == doStart && !started:
			started = true
			if run.Start(q.Pid) != nil {
				return
			}
			s.tell(p, run)
		case q.Do == doExit && started:
			_ = run.Exit(record.Exit{Known: q.Known, Code: q.Code, Signal: q.Signal})
		default:
			return
		}
	}
}

// tell has the client told when its run has ended.
func (s *Server) tell(p packets, run Run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.telling.Go(func() { _ = p.send(done(run.Wait())) })
	}
}

func done(err error) reply {
	if err == ErrLeft {
		return reply{Re: reLeft}
	}
	if err != nil {
		return reply{Re: reDone, Error: err.Error()}
	}
	return reply{Re: reDone}
}

func result(err error) reply {
	if err != nil {
		return failure(err)
	}
	return reply{Re: reOK}
}

func failure(err error) reply {
	return reply{Re: reError, Error: err.Error(), Status: exit.Status(err)}
}

// mayAsk checks who connected: the daemon's own user and root may.
func mayAsk(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var perr error
	err = raw.Control(func(fd uintptr) { perr = CheckPeer(int(fd)) })
	return errors.Join(err, perr)
}

// CheckPeer refuses the peer of a socket that belongs to somebody else.
func CheckPeer(fd int) error {
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return fmt.Errorf("cannot learn who connected: %w", err)
	}
	return allowed(peer.Uid, os.Geteuid())
}

func allowed(peer uint32, own int) error {
	if peer != 0 && int(peer) != own {
		return fmt.Errorf("user %d may not control the daemon of user %d", peer, own)
	}
	return nil
}

// textWriter sends what is written to it as text replies.
type textWriter struct{ packets }

func (w textWriter) Write(b []byte) (int, error) {
	for sent := 0; sent < len(b); {
		part := prefix(b[sent:], maxText)
		if err := w.send(reply{Re: reText, Text: string(part)}); err != nil {
			return sent, err
		}
		sent += len(part)
	}
	return len(b), nil
}

// prefix is at most max bytes of b, cut between characters: JSON would replace
// the halves of one.
func prefix(b []byte, max int) []byte {
	if len(b) <= max {
		return b
	}
	for end := max; end > max-utf8.UTFMax; end-- {
		if utf8.RuneStart(b[end]) {
			return b[:end]
		}
	}
	return b[:max]
}
