package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// roleEnv in the environment says in which role this program is started.
const roleEnv = "LOGFS_BENCH_ROLE"

// An order is what a role is to do; each role takes what is for it.
type order struct {
	Load    load
	Bytes   int           // to be written in all
	Files   int           // written to, from descriptor 3 on, or times that one is opened
	Rate    int           // lines a second, for each file
	For     time.Duration // or
	Lines   int           // that are written or awaited
	Path    string        // to read
	Readers int           // of it
}

// A report is what a role says at its end.
type report struct {
	Bytes, Lines int
	Began, Ended int64 // on the clock that all processes share
	CPU          time.Duration
	Times        map[string][]float64 // in µs, sorted
}

var roles = map[string]func(order) (report, error){
	"write":  writeBulk,
	"pace":   writePaced,
	"ping":   writePings,
	"hear":   hear,
	"crowd":  listen,
	"copy":   copyAll,
	"fstats": fstats,
}

// play is the whole life of a process that has a role. The garbage of such a
// process is too little to be collected, and its time must not be measured.
func play(name string) error {
	debug.SetGCPercent(-1)
	var o order
	if err := json.Unmarshal([]byte(os.Args[1]), &o); err != nil {
		return fmt.Errorf("cannot understand an order: %w", err)
	}
	r, err := roles[name](o)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// An actor is a process with a role.
type actor struct {
	cmd   *exec.Cmd
	stdin io.Closer // nil if it is somebody else's
	out   *json.Decoder
}

// cast starts a process with a role and hands files to it, from descriptor 3 on.
// Without a stdin it gets one that is closed when its report is wanted.
func (b *bench) cast(role string, o order, stdin *os.File, files ...*os.File) (*actor, error) {
	args, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	a := &actor{cmd: exec.CommandContext(b.ctx, "/proc/self/exe", string(args))}
	a.cmd.Env = append(os.Environ(), roleEnv+"="+role)
	a.cmd.ExtraFiles, a.cmd.Stderr = files, os.Stderr
	if stdin != nil {
		a.cmd.Stdin = stdin
	} else if a.stdin, err = a.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	a.out = json.NewDecoder(out)
	if err := a.cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start the role %s: %w", role, err)
	}
	return a, nil
}

// report waits for the end of the process and returns what it says.
func (a *actor) report() (r report, err error) {
	if a.stdin != nil {
		a.stdin.Close()
	}
	err = a.out.Decode(&r)
	if werr := a.cmd.Wait(); werr != nil {
		err = errors.Join(err, fmt.Errorf("%s: %w", a.cmd.Env[len(a.cmd.Env)-1], werr))
	}
	return r, err
}

// act is cast and report.
func (b *bench) act(role string, o order, files ...*os.File) (report, error) {
	a, err := b.cast(role, o, nil, files...)
	if err != nil {
		return report{}, err
	}
	return a.report()
}

// now is a time that processes of one machine agree on.
func now() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // this clock is always there
	return t.Nano()
}

// used is the processor time of this process.
func used() time.Duration {
	t, _ := cpu(os.Getpid()) // nor does one's own clock fail
	return t
}

// write is write(2) to the end, without the scheduler: nothing else goes on here.
func write(fd int, p []byte) error {
	for len(p) > 0 {
		n, err := rawWrite(fd, p)
		if err == unix.EINTR {
			continue
		}
		if err != 0 {
			return fmt.Errorf("cannot write: %w", err)
		}
		p = p[n:]
	}
	return nil
}

// readSome is read(2), again after what Go's own signals have interrupted.
func readSome(fd int, p []byte) (n int, err error) {
	for {
		if n, err = syscall.Read(fd, p); err != syscall.EINTR {
			return n, err
		}
	}
}
