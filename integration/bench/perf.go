package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// A profile is perf, looking at a process. A nil profile is none.
type profile struct{ cmd *exec.Cmd }

// profile has perf look at a daemon, if profiles are wanted.
func (b *bench) profile(pid int) (*profile, error) {
	if b.perf == "" {
		return nil, nil
	}
	name := fmt.Sprintf("%s.%d.data", strings.NewReplacer("/", ".", " ", "_").Replace(b.running), b.dirs)
	p := &profile{exec.Command("perf", "record", "-q", "-g", "-e", "cpu-clock", "-F", "997",
		"-o", filepath.Join(b.perf, name), "-p", fmt.Sprint(pid))}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start perf: %w", err)
	}
	return p, nil
}

// end has perf write what it has seen.
func (p *profile) end() error {
	if p == nil {
		return nil
	}
	_ = p.cmd.Process.Signal(syscall.SIGINT)
	err := p.cmd.Wait()
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGINT {
		return nil // it hands the signal on to itself
	}
	if err != nil {
		err = fmt.Errorf("perf: %w", err)
	}
	return err
}
