package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// check holds for whatever a file says: settings that are sound, or mistakes
// by line, each of them one line about a place in the file.
func check(t *testing.T, path, text string, c Config, err error) {
	if err == nil {
		sound(t, c)
		return
	}
	var all Errors
	if one := (*Error)(nil); !errors.As(err, &all) && errors.As(err, &one) {
		all = Errors{one}
	}
	if len(all) == 0 {
		t.Fatalf("%T is no *Error: %v", err, err)
	}
	line := 0
	for _, e := range all {
		if e.File != path || e.Line < line || e.Line > 1+strings.Count(text, "\n") || e.Msg == "" {
			t.Fatalf("no place in the file behind line %d: %+v", line, e)
		}
		if strings.ContainsFunc(e.Error(), unicode.IsControl) {
			t.Fatalf("more than one plain line: %q", e)
		}
		line = e.Line
	}
}

func sound(t *testing.T, c Config) {
	if !slices.IsSortedFunc(c.Services, func(a, b Service) int { return strings.Compare(a.Name, b.Name) }) {
		t.Fatal("services are not sorted")
	}
	for i, s := range c.Services {
		if i > 0 && c.Services[i-1].Name == s.Name {
			t.Fatalf("%q is there twice", s.Name)
		}
		if err := CheckName(s.Name); err != nil {
			t.Fatal(err)
		}
		if s.LineLimit < 128 || s.RingBytes < 4*int64(s.LineLimit) || s.RingLines < 1 || s.Size < 4096 ||
			s.Keep < 1 || s.Sync <= 0 || s.Backoff <= 0 || s.Backoff > s.BackoffMax || s.Mode&^0o777 != 0 {
			t.Fatalf("unsound settings: %+v", s)
		}
		if key, path := s.Input(); key != "" && (s.Command != nil || c.inputPlace(path) != "") || s.InputMode&^0o666 != 0 {
			t.Fatalf("unsound input: %+v", s)
		}
		if !slices.IsSorted(s.Env) || s.Command != nil && s.Command[0] == "" || s.Dir != "" && !filepath.IsAbs(s.Dir) {
			t.Fatalf("unsound process: %+v", s)
		}
	}
	if k, msg := c.overlap(); msg != "" {
		t.Fatal(k, msg)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add("mount = \"/m\"\n[defaults]\nkeep = 2\n[service.web]\ncommand = [\"x\"]\nenv.A = \"1\"\n")
	f.Add("[service.\"a.b\"]\nsize = \"10MB\"\nsync = '''\n1s'''\n")
	f.Add("[defaults]\ninput-mode = \"622\"\n[service.log]\nsyslog = \"/log\"\n[service.f]\nfifo = \"/f\"\ninput-group = \"0\"\n")
	path := filepath.Join(f.TempDir(), "logfs.toml")
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		c, err := Load(path, false)
		check(t, path, text, c, err)
	})
}

func FuzzLoadProcfile(f *testing.F) {
	f.Add("# x\r\nweb: bundle exec rails\r\n\r\napi: y\n")
	path := filepath.Join(f.TempDir(), "Procfile")
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		c, err := LoadProcfile(path)
		check(t, path, text, c, err)
		if err == nil && strings.Count(text, "\n")+1 < len(c.Services) {
			t.Fatalf("%d services out of %q", len(c.Services), text)
		}
	})
}
