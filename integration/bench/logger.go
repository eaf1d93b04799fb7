package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A logger is a program that keeps what it reads in a directory: files of 1 MiB,
// ten of them, with a stamp on each line; but for cat, which has one plain file.
type logger struct {
	name   string
	args   []string // DIR stands for the directory; none for logfs
	config string   // of the file config in the directory, if it reads one
}

var (
	logfs    = logger{name: "logfs"}
	multilog = logger{name: "multilog", args: []string{"t", "s1048576", "n10", "DIR"}}
	s6log    = logger{name: "s6-log", args: []string{"t", "s1048576", "n10", "DIR"}}
	svlogd   = logger{name: "svlogd", args: []string{"-tt", "DIR"}, config: "s1048576\nn10\n"}
	cat      = logger{name: "cat >file", args: []string{}}
)

// find returns the program of a logger, or that it is not installed.
func (l logger) find(b *bench) (path string, ok bool) {
	if l.args == nil {
		return b.logfs, true
	}
	program, _, _ := strings.Cut(l.name, " ")
	for _, dir := range []string{"/usr/bin", "/bin", "/usr/sbin", "/sbin"} { // no wrapper of a version manager
		path = filepath.Join(dir, program)
		if info, err := os.Stat(path); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return path, true
		}
	}
	path, err := exec.LookPath(program)
	return path, err == nil
}

// A seat is one logger at work: a pipe for each service, and its processes.
type seat struct {
	b     *bench
	ins   []*os.File // what services write to
	pids  []int      // of all processes that are the logger
	main  int        // the one of them that does the work
	procs []*exec.Cmd
	d     *daemon // of logfs, else nil
}

// sit starts a logger for so many services. The caller ends it, also after an
// error. conf is for the daemon of logfs.
func (b *bench) sit(l logger, services int, conf string) (s *seat, err error) {
	s = &seat{b: b}
	if l.args == nil {
		if s.d, err = b.startDaemon(conf); err != nil {
			return s, err
		}
		s.pids, s.main = s.d.pids, s.d.cmd.Process.Pid
	}
	for i := range services {
		if err := s.serve(l, i); err != nil {
			return s, err
		}
	}
	if s.d != nil {
		return s, s.d.awaitRunning(services)
	}
	return s, s.settle()
}

// serviceName is the name of service i in all scenarios.
func serviceName(i int) string { return fmt.Sprintf("s%d", i) }

// serve starts the process that takes the lines of service i.
func (s *seat) serve(l logger, i int) error {
	cmd, err := s.command(l, i)
	if err != nil {
		return err
	}
	r, w, err := pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	s.ins = append(s.ins, w)
	cmd.Stdin, cmd.Stderr = r, os.Stderr
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cannot start %s: %w", l.name, err)
	}
	s.procs, s.pids = append(s.procs, cmd), append(s.pids, cmd.Process.Pid)
	if s.main == 0 {
		s.main = cmd.Process.Pid
	}
	return nil
}

func (s *seat) command(l logger, i int) (*exec.Cmd, error) {
	path, _ := l.find(s.b)
	if s.d != nil {
		return exec.Command(path, "pipe", "--socket", s.d.socket, serviceName(i)), nil
	}
	dir, err := s.b.newDir()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path)
	for _, arg := range l.args {
		cmd.Args = append(cmd.Args, strings.ReplaceAll(arg, "DIR", dir))
	}
	if l.config != "" {
		return cmd, os.WriteFile(filepath.Join(dir, "config"), []byte(l.config), 0o644)
	}
	if len(l.args) == 0 {
		file, err := os.Create(filepath.Join(dir, "current"))
		cmd.Stdout = file
		return cmd, err
	}
	return cmd, nil
}

// pipe is os.Pipe without Go's poller: those who get the ends find them blocking.
func pipe() (r, w *os.File, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("cannot make a pipe: %w", err)
	}
	return os.NewFile(uintptr(p[0]), "pipe"), os.NewFile(uintptr(p[1]), "pipe"), nil
}

// drained returns when the logger has read all that was written.
func (s *seat) drained() error {
	return s.b.await("the pipes to be read", func() (bool, error) {
		for _, in := range s.ins {
			if n, err := unix.IoctlGetInt(int(in.Fd()), unix.TIOCINQ); n > 0 || err != nil {
				return false, err
			}
		}
		return true, nil
	})
}

// settle returns when the logger has nothing more to do, its fsyncs included.
func (s *seat) settle() error {
	if err := s.quiet(); err != nil || s.d == nil {
		return err
	}
	if err := s.d.command("flush"); err != nil {
		return err
	}
	return s.quiet()
}

// quiet returns when no process of the logger has worked for a while.
func (s *seat) quiet() error {
	const while = 10 * time.Millisecond
	var last meter
	return s.b.await("the logger to be quiet", func() (bool, error) {
		now, err := read(s.pids)
		if is := now == last; is || err != nil {
			return is, err
		}
		last = now
		return false, s.b.pause(while)
	})
}

// end has the logger see the end of its input, and waits for its own.
func (s *seat) end() error {
	for _, in := range s.ins {
		in.Close()
	}
	var errs []error
	for _, cmd := range s.procs {
		late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		if err := cmd.Wait(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", cmd.Args[0], err))
		}
		late.Stop()
		if file, ok := cmd.Stdout.(*os.File); ok {
			file.Close()
		}
	}
	if s.d != nil {
		errs = append(errs, s.d.end())
	}
	return errors.Join(errs...)
}
