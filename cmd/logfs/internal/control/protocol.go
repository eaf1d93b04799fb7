package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"logfs/cmd/logfs/internal/exit"
	"logfs/ring/record"
)

// Kind says what a run consists of.
type Kind string

const (
	// Command is a command of the client's, with a pipe for each stream.
	Command Kind = "run"
	// Pipe is one stream, named stdout, that ends when it does.
	Pipe Kind = "pipe"
	// Written is a command of the client's that writes to the files of the
	// mount, which the Run is a Mounted of.
	Written Kind = "written"
)

// streams is how many descriptors come with an attach request of the kind.
func (k Kind) streams() (n int, known bool) {
	switch k {
	case Command:
		return 2, true
	case Pipe:
		return 1, true
	case Written:
		return 0, true
	}
	return 0, false
}

// Attach asks for a run of the service Name.
type Attach struct {
	Name string
	Kind Kind
	// Streams are the read ends of stdout and, of kind Command, stderr; none
	// of kind Written.
	Streams []*os.File
	// Hold, if not empty, is what a capture.Hold is made of. The client has it
	// open too, as it has the Streams, and attaches again to the next daemon.
	Hold []*os.File
	// Service says that the daemon's own configuration asks for the run, About
	// what it is about.
	Service bool
	About   string
}

// holdFiles is how many descriptors a Hold is.
const holdFiles = 3

func (a Attach) files() []*os.File { return append(slices.Clip(a.Streams), a.Hold...) }

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// A Run is one run of a service, as the one who starts it sees it.
type Run interface {
	// Start says that the command runs, as process pid.
	Start(pid int) error
	// Exit says that it has ended, and how. It does not wait.
	Exit(record.Exit) error
	// Wait waits until the last line and the exit mark are stored. The error
	// says that capture ended before the run did. After ErrLeft and ErrLost
	// another daemon can go on with a run that has a Hold.
	Wait() error
	// Detach leaves the run to the end of its pipes. Before Start it gives
	// the name back; after Wait it only releases what the Run holds.
	Detach()
}

// A Mounted is a Run whose command is to write to files of a mount.
type Mounted interface {
	// Mount is where the daemon has mounted.
	Mount() string
}

// The words of the protocol.
const (
	doAttach = "attach"
	doStart  = "start"
	doExit   = "exit"
	doRotate = "rotate"
	doFlush  = "flush"
	doStatus = "status"
	doLimits = "limits"
	doLeave  = "leave"

	reOK    = "ok"
	reDone  = "done"
	reLeft  = "left"
	reText  = "text"
	reError = "error"
)

type request struct {
	Do     string   `json:"do"`
	Name   string   `json:"name,omitempty"`
	Kind   Kind     `json:"kind,omitempty"`
	Hold   bool     `json:"hold,omitempty"`
	Own    bool     `json:"own,omitempty"`
	About  string   `json:"about,omitempty"`
	Names  []string `json:"names,omitempty"`
	Pid    int      `json:"pid,omitempty"`
	Known  bool     `json:"known,omitempty"`
	Code   int      `json:"code,omitempty"`
	Signal string   `json:"signal,omitempty"`
}

type reply struct {
	Re     string `json:"re"`
	Mount  string `json:"mount,omitempty"`
	Text   string `json:"text,omitempty"`
	Error  string `json:"error,omitempty"`
	Status int    `json:"status,omitempty"`
}

const (
	// maxPacket bounds a packet; maxText what of a text goes into one, which
	// leaves room for JSON's escapes.
	maxPacket = 64 << 10
	maxText   = 8 << 10
	// shortPacket holds the requests that follow attach: a connection may
	// wait for one as long as a service runs.
	shortPacket = 1 << 10
	// maxFiles is how many descriptors come with a packet.
	maxFiles = 2 + holdFiles
)

// A packets sends and receives one JSON object a packet.
type packets struct{ *net.UnixConn }

func (p packets) send(v any, files ...*os.File) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > maxPacket {
		return exit.Misusef("request of %d bytes is too long: at most %d are accepted", len(b), maxPacket)
	}
	return p.write(b, files)
}

func (p packets) write(b []byte, files []*os.File) error {
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = unix.UnixRights(fds...)
	}
	_, _, err := p.WriteMsgUnix(b, rights, nil)
	return err
}

// receive reads one packet of at most max bytes into v. The files that came
// with it are the caller's, also when there is an error. io.EOF means that the
// peer is gone.
func (p packets) receive(v any, max int) ([]*os.File, error) {
	size, err := p.coming()
	if err != nil {
		return nil, gone(err)
	}
	buf, oob := make([]byte, min(size, max)+1), make([]byte, unix.CmsgSpace(4*(maxFiles+1)))
	n, oobn, flags, _, err := p.ReadMsgUnix(buf, oob)
	files := received(oob[:oobn])
	switch {
	case err != nil:
		return files, gone(err)
	case n > max || flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		return files, fmt.Errorf("packet is too long: at most %d bytes and %d descriptors are accepted", max, maxFiles)
	}
	if err := json.Unmarshal(buf[:n], v); err != nil {
		return files, fmt.Errorf("packet is not a request: %w", err)
	}
	return files, nil
}

// gone makes io.EOF of all the ways in which a connection can have ended.
func gone(err error) error {
	if errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) || errors.Is(err, net.ErrClosed) {
		return io.EOF
	}
	return err
}

// received takes the descriptors out of a control message. The net package
// receives them close-on-exec.
func received(oob []byte) (files []*os.File) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "stream"))
		}
	}
	return files
}
