package config

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// files writes a tree of files and returns its directory.
func files(t testing.TB, tree map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range tree {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// load loads a main file and fragments, given as "conf.d/NAME".
func load(t testing.TB, text string, fragments map[string]string) (Config, string, error) {
	t.Helper()
	tree := map[string]string{"logfs.toml": text}
	for name, text := range fragments {
		tree[name] = text
	}
	dir := files(t, tree)
	c, err := Load(filepath.Join(dir, "logfs.toml"), false)
	return c, dir, err
}

// service is the built-in service with some fields changed.
func service(name string, change func(*Service)) Service {
	s := Default().Defaults
	s.Name = name
	if change != nil {
		change(&s)
	}
	return s
}

func TestLoadServices(t *testing.T) {
	tests := []struct {
		name      string
		text      string
		fragments map[string]string
		want      []Service
	}{
		{"empty file", "", nil, nil},
		{"nothing but comments", "# logfs\n\n", nil, nil},
		{"byte order mark and CR LF", "\xef\xbb\xbf[service.web]\r\nkeep = 3\r\n", nil,
			[]Service{service("web", func(s *Service) { s.Keep = 3 })}},
		{"services without settings, sorted", "[service.web]\n[service.api]\n", nil,
			[]Service{service("api", nil), service("web", nil)}},
		{"every key", `
[service.web]
ring-lines = 500
ring-bytes = "1GiB"
size = "10MB"
rotate = "daily"
keep = 3
total = "1GB"
age = "1d12h"
min = 0
compress = "zstd"
full = "block"
line-limit = 128
sync = "250ms"
marks = false
owner = "root"
group = "root"
mode = "0711"
command = "cd src && make"
dir = "/srv/web/"
env = { PORT = "8080", A = "b=c" }
user = "0"
restart = "on-failure"
backoff = "2s"
backoff-max = "1h30m"
`, nil, []Service{{
			Name: "web", RingLines: 500, RingBytes: 1 << 30, Size: 10_000_000, Rotate: Daily,
			Keep: 3, Total: 1e9, Age: 36 * time.Hour, Compress: Zstd, Full: Block, LineLimit: 128,
			Sync: 250 * time.Millisecond, Owner: "root", Group: "root", Mode: 0o711, ModeSet: true,
			Command: []string{"/bin/sh", "-c", "cd src && make"}, Dir: "/srv/web",
			Env: []string{"A=b=c", "PORT=8080"}, User: "0", Restart: OnFailure,
			Backoff: 2 * time.Second, BackoffMax: 90 * time.Minute}}},
		{"defaults after the service, array command",
			"[service.web]\ncommand = [\"/bin/echo\", \"\", \"a b\"]\nkeep = 7\n[defaults]\nkeep = 5\nsize = 65536\nrestart = \"never\"\n", nil,
			[]Service{service("web", func(s *Service) {
				s.Command, s.Keep, s.Size, s.Restart = []string{"/bin/echo", "", "a b"}, 7, 65536, Never
			})}},
		{"env of the service over env of the defaults",
			"[defaults.env]\nA = \"1\"\nB = \"2\"\n[service.web]\ncommand = \"x\"\nenv.B = \"3\"\nenv.C = \"\"\n[service.api]\n", nil,
			[]Service{
				service("api", func(s *Service) { s.Env = []string{"A=1", "B=2"} }),
				service("web", func(s *Service) {
					s.Command, s.Env = shell("x"), []string{"A=1", "B=3", "C="}
				})}},
		{"dotted and quoted names", "service.web.keep = 1\nservice.\"a.b@c:1\".keep = 2\n", nil,
			[]Service{
				service("a.b@c:1", func(s *Service) { s.Keep = 2 }),
				service("web", func(s *Service) { s.Keep = 1 })}},
		{"fragments take the defaults of the main file", "[defaults]\nkeep = 2\n[service.m]\n",
			map[string]string{
				"conf.d/20-b.toml": "[service.b]\n", "conf.d/10-c.toml": "[service.c]\nkeep = 9\n",
				"conf.d/.hidden.toml": "nonsense", "conf.d/old.toml.bak": "nonsense"},
			[]Service{
				service("b", func(s *Service) { s.Keep = 2 }),
				service("c", func(s *Service) { s.Keep = 9 }),
				service("m", func(s *Service) { s.Keep = 2 })}},
		{"sizes in every unit", `
[service.a]
size = "65536"
[service.b]
size = "65536B"
[service.c]
size = "64kB"
[service.d]
size = "1TiB"
`, nil, []Service{
			service("a", func(s *Service) { s.Size = 65536 }),
			service("b", func(s *Service) { s.Size = 65536 }),
			service("c", func(s *Service) { s.Size = 64000 }),
			service("d", func(s *Service) { s.Size = 1 << 40 })}},
		{"ages and no limits", `
[defaults]
total = "1MiB"
age = "7d"
[service.a]
[service.b]
age = "90m"
total = 0
[service.c]
age = 0
size = "1MiB"
[service.d]
age = "10000d"
`, nil, []Service{
			service("a", func(s *Service) { s.Total, s.Age = 1<<20, 7*24*time.Hour }),
			service("b", func(s *Service) { s.Age = 90 * time.Minute }),
			service("c", func(s *Service) { s.Total = 1 << 20 }),
			service("d", func(s *Service) { s.Total, s.Age = 1<<20, 10_000*24*time.Hour })}},
		{"limits that are just possible",
			"[service.a]\nline-limit = \"64KiB\"\nring-bytes = \"256KiB\"\nmode = \"000\"\n[service.b]\ncommand = \"x\"\nbackoff = \"1m\"\n", nil,
			[]Service{
				service("a", func(s *Service) { s.LineLimit, s.RingBytes, s.Mode, s.ModeSet = 65536, 262144, 0, true }),
				service("b", func(s *Service) { s.Command, s.Backoff = shell("x"), time.Minute })}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, _, err := load(t, tt.text, tt.fragments)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(c.Services, tt.want) {
				t.Errorf("got  %+v\nwant %+v", c.Services, tt.want)
			}
		})
	}
}

func TestLoadTop(t *testing.T) {
	c, dir, err := load(t, "mount = \"/m/./logs/\"\nstore = \"/s\"\nsocket = \"/s/control\"\nlist-follow = false\n",
		map[string]string{"conf.d/b.toml": "", "conf.d/a.toml": ""})
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Mount, want.Store, want.Socket, want.ListFollow = "/m/logs", "/s", "/s/control", false
	want.Files = []string{dir + "/logfs.toml", dir + "/conf.d/a.toml", dir + "/conf.d/b.toml"}
	want.lines = map[string]int{"mount": 1, "store": 2, "socket": 3, "list-follow": 4}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

func TestLoadOptional(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{"", dir + "/none.toml", dir + "/no/dir.toml"} {
		c, err := Load(path, true)
		if err != nil || !reflect.DeepEqual(c, Default()) {
			t.Errorf("Load(%q, optional) = %+v, %v; want Default()", path, c, err)
		}
		if _, err := Load(path, false); err == nil {
			t.Errorf("Load(%q) found a file", path)
		}
	}
	dir = files(t, map[string]string{"conf.d/a.toml": "[service.web]\n"})
	c, err := Load(dir+"/logfs.toml", true)
	if err != nil || len(c.Services) != 1 || !slices.Equal(c.Files, []string{dir + "/conf.d/a.toml"}) {
		t.Errorf("fragments without a main file: %+v, %v", c, err)
	}
}

func TestDefaultPaths(t *testing.T) {
	tests := []struct {
		name                        string
		uid                         int
		env                         map[string]string
		mount, store, socket, where string
	}{
		{"root ignores the environment", 0, map[string]string{"HOME": "/root", "XDG_RUNTIME_DIR": "/x"},
			"/mnt/logs", "/var/log/logfs", "/run/logfs/control", "/etc/logfs/logfs.toml"},
		{"user", 1000, map[string]string{"HOME": "/home/u", "XDG_RUNTIME_DIR": "/run/user/1000"},
			"/run/user/1000/logfs", "/home/u/.local/state/logfs", "/run/user/1000/logfs.control", "/home/u/.config/logfs/logfs.toml"},
		{"user with all set", 1000, map[string]string{"HOME": "/h", "XDG_RUNTIME_DIR": "/r", "XDG_STATE_HOME": "/s", "XDG_CONFIG_HOME": "/c"},
			"/r/logfs", "/s/logfs", "/r/logfs.control", "/c/logfs/logfs.toml"},
		{"relative counts as unset", 1000, map[string]string{"HOME": "h", "XDG_RUNTIME_DIR": "r", "XDG_STATE_HOME": "s"}, "", "", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			getenv := func(name string) string { return tt.env[name] }
			c := builtin(tt.uid, getenv)
			got := []string{c.Mount, c.Store, c.Socket, configPath(tt.uid, getenv)}
			if want := []string{tt.mount, tt.store, tt.socket, tt.where}; !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestDefaultService(t *testing.T) {
	want := Service{
		RingLines: 10000, RingBytes: 4 << 20, Size: 1 << 20, Keep: 10, LineLimit: 10000, Sync: time.Second,
		Rotate: None, Min: 2, Compress: None, Full: Drop,
		Marks: true, Mode: 0o750, Restart: Always, Backoff: time.Second, BackoffMax: time.Minute,
	}
	c := builtin(0, os.Getenv)
	if !reflect.DeepEqual(c.Defaults, want) || !c.ListFollow {
		t.Errorf("got %+v", c)
	}
}

// Every key is described, and what its description says of the default is true.
func TestKeys(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range Keys {
		if k.Name == "" || k.Type == "" || k.Meaning == "" || k.Accepted == "" || k.set == nil {
			t.Errorf("%q is incomplete: %+v", k.Name, k)
		}
		if seen[k.Name] {
			t.Errorf("%q is there twice", k.Name)
		}
		seen[k.Name] = true
		for _, text := range []string{k.Default, k.Meaning, k.Accepted} {
			if strings.ContainsAny(text, "\n|") || strings.HasSuffix(text, ".") {
				t.Errorf("%s: %q does not fit a table or a sentence", k.Name, text)
			}
		}
	}
	// Writing every default out changes nothing.
	var doc strings.Builder
	for _, place := range []Place{Top, Table} {
		if place == Table {
			doc.WriteString("[defaults]\n")
		}
		for _, k := range keysAt(place) {
			if k.Default != "" {
				doc.WriteString(k.Name + " = " + k.Default + "\n")
			}
		}
	}
	c, _, err := load(t, doc.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := builtin(0, os.Getenv)
	want.Files, want.lines, want.Defaults.ModeSet = c.Files, c.lines, true
	if !reflect.DeepEqual(c, want) {
		t.Errorf("defaults written out:\ngot  %+v\nwant %+v", c, want)
	}
}

func TestCheckPaths(t *testing.T) {
	tests := []struct{ mount, store, socket, want string }{
		{"/m", "/s", "/s/control", ""},
		{"/m", "/mm", "/m.control", ""},
		{"/m", "/s", "", `socket: cannot use "": want an absolute path`},
		{"m", "/s", "/c", `mount: cannot use "m": want an absolute path`},
		{"/m", "/m/", "/c", `mount: mount "/m" and store "/m/" overlap: want two directories, neither inside the other`},
		{"/", "/s", "/c", `mount: mount "/" and store "/s" overlap: want two directories, neither inside the other`},
		{"/s/m", "/s", "/c", `mount: mount "/s/m" and store "/s" overlap: want two directories, neither inside the other`},
		{"/m", "/s", "/m/c", `socket: socket "/m/c" and mount "/m" overlap: want a socket outside the mount`},
		{"/m", "/s", "/s", `socket: socket "/s" is in the place of store "/s": want a file`},
	}
	for _, tt := range tests {
		got := ""
		if err := (Config{Mount: tt.mount, Store: tt.store, Socket: tt.socket}).CheckPaths(); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%q %q %q: got %q, want %q", tt.mount, tt.store, tt.socket, got, tt.want)
		}
	}
}

func TestCheckName(t *testing.T) {
	const accepted = `want a letter or digit, then up to 99 of letters, digits and "._@:-"`
	long := strings.Repeat("a", 100)
	for _, name := range []string{"a", "0", "web", "All", "Web-1.2_x@y:z", "all2", long} {
		if err := CheckName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for name, want := range map[string]string{
		"":         `cannot use name "": ` + accepted,
		".":        `cannot use name ".": ` + accepted,
		"..":       `cannot use name "..": ` + accepted,
		"-x":       `cannot use name "-x": ` + accepted,
		"a/b":      `cannot use name "a/b": ` + accepted,
		"a b":      `cannot use name "a b": ` + accepted,
		"a\x1b[m":  `cannot use name "a\x1b[m": ` + accepted,
		"ü":        `cannot use name "ü": ` + accepted,
		"all":      `cannot use name "all": it is reserved; ` + accepted,
		"status":   `cannot use name "status": it is reserved; ` + accepted,
		long + "a": `cannot use name "` + long + `a": ` + accepted,
	} {
		if err := CheckName(name); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", name, err, want)
		}
	}
}
