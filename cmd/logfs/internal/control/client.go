package control

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"logfs/cmd/logfs/internal/exit"
	"logfs/ring/record"
)

// ErrLost says that the daemon went away during a run.
var ErrLost = errors.New("the daemon is gone")

// ErrLeft says that the daemon has ended in order and left the run to the next.
var ErrLeft = errors.New("the daemon has ended")

// giveBack is how long a daemon may take to take a name back.
const giveBack = time.Second

// UnreachableError says that no daemon listens on a socket.
type UnreachableError struct {
	Path string
	Err  error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("cannot reach a daemon at %q: %v", e.Path, e.Err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// A Client is one connection to a daemon: for one request, or for one run.
type Client struct{ p packets }

// Dial connects to the daemon at path. The error is an *UnreachableError if
// there is none.
func Dial(path string) (*Client, error) {
	if err := CheckPath(path); err != nil {
		return nil, err
	}
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, &UnreachableError{path, errno(err)}
	}
	return &Client{packets{c}}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.p.Close() }

// Rotate starts new files for the services named, or for all.
func (c *Client) Rotate(names []string) error {
	return c.ask(request{Do: doRotate, Names: names}, io.Discard)
}

// Flush brings the services named, or all, to stable storage.
func (c *Client) Flush(names []string) error {
	return c.ask(request{Do: doFlush, Names: names}, io.Discard)
}

// Status writes the daemon's status table to w.
func (c *Client) Status(w io.Writer) error {
	return c.ask(request{Do: doStatus}, w)
}

// Limits writes the daemon's table of limits to w.
func (c *Client) Limits(w io.Writer) error {
	return c.ask(request{Do: doLimits}, w)
}

// Leave has the daemon end and leave everything to another one.
func (c *Client) Leave() error { return c.ask(request{Do: doLeave}, io.Discard) }

// OpenDaemon returns a descriptor of the daemon's process, a pidfd.
func (c *Client) OpenDaemon() (fd int, err error) {
	conn, err := c.p.SyscallConn()
	if err != nil {
		return -1, fmt.Errorf("cannot find the daemon: %w", err)
	}
	var peer *unix.Ucred
	ask := conn.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(ask, err); err == nil {
		fd, err = unix.PidfdOpen(int(peer.Pid), 0)
	}
	if err != nil {
		return -1, fmt.Errorf("cannot find the daemon: %w", err)
	}
	return fd, nil
}

func (c *Client) ask(q request, w io.Writer) error {
	if err := c.p.send(q); err != nil {
		return fmt.Errorf("cannot ask the daemon: %w", errno(err))
	}
	return c.answer(w)
}

// answer reads replies up to the last one and writes their text to w.
func (c *Client) answer(w io.Writer) error {
	for {
		var r reply
		if err := c.receive(&r); err != nil {
			return err
		}
		switch r.Re {
		case reText:
			if _, err := io.WriteString(w, r.Text); err != nil {
				return err
			}
		case reOK:
			return nil
		default:
			return refusal(r)
		}
	}
}

func refusal(r reply) error {
	if r.Status == exit.Misuse {
		return exit.Misusef("%s", r.Error)
	}
	return exit.Refusedf("%s", r.Error)
}

func (c *Client) receive(r *reply) error {
	files, err := c.p.receive(r, maxPacket)
	closeAll(files)
	if errors.Is(err, io.EOF) {
		return ErrLost
	}
	return err
}

// Attach takes the name for a run, which owns the connection from then on. The
// files are closed here in any case: the daemon has its own descriptors.
func (c *Client) Attach(a Attach) (Run, error) {
	defer closeAll(a.files())
	q := request{Do: doAttach, Name: a.Name, Kind: a.Kind, Hold: len(a.Hold) > 0, Own: a.Service, About: a.About}
	if err := c.p.send(q, a.files()...); err != nil {
		return nil, fmt.Errorf("cannot ask the daemon: %w", errno(err))
	}
	var taken reply
	if err := c.receive(&taken); err != nil {
		return nil, err
	}
	if taken.Re != reOK {
		return nil, refusal(taken)
	}
	r := &clientRun{c: c, mount: taken.Mount}
	r.wait = sync.OnceValue(r.await)
	return r, nil
}

type clientRun struct {
	c       *Client
	mount   string
	wait    func() error
	started bool
}

func (r *clientRun) Mount() string { return r.mount }

func (r *clientRun) Start(pid int) error {
	r.started = true
	return r.send(request{Do: doStart, Pid: pid})
}

func (r *clientRun) Exit(e record.Exit) error {
	return r.send(request{Do: doExit, Known: e.Known, Code: e.Code, Signal: e.Signal})
}

func (r *clientRun) send(q request) error {
	if err := gone(r.c.p.send(q)); err == io.EOF {
		return ErrLost
	} else if err != nil {
		return fmt.Errorf("cannot tell the daemon: %w", errno(err))
	}
	return nil
}

func (r *clientRun) Wait() error { return r.wait() }

func (r *clientRun) await() error {
	var answer reply
	switch err := r.c.receive(&answer); {
	case err != nil:
		return err
	case answer.Re == reLeft:
		return ErrLeft
	case answer.Error != "":
		return errors.New(answer.Error)
	}
	return nil
}

// Detach gives a name back before it returns, so that the next can take it.
func (r *clientRun) Detach() {
	defer r.c.Close()
	if r.started || r.c.p.CloseWrite() != nil {
		return
	}
	_ = r.c.p.SetReadDeadline(time.Now().Add(giveBack))
	_ = r.c.receive(new(reply)) // the daemon closes when it has the name back
}
