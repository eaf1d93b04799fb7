package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A daemon is one logfs daemon with its mount.
type daemon struct {
	b             *bench
	cmd           *exec.Cmd
	log           bytes.Buffer // read when it has ended
	mount, socket string
	pids          []int // its own and that of the holder of its mount
	perf          *profile
}

// startDaemon starts a daemon and returns when its mount serves.
func (b *bench) startDaemon(conf string) (*daemon, error) {
	dir, err := b.newDir()
	if err != nil {
		return nil, err
	}
	d := &daemon{b: b, mount: filepath.Join(dir, "mount"), socket: filepath.Join(dir, "socket")}
	file := filepath.Join(dir, "logfs.toml")
	if err := errors.Join(os.Mkdir(d.mount, 0o755), os.WriteFile(file, []byte(conf), 0o644)); err != nil {
		return nil, fmt.Errorf("cannot prepare a daemon: %w", err)
	}
	ready, w, err := pipe()
	if err != nil {
		return nil, err
	}
	defer ready.Close()
	mark := fmt.Sprintf("LOGFS_BENCH=%d.%s", os.Getpid(), filepath.Base(dir))
	d.cmd = exec.Command(b.logfs, "daemon", "--ready-fd", "3", "--config", file,
		"--mount", d.mount, "--store", filepath.Join(dir, "store"), "--socket", d.socket)
	d.cmd.Env, d.cmd.Stderr, d.cmd.ExtraFiles = append(os.Environ(), mark), &d.log, []*os.File{w}
	if err := d.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start the daemon: %w", err), w.Close())
	}
	w.Close()
	if said, _ := io.ReadAll(ready); string(said) != "\n" {
		return nil, errors.Join(fmt.Errorf("the daemon is not ready"), d.end())
	}
	if d.pids = processesWith(mark); !slices.Contains(d.pids, d.cmd.Process.Pid) {
		return nil, errors.Join(fmt.Errorf("cannot find the processes of the daemon"), d.end())
	}
	if d.perf, err = b.profile(d.cmd.Process.Pid); err != nil {
		return nil, errors.Join(err, d.end())
	}
	return d, nil
}

// path is a file of a service.
func (d *daemon) path(service int, elem ...string) string {
	return filepath.Join(append([]string{d.mount, serviceName(service)}, elem...)...)
}

// command runs a logfs command for this daemon.
func (d *daemon) command(args ...string) error {
	cmd := exec.Command(d.b.logfs, append(args, "--socket", d.socket)...)
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("logfs %s: %w: %s", args[0], err, said)
	}
	return nil
}

// status returns a field of all services, by the name the first line has for it.
func (d *daemon) status(name string) (map[string]string, error) {
	text, err := os.ReadFile(filepath.Join(d.mount, "status"))
	if err != nil {
		return nil, fmt.Errorf("cannot read the status: %w", err)
	}
	return column(string(text), name)
}

// column returns a field of a table whose first line has the names of the fields,
// by the first field of each line.
func column(table, name string) (map[string]string, error) {
	head, rest, _ := strings.Cut(table, "\n")
	at := slices.Index(strings.Fields(head), name)
	if at < 0 {
		return nil, fmt.Errorf("cannot find %s in %q", name, head)
	}
	fields := map[string]string{}
	for line := range strings.Lines(rest) {
		if words := strings.Fields(line); at < len(words) {
			fields[words[0]] = words[at]
		}
	}
	return fields, nil
}

// number is a field of the status of one service.
func (d *daemon) number(service int, name string) (int, error) {
	all, err := d.status(name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(all[serviceName(service)])
}

func (d *daemon) awaitRunning(services int) error {
	return d.b.await("the services to run", func() (bool, error) {
		states, err := d.status("STATE")
		for i := range services {
			if states[serviceName(i)] != "running" {
				return false, errors.Join(err, d.b.pause(10*time.Millisecond))
			}
		}
		return true, err
	})
}

// awaitReaders waits until so many readers have follow of service 0 open.
func (d *daemon) awaitReaders(want int) error {
	return d.b.await(fmt.Sprintf("%d readers", want), func() (bool, error) {
		n, err := d.number(0, "READERS")
		if n == want || err != nil {
			return true, err
		}
		return false, d.b.pause(10 * time.Millisecond)
	})
}

// end ends the daemon in order, or else by force, and says what went wrong in its
// life.
func (d *daemon) end() error {
	perr := d.perf.end()
	_ = d.cmd.Process.Signal(unix.SIGTERM)
	late := time.AfterFunc(patience, func() { _ = d.cmd.Process.Kill() })
	defer late.Stop()
	err := d.cmd.Wait()
	if err != nil || bytes.Contains(d.log.Bytes(), []byte("level=ERROR")) {
		_ = unix.Unmount(d.mount, unix.MNT_DETACH)
		return errors.Join(perr, fmt.Errorf("the daemon ended with %v, and said:\n%s", d.cmd.ProcessState, d.log.Bytes()))
	}
	for line := range bytes.Lines(d.log.Bytes()) {
		if bytes.Contains(line, []byte("level=WARN")) {
			d.b.say("  the daemon warned: %s", bytes.TrimSpace(line))
		}
	}
	return perr
}
