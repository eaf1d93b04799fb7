package integration

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// A manager is a service manager with a store of file descriptors, as systemd is
// one.
type manager struct {
	t    *testing.T
	path string
	conn *net.UnixConn

	mu   sync.Mutex // guards the following
	kept []keptFile
	said []string
}

type keptFile struct {
	name string
	fd   int
}

func newManager(t *testing.T) *manager {
	t.Helper()
	m := &manager{t: t, path: filepath.Join(t.TempDir(), "notify")}
	var err error
	m.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"})
	must(t, err)
	heard := make(chan struct{})
	go func() { m.hear(); close(heard) }()
	t.Cleanup(func() {
		m.conn.Close()
		<-heard
		m.drop(func(string) bool { return true })
	})
	return m
}

func (m *manager) hear() {
	buf, oob := make([]byte, 4096), make([]byte, 4096)
	for {
		n, oobn, _, _, err := m.conn.ReadMsgUnix(buf, oob)
		if err != nil {
			return
		}
		m.obey(string(buf[:n]), oob[:oobn])
	}
}

// obey does what sd_notify(3) says.
func (m *manager) obey(message string, oob []byte) {
	name := "stored"
	lines := strings.Split(message, "\n")
	for _, line := range lines {
		if v, ok := strings.CutPrefix(line, "FDNAME="); ok {
			name = v
		}
	}
	if slices.Contains(lines, "FDSTOREREMOVE=1") {
		m.drop(func(n string) bool { return n == name })
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.said = append(m.said, message)
	messages, _ := unix.ParseSocketControlMessage(oob)
	for _, rights := range messages {
		fds, _ := unix.ParseUnixRights(&rights)
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			if slices.Contains(lines, "FDSTORE=1") {
				m.kept = append(m.kept, keptFile{name, fd})
			} else {
				unix.Close(fd)
			}
		}
	}
}

func (m *manager) drop(which func(name string) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept = slices.DeleteFunc(m.kept, func(k keptFile) bool {
		if which(k.name) {
			unix.Close(k.fd)
		}
		return which(k.name)
	})
}

// keep has the manager keep duplicates of descriptors, too.
func (m *manager) keep(name string, fds ...int) {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, fd := range fds {
		m.kept = append(m.kept, keptFile{name, duplicate(m.t, fd)})
	}
}

func duplicate(t *testing.T, fd int) int {
	t.Helper()
	again, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	must(t, err)
	return again
}

// keeps waits until the manager has n files, and returns them.
func (m *manager) keeps(n int) (kept []keptFile) {
	m.t.Helper()
	eventually(m.t, func() string { return fmt.Sprintf("the manager to keep %d files, it has %v", n, kept) },
		func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			kept = slices.Clone(m.kept)
			return len(kept) == n
		})
	return kept
}

// count is how many messages had the text.
func (m *manager) count(text string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, message := range m.said {
		n += strings.Count(message, text)
	}
	return n
}

// start starts the daemon as a service of the manager.
func (m *manager) start(d *daemon) {
	m.t.Helper()
	ready, w, err := os.Pipe()
	must(m.t, err)
	defer ready.Close()
	env := append(os.Environ(), d.env, "NOTIFY_SOCKET="+m.path, "FDSTORE=4")
	m.mu.Lock()
	var names []string
	var files []*os.File
	for _, k := range m.kept {
		names, files = append(names, k.name), append(files, os.NewFile(uintptr(duplicate(m.t, k.fd)), k.name))
	}
	m.mu.Unlock()
	if len(names) > 0 {
		env = append(env, fmt.Sprintf("LISTEN_FDS=%d", len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	}
	args := append([]string{"-c", `LISTEN_PID=$$ exec "$@"`, "sh", logfsBin}, d.daemonArgs()...)
	d.cmd = exec.Command("/bin/sh", append(args, "--ready-fd", fmt.Sprint(3+len(files)))...)
	d.cmd.Env, d.cmd.Dir, d.cmd.ExtraFiles = env, d.dir, append(files, w)
	d.log = &logBuffer{}
	d.cmd.Stderr = d.log
	err = d.cmd.Start()
	for _, f := range d.cmd.ExtraFiles {
		f.Close()
	}
	must(m.t, err)
	d.exited = ended(d.cmd)
	if !d.awaitReady(ready) {
		d.kill()
		m.t.Fatalf("daemon did not become ready, its log:\n%s", d.log)
	}
}

// killAll kills the daemon, and then the holder of its mount.
func (m *manager) killAll(d *daemon) {
	m.t.Helper()
	holder := d.mountHolder()
	d.kill()
	killHolder(m.t, holder)
}

func killHolder(t *testing.T, pid int) {
	t.Helper()
	must(t, unix.Kill(pid, unix.SIGKILL))
	eventually(t, func() string { return fmt.Sprintf("holder %d to end", pid) },
		func() bool { s := stateOf(pid); return s == "" || s == "Z" })
}

// With a service manager that keeps descriptors, readers outlive a daemon whose
// processes are all gone. An orderly end leaves it nothing.
func TestManagerKeepsTheMount(t *testing.T) {
	m := newManager(t)
	d := newDaemon(t, "[service.web]\n[service.env]\ncommand = \"env\"\nrestart = \"never\"\n")
	m.start(d)
	f := d.feed("web")
	f.upTo(5)
	tail := d.shell(t, setting{}, `exec tail -n 999999 -s 0.05 -f "$M/web/stdout/follow"`)
	tail.awaitText(numbered(5) + "\n")
	m.keeps(2)
	takeovers := []func(){
		func() { m.killAll(d); m.start(d) },
		func() { d.kill(); m.start(d) }, // which finds the holder, too
		func() { m.killAll(d); m.start(d) },
		func() { m.leave(d); m.start(d) },
	}
	for _, next := range takeovers {
		next()
		f.upTo(f.n + 5)
		tail.awaitText(numbered(f.n) + "\n")
		m.keeps(2)
	}
	if n := m.count("FDSTORE=1"); n != 1 {
		t.Errorf("the manager was given the mount %d times, want once", n)
	}
	for _, text := range []string{d.read("env", "current"), environOf(t, d.mountHolder())} {
		if strings.Contains(text, "LISTEN_") || strings.Contains(text, "FDSTORE") {
			t.Errorf("a child has the environment %q", text)
		}
	}
	tail.end(unix.SIGTERM) // it would find the mount gone
	f.close()
	d.stop()
	m.keeps(0)
	f.watch.awaitEnd()
	if first, n := checkSnapshot(t, "tail -f", tail.output()); first != 1 || n != f.n || tail.stderr.String() != "" {
		t.Errorf("tail -f has lines %d to %d, want 1 to %d\n%s", first, n, f.n, tail.said())
	}
}

// leave has the daemon leave everything, and end.
func (m *manager) leave(d *daemon) {
	m.t.Helper()
	if r := d.logfs("leave"); r.status != 0 || r.stdout+r.stderr != "" {
		m.t.Fatalf("logfs leave: status %d, %q", r.status, r.stdout+r.stderr)
	}
	if !isClosed(d.exited) {
		eventually(m.t, func() string { return "the daemon to be waited for" }, func() bool { return isClosed(d.exited) })
	}
	if code := d.cmd.ProcessState.ExitCode(); code != 0 {
		m.t.Errorf("the daemon that has left ended with %v", d.cmd.ProcessState)
	}
	d.checkLog()
}

func environOf(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	must(t, err)
	return string(bytes.ReplaceAll(b, []byte{0}, []byte{' '}))
}

// Descriptors that are not what the daemon has given are not used. Those with our
// names are removed, others are left to whom they are for.
func TestManagerGivesOthers(t *testing.T) {
	m := newManager(t)
	d := newDaemon(t, "[service.web]\n")
	m.start(d)
	ours := m.keeps(2)
	name := ours[0].name
	old := newManager(t)
	old.keep(name, ours[0].fd, ours[1].fd)
	connection, state := old.kept[0].fd, old.kept[1].fd
	d.stop()
	m.keeps(0)
	null := open(t, os.DevNull, 0)
	cases := map[string]func(){
		"connection that has ended": func() { m.keep(name, connection, state) },
		"two states":                func() { m.keep(name, state, state) },
		"one file":                  func() { m.keep(name, connection) },
		"other files":               func() { m.keep(name, null, null) },
		"no state":                  func() { m.keep(name, connection, null) },
		"another store":             func() { m.keep("logfs-mount-1-1", connection, state) },
	}
	for what, give := range cases {
		t.Run(what, func(t *testing.T) {
			m.keep("stored", null) // not ours
			give()
			m.start(d)
			kept := m.keeps(3) // what is not ours, and the new mount
			if kept[0].name != "stored" || kept[1].name != name {
				t.Errorf("the manager keeps %v", kept)
			}
			f := d.feed("web")
			f.upTo(5)
			f.close()
			d.stop()
			f.watch.awaitEnd()
			m.drop(func(string) bool { return true })
			if !strings.Contains(d.log.String(), "is not gone on with") {
				t.Errorf("the daemon does not say that it was given something useless:\n%s", d.log)
			}
		})
	}
}

// The mount of another store is not gone on with, though it is in the same place.
func TestManagerKeepsAnotherStore(t *testing.T) {
	m := newManager(t)
	d := newDaemon(t, "[service.web]\n")
	m.start(d)
	follow := d.shell(t, setting{}, `exec cat "$M/web/follow"`)
	d.awaitReaders("web", 1)
	name := m.keeps(2)[0].name
	m.killAll(d)
	d.store += "2"
	m.start(d)
	if other := m.keeps(2)[0].name; other == name {
		t.Errorf("the mounts of two stores have the name %q", name)
	}
	if follow.wait() == 0 {
		t.Error("the reader of the other store has read on to an end")
	}
	f := d.feed("web")
	f.upTo(5)
	f.close()
	d.stop()
}

// The state of one mount is not taken for that of another's connection.
func TestManagerMixesMountsUp(t *testing.T) {
	m, others := newManager(t), newManager(t)
	d, other := newDaemon(t, "[service.web]\n"), newDaemon(t, "[service.web]\n")
	m.start(d)
	others.start(other)
	f := other.feed("web")
	f.upTo(5)
	state, connection := m.keeps(2)[1], others.keeps(2)[0]
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", connection.fd))
	must(t, err)
	if !strings.Contains(string(info), "fuse_connection:") {
		t.Skip("SKIPPED: this kernel does not tell whose connection a descriptor is")
	}
	mixed := newManager(t)
	mixed.keep(state.name, connection.fd, state.fd)
	m.killAll(d)
	m.drop(func(string) bool { return true })
	mixed.start(d)
	mixed.keeps(2)
	fresh := d.feed("web")
	fresh.upTo(5)
	fresh.close()
	f.upTo(10)
	f.close()
	if !strings.Contains(d.log.String(), "is the connection of device") {
		t.Errorf("the daemon does not say what it was given:\n%s", d.log)
	}
	d.stop()
	other.stop()
}

// awaitHeld waits until the holder of the mount has been told what it is.
func (d *daemon) awaitHeld() {
	d.t.Helper()
	told := fmt.Sprintf("/proc/%d/fd/3", d.mountHolder())
	eventually(d.t, func() string { return "the holder to close " + told },
		func() bool { _, err := os.Readlink(told); return err != nil })
}

// A holder of the mount that has gone is replaced: readers outlive the daemon all
// the same. The daemon says so once.
func TestMountHolderIsReplaced(t *testing.T) {
	d := newDaemon(t, "[service.web]\n")
	const said = "the holder of the mount has ended; another is started"
	d.expectLog(said)
	d.start()
	f := d.feed("web")
	f.upTo(5)
	for range 3 {
		old := d.mountHolder()
		killHolder(t, old)
		eventually(t, func() string { return "another holder" }, func() bool { pid := d.findMountHolder(); return pid != 0 && pid != old })
	}
	if n := strings.Count(d.log.String(), said); n != 1 {
		t.Errorf("the daemon says %d times that the holder has ended:\n%s", n, d.log)
	}
	d.awaitHeld()
	d.kill()
	d.start()
	f.upTo(10)
	f.close()
	d.stop()
	f.watch.awaitEnd()
}
