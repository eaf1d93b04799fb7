package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"logfs/cmd/logfs/internal/config"
	"logfs/cmd/logfs/internal/exit"
)

// A FIFO is read by a holder too, one without a command: it keeps the FIFO open,
// so that its writers notice nothing when the daemon is killed, and brings a run
// for each time that somebody writes. It ends when the daemon tells it so, with
// TERM, and is found again by the next one: the file that is its lock says who it
// is, and which FIFO it has.

// HoldFifo is the descriptor on which the holder of a FIFO gets it.
const HoldFifo = 5

// openFifo opens the FIFO of a service, and makes it if it is missing. Owner and
// mode of one that is there change only if the configuration has them.
func openFifo(c config.Service) (*os.File, error) {
	fd, st, err := fileAt(c.Fifo)
	var mode uint32
	if errors.Is(err, os.ErrNotExist) {
		mode = 0o600
		if err := makeParent(c.Fifo); err != nil {
			return nil, err
		}
		if err := unix.Mkfifo(c.Fifo, mode); err != nil {
			return nil, exit.Refusedf("cannot make it: %w", err)
		}
		fd, st, err = fileAt(c.Fifo)
	}
	if err != nil {
		return nil, exit.Refusedf("cannot look at it: %w", err)
	}
	defer unix.Close(fd)
	if st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return nil, wrongKind(st, "a FIFO")
	}
	if err := dress(fd, c, mode); err != nil {
		return nil, err
	}
	return readEnd(fd, c.Fifo)
}

// readEnd opens the FIFO that is open as fd for reading. The runtime does not
// watch it.
func readEnd(fd int, path string) (*os.File, error) {
	r, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(r, false)
	}
	if err != nil {
		return nil, exit.Refusedf("cannot open it: %w", err)
	}
	return os.NewFile(uintptr(r), path), nil
}

// holdFifo stays with the holder of the FIFO of s, a new one or one that an
// earlier daemon has left, until that ends, or the intake is stopped.
func (d *Daemon) holdFifo(s *service, in *intake, c config.Service) error {
	h, died, err := d.fifoHolder(s, in, c)
	if err != nil {
		return err
	}
	defer h.close()
	s.mended()
	gone := h.ended()
	select {
	case <-gone:
		if died == nil {
			return errors.New("its holder has ended")
		}
		return <-died
	case <-in.listening.Done():
		return d.endHolder(h, gone)
	}
}

// endHolder has a holder bring what there is and end.
func (d *Daemon) endHolder(h holderProcess, gone <-chan struct{}) error {
	h.signal(unix.SIGTERM)
	late := time.NewTimer(holderPatience)
	defer late.Stop()
	select {
	case <-gone:
		return nil
	case <-late.C:
	case <-d.hurry:
	}
	h.signal(unix.SIGKILL)
	return fmt.Errorf("its holder did not end within %v", holderPatience)
}

// fifoHolder starts a holder for the FIFO of s, unless one has it. died gets why a
// new one has ended; it is nil for an old one.
func (d *Daemon) fifoHolder(s *service, in *intake, c config.Service) (h holderProcess, died chan error, err error) {
	lock, err := d.lockHolder(s)
	if err != nil {
		return h, nil, err
	}
	defer in.closeFifo()
	if lock == nil {
		h, err = d.findHolder(s.name)
		return h, nil, err
	}
	if err = in.open(c); err == nil {
		err = lockFifo(in.fifo)
	}
	if err != nil {
		lock.Close()
		return h, nil, err
	}
	died = make(chan error, 1)
	pid, err := d.startHolder(s, lock, died, in.fifo)
	if err != nil {
		return h, nil, err
	}
	if h, err = openProcess(pid); err != nil {
		return h, nil, errors.Join(<-died, err) // it had ended before
	}
	return h, died, nil
}

// lockFifo makes f the only way by which the FIFO is read, as far as others do so
// too: two readers would each get a part of the lines.
func lockFifo(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch err {
	case nil:
		return nil
	case unix.EWOULDBLOCK:
		return errors.New("another daemon reads it")
	}
	return fmt.Errorf("cannot lock it: %w", err)
}

// Introduce writes into the lock of a holder that it has a FIFO. lock is what the
// holder got.
func Introduce(lock *os.File, fifo string) error {
	_, err := lock.WriteAt(fmt.Appendf(nil, "%d %s\n", os.Getpid(), fifo), 0)
	return err
}

// introduced is what the lock of a holder says about it: no pid if it has a
// command.
func (d *Daemon) introduced(name string) (pid int, fifo string) {
	text, err := os.ReadFile(filepath.Join(d.o.Config.Store, locksDir, name))
	if err != nil {
		return 0, ""
	}
	number, fifo, _ := strings.Cut(strings.TrimSuffix(string(text), "\n"), " ")
	pid, _ = strconv.Atoi(number)
	return pid, fifo
}

// findHolder finds the holder of a FIFO that an earlier daemon has left.
func (d *Daemon) findHolder(name string) (h holderProcess, err error) {
	pid, _ := d.introduced(name)
	if pid == 0 {
		return h, errors.New("a holder that is not for a FIFO has the service")
	}
	return openProcess(pid)
}

// endStrangers ends the holders that an earlier daemon has left for FIFOs of which
// the configuration says nothing more. It returns when they have ended.
func (d *Daemon) endStrangers() {
	entries, err := os.ReadDir(filepath.Join(d.o.Config.Store, locksDir))
	if err != nil {
		return // there are none
	}
	for _, e := range entries {
		pid, fifo := d.introduced(e.Name())
		s := d.find(e.Name())
		if pid == 0 || s != nil && s.config().Fifo == fifo {
			continue
		}
		if err := d.endStranger(e.Name()); err != nil {
			d.o.Log.Warn("a FIFO is read that the configuration does not name", "service", e.Name(), "fifo", fifo, "err", err)
		}
	}
}

func (d *Daemon) endStranger(name string) error {
	lock, err := d.lockHolderNamed(name)
	if lock != nil {
		return lock.Close() // nobody has it: what it says is old
	}
	if err != nil {
		return err
	}
	h, err := d.findHolder(name)
	if err != nil {
		return err
	}
	defer h.close()
	return d.endHolder(h, h.ended())
}
