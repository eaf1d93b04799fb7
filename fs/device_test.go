package fs

import (
	"encoding/binary"
	"io"
	"log/slog"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// A socket that keeps messages apart stands for /dev/fuse: what the loop does
// with requests and answers is the same.
func testDevice(t *testing.T, p protocol, o own) (kernel int, d *device) {
	t.Helper()
	kernel, d = quietDevice(t)
	d.serve(p, o)
	return kernel, d
}

// quietDevice is one whose loops have not begun.
func quietDevice(t *testing.T) (kernel int, d *device) {
	t.Helper()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	d = &device{fd: pair[0], log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	t.Cleanup(func() {
		syscall.Shutdown(pair[1], syscall.SHUT_RDWR) // each loop reads an empty message, and ends
		d.done.Wait()
		syscall.Close(pair[0])
		syscall.Close(pair[1])
	})
	return pair[1], d
}

func ask(t *testing.T, kernel int, opcode uint32, unique uint64) {
	t.Helper()
	b := make([]byte, inHeaderSize+8)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint32(b[4:], opcode)
	binary.NativeEndian.PutUint64(b[8:], unique)
	if _, err := syscall.Write(kernel, b); err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, kernel int) (unique uint64, status int32, payload []byte) {
	t.Helper()
	b := make([]byte, 4096)
	n, err := syscall.Read(kernel, b)
	if err != nil || n < outHeaderSize || int(binary.NativeEndian.Uint32(b)) != n {
		t.Fatalf("an answer of %d bytes (%v) that says it has %d", n, err, binary.NativeEndian.Uint32(b))
	}
	return binary.NativeEndian.Uint64(b[8:]), int32(binary.NativeEndian.Uint32(b[4:])), b[outHeaderSize:n]
}

type protocolFunc func(in, out [][]byte) (int, fuse.Status)

func (f protocolFunc) HandleRequest(in, out [][]byte) (int, fuse.Status) { return f(in, out) }

type ownFunc func(hdr *fuse.InHeader, in []byte) bool

func (f ownFunc) handle(hdr *fuse.InHeader, in []byte) bool { return f(hdr, in) }

func none(*fuse.InHeader, []byte) bool { return false }

func TestDeviceLeavesRequestsToTheProtocol(t *testing.T) {
	kernel, _ := testDevice(t, protocolFunc(func(in, out [][]byte) (int, fuse.Status) {
		copy(out[0], in[0][:outHeaderSize])
		binary.NativeEndian.PutUint32(out[0], outHeaderSize+2)
		binary.NativeEndian.PutUint32(out[0][4:], 0)
		copy(out[0][outHeaderSize:], "ok")
		return outHeaderSize + 2, fuse.OK
	}), ownFunc(none))
	for unique := range uint64(20) {
		ask(t, kernel, 3, unique)
		if u, st, payload := hear(t, kernel); u != unique || st != 0 || string(payload) != "ok" {
			t.Errorf("answer to %d: %d, status %d, %q", unique, u, st, payload)
		}
	}
}

// The kernel's first request is answered before the loops begin, and a mount
// that can be of no use is an error.
func TestDeviceGreets(t *testing.T) {
	for _, tt := range []struct {
		status fuse.Status
		code   int32 // in the answer
		want   error
	}{{want: nil}, {code: -int32(syscall.EPROTO), want: syscall.EPROTO}, {status: fuse.EIO, want: syscall.EIO}} {
		kernel, d := quietDevice(t)
		ask(t, kernel, 26, 1)
		_, err := d.greet(protocolFunc(func(in, out [][]byte) (int, fuse.Status) {
			copy(out[0], in[0][:outHeaderSize])
			binary.NativeEndian.PutUint32(out[0], outHeaderSize)
			binary.NativeEndian.PutUint32(out[0][4:], uint32(tt.code))
			return outHeaderSize, tt.status
		}))
		if err != tt.want {
			t.Errorf("status %v, code %d: %v, want %v", tt.status, tt.code, err, tt.want)
		}
		if tt.status != fuse.OK {
			continue
		}
		if unique, code, _ := hear(t, kernel); unique != 1 || code != tt.code {
			t.Errorf("the kernel heard %d, %d", unique, code)
		}
	}
}

func TestDeviceAnswersWhatTheProtocolCannot(t *testing.T) {
	kernel, _ := testDevice(t, protocolFunc(func(_, _ [][]byte) (int, fuse.Status) { return 0, fuse.EIO }), ownFunc(none))
	ask(t, kernel, 3, 7)
	if u, st, _ := hear(t, kernel); u != 7 || st != -int32(syscall.EIO) {
		t.Errorf("answer: %d, status %d, want EIO: nobody may wait for ever", u, st)
	}
}

func TestDeviceIsSilentForForget(t *testing.T) {
	kernel, _ := testDevice(t, protocolFunc(func(in, _ [][]byte) (int, fuse.Status) {
		if binary.NativeEndian.Uint32(in[0][4:]) == 2 {
			return 0, fuse.OK
		}
		return 0, fuse.ENOSYS
	}), ownFunc(none))
	ask(t, kernel, 2, 1)
	ask(t, kernel, 3, 2)
	if u, _, _ := hear(t, kernel); u != 2 {
		t.Errorf("the first answer is to %d", u)
	}
}

func TestDeviceAsksItsOwnFirst(t *testing.T) {
	var d *device
	ready := make(chan struct{})
	kernel, dev := testDevice(t, protocolFunc(func(_, _ [][]byte) (int, fuse.Status) {
		t.Error("the protocol was asked")
		return 0, fuse.EIO
	}), ownFunc(func(hdr *fuse.InHeader, in []byte) bool {
		<-ready
		buf := append(make([]byte, outHeaderSize), "mine"...)
		d.reply(hdr.Unique, buf)
		return hdr.Opcode == opRead && len(in) == inHeaderSize+8
	}))
	d = dev
	close(ready)
	ask(t, kernel, opRead, 9)
	if u, st, payload := hear(t, kernel); u != 9 || st != 0 || string(payload) != "mine" {
		t.Errorf("answer: %d, status %d, %q", u, st, payload)
	}
}

func TestNotifyPoll(t *testing.T) {
	kernel, d := testDevice(t, nil, ownFunc(none))
	d.notifyPoll(0xfeed)
	u, code, payload := hear(t, kernel)
	if u != 0 || code != notifyPoll || len(payload) != 8 || binary.NativeEndian.Uint64(payload) != 0xfeed {
		t.Errorf("notification: unique %d, code %d, %x", u, code, payload)
	}
}

func TestPendingSignals(t *testing.T) {
	status := func(pnd, shd, blk, ign, cgt string) string {
		return "Name:\tcat\nSigPnd:\t" + pnd + "\nShdPnd:\t" + shd + "\nSigBlk:\t" + blk + "\nSigIgn:\t" + ign + "\nSigCgt:\t" + cgt + "\nCapInh:\t0\n"
	}
	const zero, hup, integer, kill, tstp, chld, rt = "0", "1", "2", "100", "80000", "10000", "8000000000000000"
	for _, c := range []struct {
		what, status string
		ends         bool
	}{
		{"nothing pending", status(zero, zero, zero, zero, zero), false},
		{"INT, default", status(zero, integer, zero, zero, zero), true},
		{"INT to the thread", status(integer, zero, zero, zero, zero), true},
		{"INT, ignored", status(zero, integer, zero, integer, zero), false},
		{"INT, blocked", status(zero, integer, integer, zero, zero), false},
		{"HUP, caught", status(zero, hup, zero, zero, hup), true},
		{"KILL", status(zero, kill, zero, zero, zero), true},
		{"TSTP, default", status(zero, tstp, zero, zero, zero), false},
		{"TSTP, caught", status(zero, tstp, zero, zero, tstp), true},
		{"CHLD, default", status(zero, chld, zero, zero, zero), false},
		{"CHLD, caught", status(zero, chld, zero, zero, chld), true},
		{"the last real-time signal", status(zero, rt, zero, zero, zero), true},
	} {
		if got := pendingEnds([]byte(c.status)); got != c.ends {
			t.Errorf("%s: ends %v, want %v", c.what, got, c.ends)
		}
	}
	if !signalEnds(0) {
		t.Error("a reader in another pid namespace would wait for ever")
	}
}
