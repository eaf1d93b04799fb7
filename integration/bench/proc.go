package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cpu is the processor time that a process has used, threads that have ended
// included.
func cpu(pid int) (time.Duration, error) {
	const perProcess = 2 // as clock_getcpuclockid(3) makes the number of the clock
	var used unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|perProcess), &used); err != nil {
		return 0, fmt.Errorf("cannot read the clock of process %d: %w", pid, err)
	}
	return time.Duration(used.Nano()), nil
}

// A meter is what processes have used.
type meter struct {
	cpu      time.Duration
	switches int64 // of threads, those that have ended not included
}

func read(pids []int) (sum meter, err error) {
	for _, pid := range pids {
		used, cerr := cpu(pid)
		switches, serr := switchesOf(pid)
		err = errors.Join(err, cerr, serr)
		sum.cpu += used
		sum.switches += switches
	}
	return sum, err
}

func switchesOf(pid int) (sum int64, err error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, thread := range threads {
		text, rerr := os.ReadFile(thread)
		if errors.Is(rerr, unix.ENOENT) || errors.Is(rerr, unix.ESRCH) { // it has ended
			continue
		}
		for _, key := range []string{"voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"} {
			n, ferr := field(text, key)
			err = errors.Join(err, rerr, ferr)
			sum += n
		}
	}
	return sum, err
}

// field returns the number behind a key of /proc/PID/status and its like.
func field(text []byte, key string) (int64, error) {
	for line := range bytes.Lines(text) {
		if rest, ok := bytes.CutPrefix(line, []byte(key+":")); ok {
			words := strings.Fields(string(rest))
			if len(words) == 0 {
				break
			}
			return strconv.ParseInt(words[0], 10, 64)
		}
	}
	return 0, fmt.Errorf("cannot find %q in %q", key, text[:min(len(text), 200)])
}

// memory reads a file of a process for a number of KiB and returns it in MiB.
func memory(pid int, file, key string) (mib float64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return 0, fmt.Errorf("cannot read the memory of process %d: %w", pid, err)
	}
	kib, err := field(text, key)
	return float64(kib) / 1024, err
}

// resident is what a process has in memory now, peak what it had at most.
func resident(pid int) (mib float64, err error) { return memory(pid, "status", "VmRSS") }
func peak(pid int) (mib float64, err error)     { return memory(pid, "status", "VmHWM") }

// share is what processes have in memory together; what several of them have is
// counted once.
func share(pids []int) (mib float64, err error) {
	for _, pid := range pids {
		one, perr := memory(pid, "smaps_rollup", "Pss")
		err = errors.Join(err, perr)
		mib += one
	}
	return mib, err
}

// processesWith lists the processes whose environment has entry.
func processesWith(entry string) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range files {
		env, _ := os.ReadFile(file)
		for e := range bytes.SplitSeq(env, []byte{0}) {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil && string(e) == entry {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// busy reads from the text of /proc/stat for how many seconds the processors of
// the machine have worked, and for how many they were not given to it.
func busy(stat []byte) (worked, stolen float64, err error) {
	const ticks = 100 // a second, in /proc
	line, _, _ := bytes.Cut(stat, []byte{'\n'})
	words := strings.Fields(string(line))
	if len(words) < 9 || words[0] != "cpu" {
		return 0, 0, fmt.Errorf("cannot understand %q of /proc/stat", line)
	}
	for i, word := range words[1:9] {
		n, err := strconv.ParseFloat(word, 64)
		switch {
		case err != nil:
			return 0, 0, fmt.Errorf("cannot understand %q of /proc/stat: %w", line, err)
		case i == 7:
			stolen = n / ticks
		case i != 3 && i != 4: // idle, and waiting for a disk
			worked += n / ticks
		}
	}
	return worked, stolen, nil
}
