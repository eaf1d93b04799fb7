package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		exit(play(role))
	}
	os.Exit(m.Run())
}

// The command measures, says what it has measured, and leaves nothing behind.
func TestQuickRun(t *testing.T) {
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("SKIPPED: no /dev/fuse")
	}
	dir, out := t.TempDir(), filepath.Join(t.TempDir(), "docs")
	err := run(t.Context(), []string{"--quick", "--dir", dir, "--out", out,
		"--only", "Capture/100 B, bulk|Many services/1 × 10000|From write to read/500|Reading|Memory/1000 "})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(out, "bench.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"100 B, bulk", "1 × 10000 lines/s", "500 lines/s, 1 reader", "read", "1000 blocked readers"} {
		if !hasFigures(string(text), want) {
			t.Errorf("no figures of %q in\n%s", want, text)
		}
	}
	if plot, err := os.ReadFile(filepath.Join(out, "bench.svg")); err != nil || !strings.Contains(string(plot), "<path") {
		t.Errorf("the plot has no bar, %v:\n%s", err, plot)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(mounts), dir) {
		t.Errorf("a mount under %s is left, %v", dir, err)
	}
	for _, p := range processesUnder(dir) {
		t.Errorf("left behind: process %s", p)
	}
}

// hasFigures looks for the row of the first contestant of a scenario, and whether
// it has a number that is not 0.
func hasFigures(text, scenario string) bool {
	for line := range strings.Lines(text) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || strings.TrimSpace(cells[1]) != scenario {
			continue
		}
		for _, cell := range cells[3:] {
			var v float64
			if n, _ := fmt.Sscan(cell, &v); n == 1 && v > 0 {
				return true
			}
		}
	}
	return false
}

// processesUnder lists the processes whose command lines name a file under dir.
func processesUnder(dir string) (found []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		if text, _ := os.ReadFile(file); strings.Contains(string(text), dir+"/") {
			found = append(found, file+": "+strings.ReplaceAll(string(text), "\x00", " "))
		}
	}
	return found
}

// What was not asked for in a way that can be understood is refused.
func TestFlags(t *testing.T) {
	for _, bad := range []string{"--runs=0", "--size=0", "--window=1us", "--only=(", "more", "--what"} {
		if o, _, err := parse([]string{bad}); err == nil {
			t.Errorf("%s is taken for %+v", bad, o)
		}
	}
	o, out, err := parse([]string{"--quick", "--out", "docs"})
	if err != nil || o.runs != 1 || o.size >= 128 || out != "docs" {
		t.Errorf("--quick --out docs is %+v, %q, %v", o, out, err)
	}
}
