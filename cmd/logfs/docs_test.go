package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"logfs/cmd/logfs/internal/config"
)

// pages are the man pages: of the command, and of its configuration.
var pages = []string{"logfs.1", "logfs.toml.5"}

// manual returns the source of a man page.
func manual(t *testing.T, name string) string {
	t.Helper()
	page, err := os.ReadFile(name)
	must(t, err)
	return string(page)
}

// item returns the item of a list in the man page that begins with the macro
// and name given, up to the next item or the end of the list.
func item(t *testing.T, page, heading string) string {
	t.Helper()
	start := regexp.MustCompile(`(?m)^\.It ` + regexp.QuoteMeta(heading) + `( .*)?$`).FindStringIndex(page)
	if start == nil {
		t.Errorf("the man page has no item %q", heading)
		return ""
	}
	rest := page[start[0]:]
	end := regexp.MustCompile(`(?m)^\.(It|El|Sh)\b`).FindAllStringIndex(rest, 2)
	return rest[:end[1][0]]
}

// plain is the text of an item without line breaks and macros.
func plain(item string) string {
	item = regexp.MustCompile(`(?m)^\.[A-Z][a-z] ?`).ReplaceAllString(item, "")
	return strings.Join(strings.Fields(item), " ")
}

func TestManualHasEveryCommandAndFlag(t *testing.T) {
	page := manual(t, pages[0])
	_, synopsis, _ := strings.Cut(page, ".Sh SYNOPSIS\n")
	synopsis, _, _ = strings.Cut(synopsis, ".Sh ")
	for _, c := range commands() {
		if !strings.Contains(synopsis, ".Cm "+c.name+"\n") {
			t.Errorf("the synopsis of logfs.1 has no command %q", c.name)
		}
		about := item(t, page, "Cm "+c.name)
		flags, _ := c.flags()
		flags.VisitAll(func(f *pflag.Flag) {
			names := []string{"-" + f.Name}
			if f.Shorthand != "" {
				names = append(names, f.Shorthand)
			}
			for _, name := range names {
				mentioned := regexp.MustCompile(`\bFl ` + regexp.QuoteMeta(name) + `( |$)`)
				if !mentioned.MatchString(strings.ReplaceAll(about, "\n", " ")) {
					t.Errorf("logfs.1 does not say that %s takes -%s", c.name, name)
				}
			}
			heading := "Fl -" + f.Name
			if f.Shorthand != "" {
				heading = "Fl " + f.Shorthand
			}
			item(t, page, heading)
		})
	}
}

func TestManualHasEveryKey(t *testing.T) {
	page := manual(t, pages[1])
	for _, k := range config.Keys {
		got := strings.ToLower(plain(item(t, page, "Ic "+k.Name)))
		byDefault := "none"
		if k.Default != "" {
			byDefault = k.Default
		}
		for _, want := range []string{k.Meaning + ".", "Default: " + byDefault + ".", "Accepted: " + k.Accepted + "."} {
			if !strings.Contains(got, strings.ToLower(want)) {
				t.Errorf("logfs.toml.5 does not say %q about %s, but %q", want, k.Name, got)
			}
		}
	}
}

func TestManualHasEveryExitStatus(t *testing.T) {
	_, statuses, _ := strings.Cut(manual(t, pages[0]), ".Sh EXIT STATUS\n")
	file, err := parser.ParseFile(token.NewFileSet(), filepath.FromSlash("internal/exit/exit.go"), nil, 0)
	must(t, err)
	found := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) == 0 {
			return true
		}
		value, ok := spec.Values[0].(*ast.BasicLit)
		if ok && value.Kind == token.INT {
			found++
			item(t, statuses, value.Value)
		}
		return true
	})
	if found < 4 {
		t.Errorf("found %d statuses in package exit, want at least 4", found)
	}
}

func TestReadmeHasEveryCommand(t *testing.T) {
	text, err := os.ReadFile(filepath.FromSlash("../../README.md"))
	must(t, err)
	for _, c := range commands() {
		if !strings.Contains(string(text), "logfs "+c.name) {
			t.Errorf("README.md does not mention logfs %s", c.name)
		}
	}
}

// The configuration shown in the README is one that logfs accepts.
func TestReadmeConfiguration(t *testing.T) {
	text, err := os.ReadFile(filepath.FromSlash("../../README.md"))
	must(t, err)
	_, example, ok := strings.Cut(string(text), "\n```toml\n")
	if !ok {
		t.Fatal("README.md has no example in TOML")
	}
	example, _, _ = strings.Cut(example, "\n```\n")
	file := filepath.Join(t.TempDir(), "logfs.toml")
	must(t, os.WriteFile(file, []byte(example+"\n"), 0o644))
	c, err := config.Load(file, false)
	if err != nil {
		t.Fatalf("the example of README.md is refused: %v", err)
	}
	if len(c.Services) < 2 {
		t.Errorf("the example of README.md has %d services, want at least 2", len(c.Services))
	}
}

// The configuration shipped for packages changes nothing, and what it says about
// the defaults is true.
func TestShippedConfiguration(t *testing.T) {
	file := filepath.FromSlash("../../contrib/logfs.toml")
	c, err := config.Load(file, false)
	must(t, err)
	if len(c.Services) != 0 {
		t.Errorf("%s has %d services, want none", file, len(c.Services))
	}
	text, err := os.ReadFile(file)
	must(t, err)
	settings, example, _ := strings.Cut(string(text), "\n#[service.")
	shown := regexp.MustCompile(`(?m)^#?([a-z-]+) = (\S+)`).FindAllStringSubmatch(settings, -1)
	for _, s := range shown {
		i := slices.IndexFunc(config.Keys, func(k config.Key) bool { return k.Name == s[1] })
		if i < 0 || config.Keys[i].Default != s[2] {
			t.Errorf("%s shows %s, which is not the default of a key", file, s[0])
		}
	}
	if len(shown) < 5 {
		t.Errorf("%s shows %d keys, want at least 5", file, len(shown))
	}
	whole := filepath.Join(t.TempDir(), "logfs.toml")
	must(t, os.WriteFile(whole, []byte(settings+"\n[service."+strings.ReplaceAll(example, "\n#", "\n")), 0o644))
	if c, err = config.Load(whole, false); err != nil || len(c.Services) != 1 {
		t.Errorf("with its example, %s has %d services, %v; want one", file, len(c.Services), err)
	}
}

// The Procfile shipped with the sources can be started as it is.
func TestShippedProcfile(t *testing.T) {
	c, err := config.LoadProcfile(filepath.FromSlash("../../Procfile"))
	must(t, err)
	if len(c.Services) < 2 {
		t.Errorf("the Procfile has %d services, want at least 2", len(c.Services))
	}
}

func TestManualIsWellFormed(t *testing.T) {
	mandoc, err := exec.LookPath("mandoc")
	if err != nil {
		t.Log("not looked at: mandoc is not installed")
		return
	}
	for _, page := range pages {
		if said, err := exec.Command(mandoc, "-Tlint", "-W", "warning", page).CombinedOutput(); err != nil {
			t.Errorf("mandoc: %v\n%s", err, said)
		}
	}
}
