package capture

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// errInterrupted is what a watcher answers after interrupt.
var errInterrupted = errors.New("interrupted")

// watcher waits until one of several descriptors can be read.
//
// It holds them in an epoll instance of its own and waits for that in Go's
// netpoller: an epoll descriptor becomes readable when one that it holds does.
// So the descriptors themselves need not be non-blocking, a flag that everybody
// who has the same pipe or terminal open would get with us, and waiting takes
// no thread.
type watcher struct {
	file   *os.File
	conn   syscall.RawConn
	events []unix.EpollEvent // room for one of each descriptor
	idle   func()            // called before parking

	// Of the call of wait or poll under way, which look works for. Made once,
	// because a closure for each call would be garbage for each read.
	look  func(epfd uintptr) bool
	park  bool // look asks to be called again when something is ready
	ready int
	err   error

	rescan  func(epfd uintptr) // settle, made once too
	settled []unix.EpollEvent  // as long as events; nobody reads it
}

func newWatcher(idle func()) (*watcher, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot make an epoll instance: %w", err)
	}
	// os.NewFile gives only descriptors in non-blocking mode to the netpoller.
	// For an epoll descriptor the mode means nothing else.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot set the epoll instance non-blocking: %w", err)
	}
	w := &watcher{file: os.NewFile(uintptr(fd), "epoll"), idle: idle}
	w.look = w.lookOnce
	w.rescan = func(epfd uintptr) { unix.EpollWait(int(epfd), w.settled, 0) }
	// Deadlines work where the netpoller does: without it interrupt would not.
	if err := w.file.SetReadDeadline(time.Time{}); err != nil {
		w.file.Close()
		return nil, fmt.Errorf("cannot poll the epoll instance: %w", err)
	}
	if w.conn, err = w.file.SyscallConn(); err != nil {
		w.file.Close()
		return nil, fmt.Errorf("cannot use the epoll instance: %w", err)
	}
	return w, nil
}

// add watches fd from now on and calls it id. The error is unix.EPERM for what
// can always be read, such as a regular file.
func (w *watcher) add(fd, id int) error {
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(id)}
	err := w.control(unix.EPOLL_CTL_ADD, fd, &event)
	if err == nil && len(w.events) <= id {
		w.events = append(w.events, unix.EpollEvent{})
		w.settled = append(w.settled, unix.EpollEvent{})
	}
	return err
}

// remove ends watching fd. It must come before closing fd: an epoll instance
// forgets a closed descriptor only when nobody else has the open file either.
func (w *watcher) remove(fd int) {
	w.control(unix.EPOLL_CTL_DEL, fd, nil)
}

func (w *watcher) control(op, fd int, event *unix.EpollEvent) error {
	var err error
	cerr := w.conn.Control(func(epfd uintptr) {
		err = unix.EpollCtl(int(epfd), op, fd, event)
	})
	if cerr != nil {
		return cerr
	}
	return err
}

// wait returns what can be read now, in the order it became so. If that is
// nothing it parks until there is something, unless busy. It fails with
// errInterrupted after interrupt. The answer is valid until the next call.
func (w *watcher) wait(busy bool) ([]unix.EpollEvent, error) {
	w.park = !busy
	err := w.conn.Read(w.look)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, errInterrupted
	}
	return w.answer(err)
}

// poll is wait, but it neither parks nor heeds interrupt.
func (w *watcher) poll() ([]unix.EpollEvent, error) {
	w.park = false
	return w.answer(w.conn.Control(func(epfd uintptr) { w.look(epfd) }))
}

// settle makes the kernel forget the place of what was read empty. It keeps a
// descriptor that it has reported in its queue until it is asked again, so one
// that became readable anew would come before another that was so first.
// It leaves the answer of wait and poll as it is.
func (w *watcher) settle() { w.conn.Control(w.rescan) }

func (w *watcher) answer(err error) ([]unix.EpollEvent, error) {
	if err == nil {
		err = w.err
	}
	if err != nil {
		return nil, fmt.Errorf("cannot wait for input: %w", err)
	}
	return w.events[:w.ready], nil
}

// lookOnce asks the kernel without waiting and says whether that will do.
// Nothing is missed between a look that found nothing and parking: the
// netpoller has been noting what becomes ready since before the look.
func (w *watcher) lookOnce(epfd uintptr) bool {
	w.ready, w.err = 0, nil
	if len(w.events) == 0 {
		return true
	}
	n, err := unix.EpollWait(int(epfd), w.events, 0)
	for err == unix.EINTR {
		n, err = unix.EpollWait(int(epfd), w.events, 0)
	}
	if err != nil {
		w.err = err
		return true
	}
	w.ready = n
	if n == 0 && w.park {
		w.idle()
		return false
	}
	return true
}

// interrupt ends the present wait and all later ones at once. It is the one
// method that other goroutines may call, also after close.
func (w *watcher) interrupt() {
	w.file.SetReadDeadline(time.Unix(1, 0))
}

func (w *watcher) close() { w.file.Close() }
