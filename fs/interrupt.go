package fs

import (
	"bytes"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// waits finds parked reads by the number of their request.
type waits struct {
	mu sync.Mutex // guards m; nothing else is locked under it
	m  map[uint64]*park
}

func (w *waits) add(p *park) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.m[p.unique] = p
}

func (w *waits) remove(p *park) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.m, p.unique)
}

// find also returns the thread that reads: the memory of p may be that of another
// read soon.
func (w *waits) find(unique uint64) (p *park, tid uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p = w.m[unique]; p != nil {
		tid = p.pid
	}
	return p, tid
}

// How often the signals of a reader are looked at who was interrupted but
// did not have to be. The kernel tells of the first signal only.
const (
	lookSoon = 50 * time.Millisecond
	lookLate = 200 * time.Millisecond
	lookMany = 20
)

// interrupt is INTERRUPT: a signal is pending for a reader. It returns false
// if no parked read has that number; the protocol then asks for it again,
// because the read may be about to be parked.
func (s *Server) interrupt(unique uint64) bool {
	p, tid := s.waits.find(unique)
	if q := s.pollers.question(unique); p == nil && q != nil {
		s.answerQuestion(q)
		return true
	}
	if p == nil {
		return s.writers.interrupt(unique)
	}
	s.look(p, unique, tid, 0)
	return true
}

// look ends p, if it is still the read unique, with EINTR if a signal ends or is
// caught by its reader. Other signals, ^Z and what a debugger or the freezer does,
// only make the kernel ask: programs that do not expect EINTR from a read live on
// if they do not get it.
func (s *Server) look(p *park, unique uint64, tid uint32, times int) {
	ends := signalEnds(tid)
	p.h.mu.Lock()
	defer p.h.mu.Unlock()
	switch {
	case p.done, p.unique != unique:
	case ends:
		p.finish()
		s.dev.fail(p.unique, interrupted)
	default:
		p.timer = time.AfterFunc(lookAgain(times), func() { s.look(p, unique, tid, times+1) })
	}
}

// lookAgain is when signals are looked at again that were looked at so often.
func lookAgain(times int) time.Duration {
	if times >= lookMany {
		return lookLate
	}
	return lookSoon
}

// signalEnds says whether a pending signal of the thread tid is caught by it
// or kills it. A thread that cannot be seen is taken to be ending.
func signalEnds(tid uint32) bool {
	status, ok := statusOfThread(tid)
	return !ok || pendingEnds(status)
}

// signalKills says whether a pending signal kills the thread tid.
func signalKills(tid uint32) bool {
	status, ok := statusOfThread(tid)
	return !ok || pendingKills(status)
}

func statusOfThread(tid uint32) (status []byte, ok bool) {
	status, err := os.ReadFile("/proc/" + strconv.FormatUint(uint64(tid), 10) + "/status")
	return status, tid != 0 && err == nil
}

// harmless are the signals that do nothing to a process that does not catch
// them, or only stop it.
var harmless = func() (m uint64) {
	for _, sig := range []syscall.Signal{
		syscall.SIGCHLD, syscall.SIGCONT, syscall.SIGSTOP, syscall.SIGTSTP,
		syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGURG, syscall.SIGWINCH,
	} {
		m |= 1 << (sig - 1)
	}
	return m
}()

// pendingEnds reads /proc/PID/status, see proc_pid_status(5).
func pendingEnds(status []byte) bool {
	return pendingKills(status) || pending(status)&mask(status, "SigCgt:") != 0
}

func pendingKills(status []byte) bool {
	return pending(status)&^(mask(status, "SigIgn:")|mask(status, "SigCgt:")|harmless) != 0
}

func pending(status []byte) uint64 {
	return (mask(status, "SigPnd:") | mask(status, "ShdPnd:")) &^ mask(status, "SigBlk:")
}

func mask(status []byte, name string) uint64 {
	_, rest, _ := bytes.Cut(status, []byte("\n"+name))
	line, _, _ := bytes.Cut(rest, []byte{'\n'})
	v, _ := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 64)
	return v
}
