package daemon

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"logfs/cmd/logfs/internal/config"
	"logfs/cmd/logfs/internal/exit"
)

func TestCheckPlaces(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"m", "full/x", "store/in"} {
		must(t, os.MkdirAll(at(name), 0o755))
	}
	must(t, os.WriteFile(at("file"), nil, 0o644))
	must(t, os.Symlink(at("m"), at("link")))
	must(t, os.Symlink(at("store"), at("storelink")))
	tests := []struct {
		name                         string
		mount, store, socket, config string
		mayMake                      bool
		want                         string // part of the error; empty: none
	}{
		{name: "all well", mount: "m", store: "store", socket: "sock"},
		{name: "store yet to be made", mount: "m", store: "a/b/c", socket: "a/b/sock"},
		{name: "a link to the mount point", mount: "link", store: "store"},
		{name: "missing", mount: "none", store: "store", want: "does not exist"},
		{name: "missing, to be made", mount: "none/x", store: "store", mayMake: true},
		{name: "a file", mount: "file", store: "store", want: "is no directory"},
		{name: "not empty", mount: "full", store: "store", want: "is not empty"},
		{name: "inside the store", mount: "store/in", store: "store", want: "overlap"},
		{name: "inside the store by a link", mount: "store/in", store: "storelink", want: "overlap"},
		{name: "the store inside it", mount: "m", store: "m/store", want: "overlap"},
		{name: "the store inside it by a link", mount: "m", store: "link/store", want: "overlap"},
		{name: "the socket inside it by a link", mount: "m", store: "store", socket: "link/sock", want: "overlap"},
		{name: "the configuration inside it", mount: "m", store: "store", config: "link/logfs.toml", want: "is inside the mount point"},
	}
	for _, tt := range tests {
		c := config.Config{Mount: at(tt.mount), Store: at(tt.store)}
		if tt.socket != "" {
			c.Socket = at(tt.socket)
		}
		if tt.config != "" {
			c.Files = []string{at(tt.config)}
		}
		err := checkPlaces(c, tt.mayMake)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case tt.want != "" && (exit.Status(err) != exit.Misuse || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, want misuse: %s", tt.name, err, tt.want)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 6 {
		t.Errorf("the check has changed something: %v", entries)
	}
}

func TestOpenWithAWrongMountPointChangesNothing(t *testing.T) {
	o := newOptions(t)
	must(t, os.Remove(o.Config.Mount))
	if _, err := Open(o); exit.Status(err) != exit.Misuse {
		t.Errorf("Open: %v, want misuse", err)
	}
	if _, err := os.Stat(o.Config.Store); err == nil {
		t.Error("the store was made")
	}
}

func TestOneDaemonOfAStore(t *testing.T) {
	o := newOptions(t)
	dt := openDaemon(t, o)
	_, err := Open(o)
	if want := "pid " + strconv.Itoa(os.Getpid()); exit.Status(err) != exit.Refused || !strings.Contains(err.Error(), want) {
		t.Errorf("second daemon: %v, want it refused, naming %s", err, want)
	}
	dt.end(t, nil)
	openDaemon(t, o)
}

func TestLogInUseElsewhere(t *testing.T) {
	o := newOptions(t, config.Service{Name: "web"})
	openDaemon(t, o)
	o.Share = true
	o.Config.Mount = t.TempDir()
	_, err := Open(o)
	if exit.Status(err) != exit.Refused || !strings.Contains(err.Error(), `service "web"`) {
		t.Errorf("a second owner of the log: %v, want it refused", err)
	}
}

// The content of the lock is replaced, so it must be nobody else's.
func TestLockOfTheStoreElsewhere(t *testing.T) {
	store, outside := t.TempDir(), filepath.Join(t.TempDir(), "outside")
	must(t, os.WriteFile(outside, []byte("precious\n"), 0o600))
	must(t, os.Link(outside, filepath.Join(store, lockName)))
	if _, err := lockStore(store); exit.Status(err) != exit.Refused {
		t.Errorf("a lock that is a hard link: %v, want it refused", err)
	}
	if b, _ := os.ReadFile(outside); string(b) != "precious\n" {
		t.Errorf("the file outside holds %q", b)
	}
}
