package fs

import (
	"os"
	"strconv"
	"strings"
	"time"
)

// An administrator can have the kernel abort every FUSE mount that leaves a
// request unanswered for too long: all of the mount, with an error for everybody
// who has a file of it open. A read of follow may wait for ever, so it is answered
// before, as if a signal had come. Most programs then read again; sed and awk end.

// requestTimeout is how long the kernel waits for an answer of a mount that is
// made now; 0 for ever. See fs.fuse in the kernel's sysctl documentation.
func requestTimeout() time.Duration {
	return timeoutOf(sysctl("default_request_timeout"), sysctl("max_request_timeout"))
}

// timeoutOf is what the kernel makes of both: most is a limit, and the default
// where there is none.
func timeoutOf(byDefault, most int) time.Duration {
	if most > 0 && (byDefault == 0 || byDefault > most) {
		byDefault = most
	}
	return time.Duration(byDefault) * time.Second
}

func sysctl(name string) int {
	text, err := os.ReadFile("/proc/sys/fs/fuse/" + name)
	if err != nil {
		return 0 // an older kernel, which waits
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return n
}

// bound has reads wait half as long as the kernel does: an answer that comes a
// little late costs all readers their files.
func (s *Server) bound(timeout time.Duration) {
	if timeout == 0 {
		return
	}
	s.longest.Store(int64(timeout / 2))
	s.opts.Log.Warn("fs.fuse.default_request_timeout or max_request_timeout is set: readers of follow that wait are interrupted, of which sed and awk end",
		"timeout", timeout, "interrupted after", timeout/2)
}

// limit sees to it that p does not wait for too long. The caller holds p.h.mu.
func (s *Server) limit(p *park) {
	if longest := time.Duration(s.longest.Load()); longest > 0 && !p.done {
		p.bound = time.AfterFunc(longest, func() { s.giveUp(p) })
	}
}

// giveUp ends p with EINTR.
func (s *Server) giveUp(p *park) {
	p.h.mu.Lock()
	defer p.h.mu.Unlock()
	if !p.done {
		p.finish()
		s.dev.fail(p.unique, interrupted)
	}
}
