package main

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// What is said to the service manager, and what it keeps: see sd_notify(3).

// notify tells the service manager, if there is one, and hands it files. One that
// does not listen any more has no use for an error.
func notify(state string, files ...*os.File) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = unix.UnixRights(fds...)
	}
	_ = unix.Sendmsg(fd, []byte(state), rights, &unix.SockaddrUnix{Name: path}, unix.MSG_NOSIGNAL)
}

// A fileStore is the file descriptor store of the service manager.
type fileStore struct {
	names []string // of the descriptors from firstListed on that we were given
	keeps bool     // it takes more
	used  bool     // it has some, or may have
}

// firstListed is the first descriptor that a service manager gives.
const firstListed = 3

// takeFileStore is the store of the manager that has started this process. No
// child is told of it. Before systemd 254 FDSTORE is set by nobody but the unit.
func takeFileStore() *fileStore {
	s := &fileStore{}
	if n, err := strconv.Atoi(os.Getenv("FDSTORE")); err == nil && n > 0 {
		s.keeps = os.Getenv("NOTIFY_SOCKET") != ""
	}
	if os.Getenv("LISTEN_PID") == strconv.Itoa(os.Getpid()) {
		s.names = strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
		if n, err := strconv.Atoi(os.Getenv("LISTEN_FDS")); err != nil || n != len(s.names) {
			s.names = nil
		}
	}
	s.used = s.keeps || s.names != nil
	for _, name := range []string{"FDSTORE", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"} {
		os.Unsetenv(name)
	}
	return s
}

// Take leaves alone what has other names: it may be for others.
func (s *fileStore) Take(prefix string) map[string][]*os.File {
	files := map[string][]*os.File{}
	for i, name := range s.names {
		fd := firstListed + i
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && strings.HasPrefix(name, prefix) {
			unix.CloseOnExec(fd)
			files[name] = append(files[name], os.NewFile(uintptr(fd), name))
		}
	}
	s.names = nil
	return files
}

// Put has the manager not poll the files: a connection to the kernel would wake it
// at each request.
func (s *fileStore) Put(name string, files ...*os.File) {
	if s.keeps {
		notify("FDSTORE=1\nFDPOLL=0\nFDNAME="+name, files...)
	}
}

func (s *fileStore) Remove(name string) {
	if s.used {
		notify("FDSTOREREMOVE=1\nFDNAME=" + name)
	}
}
