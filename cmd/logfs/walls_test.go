package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// walls is which packages of the project each package may import. What is not
// listed imports none.
var walls = map[string][]string{
	"logfs/ring":                       {"logfs/ring/record"},
	"logfs/rotate":                     {"logfs/ring/record"},
	"logfs/fs":                         {"logfs/ring", "logfs/ring/record"},
	"logfs/cmd/logfs/internal/exit":    {},
	"logfs/cmd/logfs/internal/config":  {},
	"logfs/cmd/logfs/internal/control": {"logfs/cmd/logfs/internal/exit", "logfs/ring/record"},
	"logfs/cmd/logfs/internal/daemon": {
		"logfs/capture", "logfs/fs", "logfs/ring", "logfs/ring/record", "logfs/rotate",
		"logfs/cmd/logfs/internal/config", "logfs/cmd/logfs/internal/control", "logfs/cmd/logfs/internal/exit",
	},
}

// outside is which modules each package may import beside the standard library.
var outside = map[string][]string{
	"logfs/capture":                    {"golang.org/x/sys"},
	"logfs/rotate":                     {"golang.org/x/sys", "github.com/klauspost/compress"},
	"logfs/fs":                         {"github.com/hanwen/go-fuse/v2", "golang.org/x/sys"},
	"logfs/cmd/logfs/internal/config":  {"github.com/BurntSushi/toml"},
	"logfs/cmd/logfs/internal/control": {"golang.org/x/sys"},
	"logfs/cmd/logfs/internal/daemon":  {"golang.org/x/sys"},
}

// Imports run one way: who adds an edge adds it here, and says why.
func TestImportsKeepTheWalls(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", "{{.ImportPath}} {{join .Imports \" \"}}", "logfs/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		pkg, imports := words[0], words[1:]
		if pkg == "logfs/cmd/logfs" || pkg == "logfs/integration" {
			continue
		}
		for _, i := range imports {
			switch {
			case strings.HasPrefix(i, "logfs/"):
				if !slices.Contains(walls[pkg], i) {
					t.Errorf("%s must not import %s", pkg, i)
				}
			case strings.Contains(strings.SplitN(i, "/", 2)[0], "."):
				if !slices.ContainsFunc(outside[pkg], func(m string) bool { return strings.HasPrefix(i, m) }) {
					t.Errorf("%s must not depend on %s", pkg, i)
				}
			}
		}
	}
}
