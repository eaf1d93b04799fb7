package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"logfs/cmd/logfs/internal/config"
	"logfs/ring/record"
)

// StartCommand starts the command of a service and returns the read ends of its
// stdout and stderr. The command leads a session and process group of its own,
// its stdin is /dev/null, and it inherits no other descriptor. It gets the signal
// orphaned, if not 0, when the thread that calls ends.
func StartCommand(s config.Service, orphaned syscall.Signal) (_ *exec.Cmd, streams []*os.File, err error) {
	cmd := exec.Command(s.Command[0], s.Command[1:]...)
	cmd.Dir = s.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: orphaned}
	who, err := runAs(s.User)
	if err != nil {
		return nil, nil, err
	}
	cmd.SysProcAttr.Credential = who.credential
	cmd.Env = environment(os.Environ(), s, who.env)
	var ends []*os.File
	defer func() {
		closeAll(ends)
		if err != nil {
			closeAll(streams)
		}
	}()
	for range 2 {
		r, w, err := Pipe()
		if err != nil {
			return nil, streams, err
		}
		streams, ends = append(streams, r), append(ends, w)
		if c := who.credential; c != nil {
			// A service that opens /dev/stdout anew needs leave to do so.
			if err := w.Chown(int(c.Uid), int(c.Gid)); err != nil {
				return nil, streams, fmt.Errorf("cannot give the service its pipe: %w", err)
			}
		}
	}
	cmd.Stdout, cmd.Stderr = ends[0], ends[1]
	return cmd, streams, cmd.Start()
}

// Pipe makes a pipe that the runtime does not watch: who only keeps it open is not
// to be woken by every write.
func Pipe() (r, w *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("cannot make a pipe: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "pipe"), os.NewFile(uintptr(fds[1]), "pipe"), nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// notInherited is what the daemon was told by its own supervisor.
var notInherited = []string{"NOTIFY_SOCKET=", "LISTEN_FDS=", "LISTEN_PID=", "LISTEN_FDNAMES=", "LISTEN_PIDFDID=", "FDSTORE=",
	"WATCHDOG_USEC=", "WATCHDOG_PID=", "INVOCATION_ID="}

// environment is the daemon's own, then what belongs to the user, then what
// the configuration says: the later wins.
func environment(own []string, s config.Service, user []string) []string {
	env := slices.DeleteFunc(slices.Clone(own), func(v string) bool {
		return slices.ContainsFunc(notInherited, func(p string) bool { return strings.HasPrefix(v, p) })
	})
	env = append(env, user...)
	if s.Dir != "" {
		env = append(env, "PWD="+s.Dir)
	}
	return append(env, s.Env...)
}

// identity is the user a command runs as; the zero identity is the daemon's.
type identity struct {
	credential *syscall.Credential
	env        []string
}

func runAs(name string) (identity, error) {
	if name == "" {
		return identity{}, nil
	}
	u, err := lookupUser(name)
	if err != nil {
		return identity{}, err
	}
	env := []string{"HOME=" + u.HomeDir, "USER=" + u.Username, "LOGNAME=" + u.Username}
	uid, gid := number(u.Uid), number(u.Gid)
	if os.Geteuid() != 0 {
		if int(uid) != os.Geteuid() {
			return identity{}, fmt.Errorf("cannot run as user %q: only root can", name)
		}
		return identity{env: env}, nil
	}
	ids, err := u.GroupIds()
	if err != nil {
		return identity{}, fmt.Errorf("cannot find the groups of user %q: %w", name, err)
	}
	groups := make([]uint32, len(ids))
	for i, id := range ids {
		groups[i] = number(id)
	}
	return identity{&syscall.Credential{Uid: uid, Gid: gid, Groups: groups}, env}, nil
}

// lookupUser finds a user by name or number.
func lookupUser(name string) (*user.User, error) {
	u, err := user.Lookup(name)
	if err != nil {
		u, err = user.LookupId(name)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot find user %q", name)
	}
	return u, nil
}

func lookupGroup(name string) (*user.Group, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		g, err = user.LookupGroupId(name)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot find group %q", name)
	}
	return g, nil
}

// number is a user's or group's id, which on Linux is always a number.
func number(id string) uint32 {
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil {
		panic("daemon: not a user or group id: " + id)
	}
	return uint32(n)
}

// Reason is why a command could not be started, without the name of the command.
func Reason(err error) error {
	var notFound *exec.Error
	var path *fs.PathError
	switch {
	case errors.As(err, &notFound):
		return notFound.Err
	case errors.As(err, &path) && path.Op != "chdir":
		return path.Err
	}
	return err
}

// ExitOf says how a process ended, in the terms of an exit mark.
func ExitOf(state *os.ProcessState) record.Exit {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return record.Exit{Known: true, Signal: signalName(status.Signal())}
	}
	return record.Exit{Known: true, Code: state.ExitCode()}
}

// signalName is KILL for SIGKILL, and the number of a signal without a name.
func signalName(s syscall.Signal) string {
	if name := unix.SignalName(s); name != "" {
		return strings.TrimPrefix(name, "SIG")
	}
	return strconv.Itoa(int(s))
}
