package config

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestLoadProcfile(t *testing.T) {
	proc := func(name, cmd string) Service {
		return service(name, func(s *Service) { s.Command, s.Restart = []string{"/bin/sh", "-c", cmd}, Never })
	}
	tests := []struct {
		name, text string
		want       []Service
	}{
		{"one", "web: bundle exec rails server", []Service{proc("web", "bundle exec rails server")}},
		{"sorted", "web: a\napi: b\n", []Service{proc("api", "b"), proc("web", "a")}},
		{"comments and blank lines", "# web: x\n\n \t\n  # y\nweb: a # b\n", []Service{proc("web", "a # b")}},
		{"CR LF and byte order mark", "\xef\xbb\xbfweb: a\r\n\r\napi: b\r\n", []Service{proc("api", "b"), proc("web", "a")}},
		{"blanks around", "\tweb :  a  b \n", []Service{proc("web", "a  b")}},
		{"no blank", "web:a\n", []Service{proc("web", "a")}},
		{"colons in the command", "web: a:b http://c\n", []Service{proc("web", "a:b http://c")}},
		{"shell syntax", "web: cd x && PORT=$P exec y | z 'q'\n", []Service{proc("web", "cd x && PORT=$P exec y | z 'q'")}},
		{"invalid UTF-8 in the command", "web: printf \xff\n", []Service{proc("web", "printf \xff")}},
		{"every character of a name but the colon", "A.b_c@d-1: x\n", []Service{proc("A.b_c@d-1", "x")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(files(t, map[string]string{"Procfile": tt.text, ".env": "A=1\n"}), "Procfile")
			c, err := LoadProcfile(path)
			if err != nil {
				t.Fatal(err)
			}
			want := Default()
			want.Services, want.Files = tt.want, []string{path}
			if !reflect.DeepEqual(c, want) {
				t.Errorf("got  %+v\nwant %+v", c, want)
			}
		})
	}
}

func TestLoadProcfileErrors(t *testing.T) {
	const names = `want a letter or digit, then up to 99 of letters, digits and "._@:-"`
	tests := []struct{ name, text, want string }{
		{"empty", "", "Procfile: no services: want lines NAME: COMMAND"},
		{"comments only", "# web: x\n", "Procfile: no services: want lines NAME: COMMAND"},
		{"no colon", "# x\nweb\n", `Procfile:2: cannot use "web": want NAME: COMMAND`},
		{"no command", "web:\n", `Procfile:1: web: cannot use "": want a command line for /bin/sh`},
		{"blank command", "web: \r\n", `Procfile:1: web: cannot use "": want a command line for /bin/sh`},
		{"NUL", "web: a\x00b\n", `Procfile:1: web: cannot use "a\x00b": want a command line for /bin/sh`},
		{"no name", ": x\n", `Procfile:1: cannot use name "": ` + names},
		{"bad name", "a: x\n\nb c: x\n", `Procfile:3: cannot use name "b c": ` + names},
		{"reserved", "all: x\n", `Procfile:1: cannot use name "all": it is reserved; ` + names},
		{"twice", "web: x\napi: x\nweb: y\n", "Procfile:3: web: already defined at line 1: want each service once"},
		{"first by line", "web\n: x\n", `Procfile:1: cannot use "web": want NAME: COMMAND`},
		{"TOML", "[service.web]\n", `Procfile:1: cannot use "[service.web]": want NAME: COMMAND`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := files(t, map[string]string{"Procfile": tt.text})
			_, err := LoadProcfile(filepath.Join(dir, "Procfile"))
			if err == nil {
				t.Fatal("no error")
			}
			if got := strings.TrimPrefix(err.Error(), dir+"/"); got != tt.want {
				t.Errorf("\ngot  %s\nwant %s", got, tt.want)
			}
		})
	}
	if _, err := LoadProcfile("none/Procfile"); err == nil || err.Error() != "none/Procfile: cannot read: no such file or directory" {
		t.Errorf("missing file: %v", err)
	}
}
