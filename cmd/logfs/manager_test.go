package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The descriptors of a manager are taken by name if they are for this process, and
// its environment is not for children.
func TestTakeFileStore(t *testing.T) {
	self := fmt.Sprint(os.Getpid())
	for _, c := range []struct {
		what, pid, fds, names, max string
		want                       int
		keeps                      bool
	}{
		{what: "nothing"},
		{what: "ours", pid: self, fds: "3", names: "a:logfs:logfs", max: "2", want: 3, keeps: true},
		{what: "another process's", pid: "1", fds: "1", names: "logfs", max: "0"},
		{what: "fewer names than files", pid: self, fds: "2", names: "logfs", max: "no"},
		{what: "no number", pid: self, fds: "x", names: "logfs", max: "-1"},
	} {
		t.Setenv("NOTIFY_SOCKET", "/nowhere")
		vars := map[string]string{"LISTEN_PID": c.pid, "LISTEN_FDS": c.fds, "LISTEN_FDNAMES": c.names, "FDSTORE": c.max}
		for name, v := range vars {
			t.Setenv(name, v)
		}
		s := takeFileStore()
		if len(s.names) != c.want || s.keeps != c.keeps {
			t.Errorf("%s: %+v, want %d names and %v", c.what, s, c.want, c.keeps)
		}
		for name := range vars {
			if v, ok := os.LookupEnv(name); ok {
				t.Errorf("%s: children get %s=%s", c.what, name, v)
			}
		}
	}
}

// Only a manager that keeps descriptors hears of them.
func TestFileStoreSays(t *testing.T) {
	said := listenNotify(t)
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	must(t, err)
	defer f.Close()
	for _, s := range []*fileStore{{}, {keeps: true, used: true}} {
		s.Put("name", f)
		s.Remove("name")
	}
	for _, want := range []string{"FDSTORE=1\nFDPOLL=0\nFDNAME=name", "FDSTOREREMOVE=1\nFDNAME=name"} {
		if got := receive(t, said); got != want {
			t.Errorf("the manager hears %q, want %q", got, want)
		}
	}
}

// What has another name stays open, and what is not open is nothing.
func TestFileStoreTakes(t *testing.T) {
	for fd := firstListed; ; fd++ {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == unix.EBADF {
			s := &fileStore{names: strings.Split(strings.Repeat("other:", fd-firstListed)+"ours", ":")}
			if files := s.Take("ours"); len(files) != 0 {
				t.Errorf("took %v, of which nothing is open", files)
			}
			return
		}
	}
}
