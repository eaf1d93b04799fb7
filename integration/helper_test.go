package integration

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// helpers are the roles in which the test binary runs itself again, chosen by
// LOGFS_TEST_HELPER.
var helpers = map[string]func(args []string) int{
	"read":      readAll,
	"deadlines": readWithDeadlines,
	"emit":      emitLines,
	"alternate": alternate,
	"baddisk":   serveBadDisk,
	"all":       readAllFollow,
}

// emitLines is a service: it writes the numbered lines up to args[0], ten at a
// time with a pause of args[1] between, and notes in the file args[2], if there
// is one, how many it has written. With args[3] it stays when it has written all.
func emitLines(args []string) int {
	var last, pause int
	fmt.Sscan(args[0], &last)
	fmt.Sscan(args[1], &pause)
	var note *os.File
	if len(args) > 2 {
		var err error
		if note, err = os.OpenFile(args[2], os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644); err != nil {
			return fail(err)
		}
	}
	for n := 0; n < last; n += 10 {
		if _, err := os.Stdout.WriteString(numberedRun(n+1, n+10)); err != nil {
			return fail(err)
		}
		if note != nil {
			_, _ = note.WriteAt(fmt.Appendf(nil, "%d", n+10), 0)
		}
		time.Sleep(time.Duration(pause) * time.Microsecond)
	}
	if len(args) > 3 {
		time.Sleep(time.Hour)
	}
	return 0
}

// readAll copies a file to standard output.
func readAll(args []string) int {
	f, err := os.Open(args[0])
	if err == nil {
		_, err = io.Copy(onlyWriter{os.Stdout}, f)
	}
	if err != nil {
		return fail(err)
	}
	return 0
}

// onlyWriter keeps io.Copy from calls that work on two files.
type onlyWriter struct{ io.Writer }

// readWithDeadlines copies a file to standard output with reads that give up
// after 50 ms, as a Go program does that has other things to do meanwhile.
func readWithDeadlines(args []string) int {
	f, err := os.Open(args[0])
	if err != nil {
		return fail(err)
	}
	buf := make([]byte, 32<<10)
	for {
		if err := f.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			return fail(err)
		}
		n, err := f.Read(buf)
		os.Stdout.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			return 0
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return fail(err)
		}
	}
}

// readAllFollow reads lines of many services that hold a number and the time of
// their writing, and prints service, number and the nanoseconds that it took.
func readAllFollow(args []string) int {
	fd, err := unix.Open(args[0], unix.O_RDONLY, 0)
	if err != nil {
		return fail(err)
	}
	out := bufio.NewWriter(os.Stdout)
	buf, rest := make([]byte, 128<<10), ""
	for {
		n, err := unix.Read(fd, buf)
		now := monotonic()
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return 0
		}
		rest += string(buf[:n])
		for line, more, ok := strings.Cut(rest, "\n"); ok; line, more, ok = strings.Cut(rest, "\n") {
			rest = more
			f := strings.Fields(line)
			if len(f) != 6 || f[2] != "line" {
				continue // a mark
			}
			sent, _ := strconv.ParseInt(f[5], 10, 64)
			fmt.Fprintln(out, f[0], f[3], now-sent)
		}
		if out.Flush() != nil {
			return 0
		}
	}
}

// monotonic is a time that processes of one machine agree on.
func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return ts.Nano()
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 3
}
