package integration

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

const syslogConf = "[service.log]\nsyslog = \"$D/log\"\n" + keepAll + "\n"

// A sender has a connection to the socket, as programs that log have.
type sender struct {
	t    *testing.T
	conn *net.UnixConn
}

func (d *daemon) sender(t *testing.T) sender {
	t.Helper()
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: filepath.Join(d.dir, "log"), Net: "unixgram"})
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	return sender{t, conn}
}

func (s sender) send(text string) {
	s.t.Helper()
	if _, err := s.conn.Write([]byte(text)); err != nil {
		s.t.Fatalf("cannot send %.100q: %v", text, err)
	}
}

// trySend does not wait.
func (s sender) trySend(text string) (err error) {
	raw, cerr := s.conn.SyscallConn()
	must(s.t, cerr)
	must(s.t, raw.Control(func(fd uintptr) {
		err = unix.Sendto(int(fd), []byte(text), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, nil)
	}))
	return err
}

// Programs that log send their messages, which are kept as they come.
func TestSyslogClients(t *testing.T) {
	d := startInputs(t, syslogConf)
	for _, tt := range []struct{ name, tool, script, says, pri string }{
		{"logger", "logger", `logger -u log -t web -p daemon.err "it is late"`, "web: it is late", "27"},
		{"logger with RFC 5424", "logger", `logger -u log --rfc5424 -t web -p local4.notice "it is later"`, "it is later", "165"},
		{"logger with RFC 3164", "logger", `logger -u log --rfc3164 -i -t web "it is noon"`, "it is noon", "13"},
		{"python", "python3", `python3 -c '
import logging, logging.handlers
log = logging.getLogger(); log.addHandler(logging.handlers.SysLogHandler("log", "local0"))
log.error("it is %s", "gone")'`, "<131>it is gone", "131"},
		{"python without NUL", "python3", `python3 -c '
import logging, logging.handlers
h = logging.handlers.SysLogHandler("log"); h.append_nul = False; h.ident = "app: "
log = logging.getLogger(); log.addHandler(h); log.warning("over")'`, "<12>app: over", "12"},
		{"perl", "perl", `perl -MSys::Syslog=:standard,:macros -e '
Sys::Syslog::setlogsock("unix", "log"); openlog("app", "pid", LOG_MAIL); syslog("info", "from perl"); closelog()'`, "from perl", "22"},
		{"a shell and a datagram", "python3", `python3 -c '
import socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.sendto(b"no priority", "log")'`, "no priority", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			needTools(t, tt.tool)
			follow := d.watch("log", "follow")
			d.sh(tt.script)
			follow.await(tt.says + "\n")
			recs := strings.Split(strings.TrimSuffix(d.read("log", "seq"), "\n"), "\n")
			last := recs[len(recs)-1]
			header, text, _ := strings.Cut(last, ";")
			field := ""
			if _, pri, ok := strings.Cut(header, ",pri="); ok {
				field = pri
			}
			if !strings.HasSuffix(text, tt.says) || field != tt.pri {
				t.Errorf("the last record is %q, want priority %q and %q at the end", last, tt.pri, tt.says)
			}
		})
	}
}

// Programs that use syslog(3) find the socket at /dev/log.
func TestSyslogOfTheLibrary(t *testing.T) {
	t.Parallel()
	needTools(t, "python3", "unshare")
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can make a /dev of its own")
	}
	d := startInputs(t, syslogConf)
	d.sh(`exec unshare -m sh -c 'mount -t tmpfs dev /dev && ln -s "$W/log" /dev/log && exec python3 -c "
import syslog
syslog.openlog(\"app\", syslog.LOG_PID, syslog.LOG_LOCAL7)
syslog.syslog(syslog.LOG_DEBUG, \"by the library\")"'`)
	d.watch("log", "follow").await("by the library\n")
	if recs := parseSeq(t, d.read("log", "seq")); !strings.HasPrefix(recs[len(recs)-1].text, "<191>") {
		t.Errorf("the last record is %+v", recs[len(recs)-1])
	}
}

// What messages may hold, and how each file shows it.
func TestSyslogBytes(t *testing.T) {
	t.Parallel()
	d := startInputs(t, "[service.log]\nsyslog = \"$D/log\"\nmarks = false\n")
	s := d.sender(t)
	long := "<14>" + strings.Repeat("0123456789", 15_000)
	for _, text := range []string{"<13>end\n", "<13>end\x00", "<13>two\nlines <14>of one\n\n", "<13>\xff\x1b[2J\t\\", "<13>a\x00b", "",
		long, "<15>last"} {
		s.send(text)
	}
	d.watch("log", "follow").await("<15>last\n")
	equal(t, "current", d.read("log", "current"), "<13>end\n<13>end\n<13>two\\x0alines <14>of one\n<13>\xff\x1b[2J\t\\\n<13>a\\x00b\n\n"+
		long+"\n<15>last\n")
	var shown []string
	for line := range strings.Lines(d.read("log", "seq")) {
		m := seqRecord.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m[6] != "=" {
			shown = append(shown, fmt.Sprintf("%s %.40s", m[6], m[7]))
		}
	}
	want := []string{"o <13>end", "o <13>end", `o <13>two\x5cx0alines <14>of one`, `o <13>\xff\x1b[2J\x09\x5c`, `o <13>a\x00b`, "o ",
		"o+ " + long[:40]}
	for i, w := range want {
		if i >= len(shown) || shown[i] != w {
			t.Errorf("record %d of seq is %q, want %q", i, shown[min(i, len(shown)-1)], w)
		}
	}
	if n := len(shown); n != len(want)+15+1 || shown[n-1] != "o <15>last" {
		t.Errorf("%d records, the last %q", n, shown[n-1])
	}
}

// A flood of messages from several senders: what the kernel has taken is stored,
// once, each sender's in order. It takes only what there is room for, and says so
// to a sender who does not wait.
func TestSyslogFlood(t *testing.T) {
	t.Parallel()
	const senders, each = 4, 25_000
	d := startInputs(t, syslogConf)
	var wait sync.WaitGroup
	sent := make([]int, senders)
	for i := range senders {
		s := d.sender(t)
		wait.Go(func() {
			for n := 1; n <= each; n++ {
				text := fmt.Sprintf("<14>sender %d message %d", i, sent[i]+1)
				if i > 0 { // waits
					if _, err := s.conn.Write([]byte(text)); err != nil {
						t.Error(err)
						return
					}
				} else if err := s.trySend(text); err == unix.EAGAIN {
					continue
				} else if err != nil {
					t.Error(err)
					return
				}
				sent[i]++
			}
		})
	}
	wait.Wait()
	d.stop() // what was sent before is stored
	checkMessages(t, d, sent)
	t.Logf("sent %v of %d each, all stored", sent, each)
}

// checkMessages checks that the files hold so many messages of each sender, in
// order.
func checkMessages(t *testing.T, d *daemon, sent []int) {
	t.Helper()
	got := make([]int, len(sent))
	for line := range strings.Lines(storedLines(t, d.logdir("log"))) {
		var i, n int
		if _, err := fmt.Sscanf(line, "<14>sender %d message %d\n", &i, &n); err != nil || n != got[i]+1 {
			t.Fatalf("after message %d of sender %d came %q", got[i], i, line)
		}
		got[i]++
	}
	for i := range sent {
		if got[i] != sent[i] {
			t.Errorf("%d messages of sender %d are stored, %d were sent", got[i], i, sent[i])
		}
	}
}

// An orderly end of the daemon loses nothing that was sent, and then tells senders
// that nobody is there. A kill leaves a socket that the next daemon replaces.
func TestSyslogRestart(t *testing.T) {
	t.Parallel()
	d := startInputs(t, syslogConf)
	s := d.sender(t)
	var sent int
	var end error
	flood := make(chan struct{})
	flowing := make(chan struct{})
	go func() {
		defer close(flood)
		for ; end == nil; sent++ {
			if sent == 1000 {
				close(flowing)
			}
			_, end = s.conn.Write(fmt.Appendf(nil, "<14>sender 0 message %d", sent+1))
		}
		sent-- // the last was refused
	}()
	<-flowing
	d.stop()
	<-flood
	if !errors.Is(end, unix.EPIPE) && !errors.Is(end, unix.ECONNREFUSED) {
		t.Errorf("a sender is told %v, want that nobody is there", end)
	}
	checkMessages(t, d, []int{sent})
	if _, err := os.Lstat(filepath.Join(d.dir, "log")); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
	d.start()
	d.kill()
	d.start()
	s = d.sender(t)
	s.send(fmt.Sprintf("<14>sender 0 message %d", sent+1))
	d.watch("log", "follow").await(fmt.Sprintf("message %d\n", sent+1))
	d.stop()
	checkMessages(t, d, []int{sent + 1})
}

// What is in the place of an input is left alone.
func TestInputsTakeNothingAway(t *testing.T) {
	t.Parallel()
	live := func(network string) func(path string) func() {
		return func(path string) func() {
			addr := &net.UnixAddr{Name: path, Net: network}
			if network == "unixgram" {
				c, err := net.ListenUnixgram(network, addr)
				must(t, err)
				return func() { c.Close() }
			}
			l, err := net.ListenUnix(network, addr)
			must(t, err)
			return func() { l.Close() }
		}
	}
	link := func(path string) func() {
		must(t, os.Symlink(filepath.Join(filepath.Dir(path), "target"), path))
		return func() {}
	}
	for _, tt := range []struct {
		name, key string
		make      func(path string) func()
		status    int
		says      string
	}{
		{"fifo a file", "fifo", func(p string) func() { must(t, os.WriteFile(p, nil, 0o644)); return func() {} }, misuse, "it is a regular file: want nothing there, or a FIFO"},
		{"fifo a directory", "fifo", func(p string) func() { must(t, os.Mkdir(p, 0o755)); return func() {} }, misuse, "it is a directory: want nothing there, or a FIFO"},
		{"fifo a link", "fifo", link, misuse, "it is a symbolic link: want nothing there, or a FIFO"},
		{"fifo a socket", "fifo", live("unixgram"), misuse, "it is a socket: want nothing there, or a FIFO"},
		{"syslog a file", "syslog", func(p string) func() { must(t, os.WriteFile(p, nil, 0o644)); return func() {} }, misuse, "it is a regular file: want nothing there, or a socket that nobody reads"},
		{"syslog a link", "syslog", link, misuse, "it is a symbolic link: want nothing there, or a socket that nobody reads"},
		{"syslog a FIFO", "syslog", func(p string) func() { must(t, unix.Mkfifo(p, 0o600)); return func() {} }, misuse, "it is a FIFO: want nothing there, or a socket that nobody reads"},
		{"syslog in use", "syslog", live("unixgram"), refused, "it is in use: another process reads that socket"},
		{"syslog a stream socket in use", "syslog", live("unix"), refused, "it is in use: another process reads that socket"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newInputs(t, "[service.web]\n"+tt.key+" = \"$D/input\"\n")
			path := filepath.Join(d.dir, "input")
			defer tt.make(path)()
			before := described(t, path)
			mistake{args: d.daemonArgs(), status: tt.status,
				says: []string{"cannot use " + tt.key + ` "$D/input" of service "web": ` + tt.says}}.try(t, d.dir)
			if after := described(t, path); after != before {
				t.Errorf("it is %s now, was %s", after, before)
			}
			if _, err := os.Lstat(filepath.Join(d.dir, "target")); err == nil {
				t.Error("the link was followed")
			}
		})
	}
}

// A FIFO that one daemon reads is not read by another.
func TestFifoHasOneReader(t *testing.T) {
	t.Parallel()
	d := startInputs(t, "[service.web]\nfifo = \"$D/web\"\n")
	holdersOf(t, d, "web")
	other := newDaemon(t, "[service.web]\nfifo = \""+filepath.Join(d.dir, "web")+"\"\n")
	other.expectLog("another daemon reads it")
	other.start()
	other.awaitLog("another daemon reads it")
	d.sh(`echo mine >web`)
	d.watch("web", "follow").await("mine\n")
}
