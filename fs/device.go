package fs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Of the FUSE protocol, what we speak ourselves: see the kernel's
// include/uapi/linux/fuse.h. go-fuse speaks the rest.
const (
	opLookup    = 1
	opGetAttr   = 3
	opSetAttr   = 4
	opMkdir     = 9
	opRmdir     = 11
	opOpen      = 14
	opRead      = 15
	opWrite     = 16
	opRelease   = 18
	opFsync     = 20
	opOpenDir   = 27
	opInterrupt = 36
	opPoll      = 40

	notifyPoll   = 1
	notifyInval  = 2
	notifyEntry  = 3
	notifyResend = 7
	resent       = 1 << 63 // in the number of a request: it was read before

	outHeaderSize = 16
	inHeaderSize  = 40
	maxPayload    = 128 << 10
	// The kernel refuses reads of the device with less room than one write
	// request can need: max_write and a page.
	requestSize = maxPayload + 4096
	// smallRequest is more than any request has that is no WRITE.
	smallRequest = 8 << 10
	replySize    = maxPayload + 4096
	// smallReply is room for the answer to a request that may wait.
	smallReply = 1024
)

// loops is how many goroutines read requests. Each blocks in read(2) on a
// thread of its own.
const loops = 3

// A protocol answers a request that the device's own does not want. It is
// go-fuse's ProtocolServer, whose interface is marked experimental: this and
// newProtocol are all that depends on it.
type protocol interface {
	HandleRequest(in, out [][]byte) (int, fuse.Status)
}

// own answers requests itself.
type own interface {
	// handle returns false for those it leaves to the protocol. It may keep
	// nothing of in beyond the call, which does not wait, or has left l.
	handle(l *loop, hdr *fuse.InHeader, in []byte) bool
	// mayWait says whether the protocol may wait with the answer. It gets a
	// goroutine of its own for it.
	mayWait(hdr *fuse.InHeader, in []byte) bool
}

// A device is the connection to the kernel: /dev/fuse, once it is mounted.
type device struct {
	fd   int
	log  *slog.Logger
	done sync.WaitGroup

	mu     sync.RWMutex // held for reading during a write
	closed bool         // fd is not ours any more, or is being left to another process
	left   atomic.Bool  // the latter
}

// close closes the connection. Answers that are still on their way, from a
// wake or a load, are dropped: the number of fd may be another file by then.
func (d *device) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	syscall.Close(d.fd)
}

// greet answers the kernel's first request, INIT, which is there as soon as
// the file system is mounted. All others wait until it is answered, so none is
// lost when greet has returned. To ask the mount something instead would be
// dangerous: a process that is killed while it waits for an answer of its own
// never ends. It returns the request.
func (d *device) greet(p protocol) (init []byte, err error) {
	in, out := make([]byte, requestSize), make([]byte, replySize)
	n, err := syscall.Read(d.fd, in)
	for errors.Is(err, syscall.EINTR) {
		n, err = syscall.Read(d.fd, in)
	}
	if err != nil {
		return nil, err
	}
	answer, err := hello(p, in[:n], out)
	d.write(answer)
	return in[:n], err
}

// hello has the protocol hear the kernel's first request, and returns its
// answer.
func hello(p protocol, in, out []byte) (answer []byte, err error) {
	n, st := p.HandleRequest([][]byte{in}, [][]byte{out})
	if !st.Ok() {
		return nil, syscall.Errno(st)
	}
	if code := int32(binary.NativeEndian.Uint32(out[4:])); code != 0 {
		err = syscall.Errno(-code)
	}
	return out[:n], err
}

// serve starts the loops. They end when the file system is unmounted or the
// connection aborted.
func (d *device) serve(p protocol, o own) {
	for range loops {
		d.startLoop(p, o)
	}
}

// A loop reads requests and answers them.
type loop struct {
	d *device
	p protocol
	o own

	// left says that another loop is in its place.
	left    atomic.Bool
	writing writing // the WRITE that it answers
}

func (d *device) startLoop(p protocol, o own) {
	l := &loop{d: d, p: p, o: o}
	l.writing.init(l)
	d.done.Add(1)
	go func() {
		defer l.end()
		l.run()
	}()
}

// leave has another loop read requests while this one waits for a disk. It ends
// when it has come back.
func (l *loop) leave() {
	if !l.left.Swap(true) {
		l.d.startLoop(l.p, l.o)
		l.d.done.Done()
	}
}

func (l *loop) end() {
	if !l.left.Swap(true) {
		l.d.done.Done()
	}
}

// present has the memory of buf there. If it were not when a request is put into
// it, and the process was killed at that moment, the kernel would end the request
// with EIO instead of asking the next process.
func present(buf []byte) {
	for i := 0; i < len(buf); i += 4096 {
		buf[i] = 1
	}
}

func (l *loop) run() {
	d, in, out := l.d, make([]byte, requestSize), make([]byte, replySize)
	present(in[:smallRequest])
	for !l.left.Load() {
		n, err := syscall.Read(d.fd, in)
		switch {
		case err == nil && n >= inHeaderSize:
			l.request(in[:n], out)
		case errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.ECONNABORTED):
			return // unmounted, in order or with force: whoever waits for that is told
		case errors.Is(err, syscall.EINTR), errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ENOENT):
			// ENOENT: the request was taken back before it was read.
		default:
			d.log.Error("cannot read from /dev/fuse, the mount is lost", "error", err, "bytes", n)
			return
		}
	}
}

func (l *loop) request(in, out []byte) {
	hdr := (*fuse.InHeader)(unsafe.Pointer(&in[0]))
	defer l.d.survive(hdr)
	switch {
	case l.o.handle(l, hdr, in):
	case l.o.mayWait(hdr, in):
		in := bytes.Clone(in)
		go l.d.ask(l.p, in, make([]byte, smallReply))
	default:
		l.d.ask(l.p, in, out)
	}
}

// ask has the protocol answer a request.
func (d *device) ask(p protocol, in, out []byte) {
	hdr := (*fuse.InHeader)(unsafe.Pointer(&in[0]))
	defer d.survive(hdr)
	n, st := p.HandleRequest([][]byte{in}, [][]byte{out})
	if !st.Ok() {
		d.log.Error("cannot answer a request of the kernel", "opcode", hdr.Opcode, "status", st.String())
		d.fail(hdr.Unique, fuse.EIO)
	} else if n > 0 {
		d.write(out[:n])
	}
}

// survive answers a request whose handler has panicked. go-fuse does the same
// for its own; capture of all services must not end with one read.
func (d *device) survive(hdr *fuse.InHeader) {
	if p := recover(); p != nil {
		d.log.Error("panic while answering the kernel", "opcode", hdr.Opcode, "panic", p, "stack", string(debug.Stack()))
		d.fail(hdr.Unique, fuse.EIO)
	}
}

// reply answers the request unique. buf holds the answer behind room for its
// header. It returns false if the connection is somebody else's by now.
func (d *device) reply(unique uint64, buf []byte) (sent bool) { return d.message(unique, 0, buf) }

// fail answers the request unique with an error.
func (d *device) fail(unique uint64, st fuse.Status) {
	var buf [outHeaderSize]byte
	d.message(unique, -int32(st), buf[:])
}

// notifyPoll tells the kernel that the handle it calls kh may be ready.
func (d *device) notifyPoll(kh uint64) {
	var buf [outHeaderSize + 8]byte
	binary.NativeEndian.PutUint64(buf[outHeaderSize:], kh)
	d.message(0, notifyPoll, buf[:])
}

// notifyEntry tells the kernel that a name in the directory with the id parent is
// gone: it forgets what it has found below, as far as that is not in use. It may
// wait for those who look up names there.
func (d *device) notifyEntry(parent uint64, name string) {
	buf := make([]byte, outHeaderSize+16, outHeaderSize+16+len(name)+1)
	binary.NativeEndian.PutUint64(buf[outHeaderSize:], parent)
	binary.NativeEndian.PutUint32(buf[outHeaderSize+8:], uint32(len(name)))
	d.message(0, notifyEntry, append(append(buf, name...), 0))
}

func (d *device) message(unique uint64, status int32, buf []byte) (sent bool) {
	binary.NativeEndian.PutUint32(buf, uint32(len(buf)))
	binary.NativeEndian.PutUint32(buf[4:], uint32(status))
	binary.NativeEndian.PutUint64(buf[8:], unique)
	return d.write(buf)
}

// write sends one message. That it is not wanted any more is no error: the
// reader was killed, the handle closed, the file system unmounted.
func (d *device) write(buf []byte) (sent bool) {
	err := d.send(buf)
	if err != nil && !errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.ENODEV) && !errors.Is(err, errLeft) {
		d.log.Error("cannot answer the kernel", "error", err)
	}
	return !errors.Is(err, errLeft)
}

// errLeft says that nothing was sent because the connection is not ours.
var errLeft = errors.New("the connection was left")

func (d *device) send(buf []byte) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.closed {
		return errLeft
	}
	_, err := syscall.Write(d.fd, buf)
	return err
}

// leave sends nothing from now on. The connection stays open: what the loops
// still read is read again by the process that goes on with it.
func (d *device) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.left.Store(true)
}

// notify tells the kernel something that it has not asked for.
func (d *device) notify(code int32, words ...uint64) error {
	buf := make([]byte, outHeaderSize, outHeaderSize+8*len(words))
	for _, w := range words {
		buf = binary.NativeEndian.AppendUint64(buf, w)
	}
	binary.NativeEndian.PutUint32(buf, uint32(len(buf)))
	binary.NativeEndian.PutUint32(buf[4:], uint32(code))
	return d.send(buf)
}

// replies are buffers for replies that do not come from a loop.
var replies = sync.Pool{New: func() any { return new([replySize]byte) }}
