package fs

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// ErrNoFUSE says that this system cannot mount: no /dev/fuse, or for a plain
// user no fusermount3. The mount point is not at fault.
var ErrNoFUSE = errors.New("FUSE is not available")

var errNoDescriptor = errors.New("fusermount3 has sent no descriptor")

const fsName = "logfs"

// mount mounts on dir and returns the descriptor of the connection. Root
// mounts directly; others ask fusermount3, which is allowed to.
func mount(dir string, allowOther bool) (fd int, err error) {
	options := []string{"default_permissions", fmt.Sprintf("max_read=%d", maxPayload)}
	if allowOther {
		options = append(options, "allow_other")
	}
	if os.Geteuid() == 0 {
		return mountDirect(dir, options)
	}
	return mountHelper(dir, append(options, "nosuid", "nodev", "noexec", "fsname="+fsName, "subtype="+fsName))
}

func mountDirect(dir string, options []string) (int, error) {
	fd, err := syscall.Open("/dev/fuse", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("%w: cannot open /dev/fuse: %w", ErrNoFUSE, err)
	}
	options = append(options, fmt.Sprintf("fd=%d,rootmode=40000,user_id=%d,group_id=%d", fd, os.Geteuid(), os.Getegid()))
	err = syscall.Mount(fsName, dir, "fuse."+fsName, syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, strings.Join(options, ","))
	if err != nil {
		syscall.Close(fd)
		if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENODEV) {
			return -1, fmt.Errorf("%w: cannot mount on %q: %w", ErrNoFUSE, dir, err)
		}
		return -1, fmt.Errorf("cannot mount on %q: %w", dir, err)
	}
	return fd, nil
}

// mountHelper runs fusermount3, which sends the descriptor back.
func mountHelper(dir string, options []string) (int, error) {
	bin, err := exec.LookPath("fusermount3")
	if err != nil {
		return -1, fmt.Errorf("%w: cannot mount without root: fusermount3 is not installed (package fuse3)", ErrNoFUSE)
	}
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("cannot make a socket for fusermount3: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "fuse"), os.NewFile(uintptr(pair[1]), "fuse")
	defer ours.Close()
	cmd := exec.Command(bin, "-o", strings.Join(options, ","), "--", dir)
	cmd.Env = append(os.Environ(), "_FUSE_COMMFD=3")
	cmd.ExtraFiles = []*os.File{theirs}
	said, err := cmd.CombinedOutput()
	theirs.Close()
	if err != nil {
		return -1, fmt.Errorf("%w: cannot mount on %q: %s", ErrNoFUSE, dir, firstLine(said, err))
	}
	return receiveFD(ours)
}

func firstLine(said []byte, err error) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(said)), "\n")
	if line == "" {
		return "fusermount3: " + err.Error()
	}
	return line
}

// receiveFD takes the descriptor that fusermount3 has sent.
func receiveFD(from *os.File) (int, error) {
	conn, err := net.FileConn(from)
	if err != nil {
		return -1, fmt.Errorf("cannot hear fusermount3: %w", err)
	}
	defer conn.Close()
	var b [1]byte
	oob := make([]byte, syscall.CmsgSpace(4))
	_, n, _, _, err := conn.(*net.UnixConn).ReadMsgUnix(b[:], oob)
	if err != nil {
		return -1, fmt.Errorf("cannot hear fusermount3: %w", err)
	}
	messages, err := syscall.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return -1, errNoDescriptor
	}
	fds, err := syscall.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, errNoDescriptor
	}
	syscall.CloseOnExec(fds[0])
	return fds[0], nil
}

// Unmount takes the file system off dir. It fails with EBUSY while files of
// it are open, and does not wait.
func Unmount(dir string) error {
	if os.Geteuid() == 0 {
		if err := syscall.Unmount(dir, umountNoFollow); err != nil {
			return fmt.Errorf("cannot unmount %q: %w", dir, err)
		}
		return nil
	}
	return helperUnmount(dir, "-u")
}

const umountNoFollow = 8

func helperUnmount(dir string, flags ...string) error {
	said, err := exec.Command("fusermount3", append(flags, "--", dir)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("cannot unmount %q: %s", dir, firstLine(said, err))
	}
	return nil
}

// detach takes the mount out of the tree while files of it are still open.
// As root it aborts the connection first, so that nobody waits for us; else
// that happens when this process ends.
func detach(dir string) error {
	if os.Geteuid() == 0 {
		err := syscall.Unmount(dir, syscall.MNT_FORCE|umountNoFollow)
		if err != nil {
			err = syscall.Unmount(dir, syscall.MNT_DETACH|umountNoFollow)
		}
		return err
	}
	return helperUnmount(dir, "-u", "-z")
}

// unmountSoon unmounts when the readers, who have been told of the end, have
// gone, and detaches if they do not go. It stops, and returns false, when
// mounted does: somebody else has unmounted it.
func unmountSoon(dir string, mounted func() bool) (ours bool, err error) {
	for delay := time.Millisecond; delay < 500*time.Millisecond; delay *= 2 {
		if !mounted() {
			return false, nil
		}
		if Unmount(dir) == nil {
			return true, nil
		}
		time.Sleep(delay)
	}
	if !mounted() {
		return false, nil
	}
	err = detach(dir)
	return err == nil, err
}

// deviceOn is the number of the device that is mounted on dir, a path without
// symbolic links, as "0:52"; "" if dir is no mount point. The mount itself is
// not asked: see device.greet.
func deviceOn(dir string) (device string, err error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("cannot read what is mounted: %w", err)
	}
	escaped := strings.NewReplacer(`\`, `\134`, " ", `\040`, "\t", `\011`, "\n", `\012`).Replace(dir)
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 4 && f[4] == escaped {
			device = f[2] // the last one is on top
		}
	}
	return device, nil
}

// ClearStale takes away what a killed daemon left on dir: a mount that
// answers "transport endpoint is not connected". Anything else is left alone.
func ClearStale(dir string) (cleared bool, err error) {
	var st syscall.Stat_t
	if err := syscall.Stat(dir, &st); !errors.Is(err, syscall.ENOTCONN) {
		return false, nil
	}
	if os.Geteuid() == 0 {
		err = syscall.Unmount(dir, syscall.MNT_DETACH|umountNoFollow)
	} else {
		err = helperUnmount(dir, "-u", "-z")
	}
	if err != nil {
		return false, fmt.Errorf("cannot clear the dead mount on %q: %w", dir, err)
	}
	return true, nil
}
