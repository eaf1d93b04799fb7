package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"logfs/cmd/logfs/internal/config"
)

// A reload is told to the service manager, also one that is refused.
func TestReload(t *testing.T) {
	var log output
	notified := listenNotify(t)
	s := serving{options: options(t, &log), ready: readiness{-1}}
	file := filepath.Join(t.TempDir(), "logfs.toml")
	s.reload = func() (config.Config, error) {
		c, err := config.Load(file, false)
		c.Mount, c.Store, c.Socket = s.options.Config.Mount, s.options.Config.Store, s.options.Config.Socket
		return c, err
	}
	ended := make(chan error, 1)
	go func() { ended <- s.serve() }()
	if got := receive(t, notified); got != "READY=1" {
		t.Errorf("notified %q", got)
	}
	for _, tt := range []struct{ text, want string }{
		{"[service.web]\n[service.db]\n", "READY=1\nSTATUS=configuration reloaded"},
		{"[service.web]\nkeep = 0\n[service.x]\nmin = -1\n", "READY=1\nSTATUS=configuration not reloaded: " +
			file + ":2: service.web.keep: cannot use 0: want a whole number from 1 to 100000; " +
			file + ":4: service.x.min: cannot use -1: want a whole number from 0 to 100000"},
	} {
		must(t, os.WriteFile(file, []byte(tt.text), 0o644))
		must(t, unix.Kill(os.Getpid(), unix.SIGHUP))
		if got := receive(t, notified); !regexp.MustCompile(`^RELOADING=1\nMONOTONIC_USEC=[1-9]\d+$`).MatchString(got) {
			t.Errorf("notified %q", got)
		}
		if got := receive(t, notified); got != tt.want {
			t.Errorf("notified %q, want %q", got, tt.want)
		}
	}
	_, table, _ := logfs("status", "--socket", s.options.Config.Socket)
	if !strings.Contains(table, "web idle") || !strings.Contains(table, "db idle") {
		t.Errorf("status:\n%s", table)
	}
	for _, line := range []string{":2: service.web.keep: cannot use 0", ":4: service.x.min: cannot use -1"} {
		if n := strings.Count(log.String(), line); n != 1 {
			t.Errorf("logged %q %d times, want once:\n%s", line, n, log.String())
		}
	}
	must(t, unix.Kill(os.Getpid(), unix.SIGTERM))
	must(t, receive(t, ended))
}

// Every mistake is said, on a line of its own.
func TestCheckSaysAll(t *testing.T) {
	file := filepath.Join(t.TempDir(), "logfs.toml")
	must(t, os.WriteFile(file, []byte("[service.web]\nkeep = 0\nsise = 1\n[service.db]\nmin = 20\n"), 0o644))
	for _, args := range [][]string{{"check", "--config", file}, {"daemon", "--config", file}} {
		status, stdout, stderr := logfs(args...)
		head := "logfs: " + args[0] + ": " + file
		want := head + ":2: service.web.keep: cannot use 0: want a whole number from 1 to 100000\n" +
			head + ":3: service.web.sise: unknown key: did you mean size?\n" +
			head + ":5: service.db.min: min 20 is more than keep 10: want min of at most keep\n"
		if status != 100 || stdout != "" || stderr != want {
			t.Errorf("%s: status %d, %q\n%swant:\n%s", args[0], status, stdout, stderr, want)
		}
	}
}
