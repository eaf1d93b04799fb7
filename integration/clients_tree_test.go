package integration

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A walker is a client that goes through the whole tree and must come to an
// end, although every directory has a file that never does.
type walker struct {
	name  string
	tools []string
	sh    string
	// check looks at the output and at what is in the scratch directory.
	check func(t *testing.T, d *daemon, out, old string)
}

var walkers = []walker{
	{name: "grep -r", sh: `exec grep -r n= "$M"`, check: grepped("current", "follow")},
	{name: "grep -r in a service", sh: `cd "$M/web" && exec grep -rh n=`, check: linesThere},
	{name: "rg", tools: []string{"rg"}, sh: `exec rg --no-heading --no-line-number n= "$M"`, check: grepped("current")},
	{name: "find", sh: `exec find "$M" -type f`, check: listed},
	{name: "find -size", sh: `exec find "$M/web" -name current -size -100k -size +0`, check: listed},
	{name: "ls -lR", sh: `exec ls -lR "$M"`, check: mentions("current", "follow", "seq", "stdout", "stderr")},
	{name: "du -a", sh: `exec du -a "$M"`, check: listed},
	{name: "tar", sh: `exec tar -cf - -C "$M" .`, check: archived},
	{name: "rsync -a", tools: []string{"rsync"}, sh: `exec rsync -a "$M/" "$W/copy/"`, check: copied("current", "follow")},
	{name: "cat current of all", sh: `exec cat "$M"/*/current`, check: linesThere},
}

func (c walker) run(t *testing.T) {
	d := startDaemon(t, smallRing)
	f := d.feed("web")
	f.upTo(20)
	d.feed("db").upTo(3)
	old := d.read("web", "current")
	p := d.shell(t, setting{}, c.sh)
	if code := p.wait(); code != 0 || p.stderr.String() != "" {
		t.Fatalf("ended with %v\n%s", p.cmd.ProcessState, p.said())
	}
	c.check(t, d, p.output(), old)
}

// grepped wants every numbered line once for each of the service's own files
// named, prefixed with its path, and no line of follow if it is not named.
func grepped(files ...string) func(*testing.T, *daemon, string, string) {
	return func(t *testing.T, d *daemon, out, old string) {
		for _, file := range []string{"current", "follow"} {
			prefix := d.path("web", file) + ":"
			var got strings.Builder
			for line := range strings.Lines(out) {
				if text, ok := strings.CutPrefix(line, prefix); ok {
					got.WriteString(text)
				}
			}
			want := ""
			for _, f := range files {
				if f == file {
					want = onlyNumbered(old, "")
				}
			}
			if got.String() != want {
				t.Errorf("%s: %s", file, difference(got.String(), want))
			}
		}
	}
}

func linesThere(t *testing.T, _ *daemon, out, old string) {
	for line := range strings.Lines(onlyNumbered(old, "")) {
		if !strings.Contains(out, line) {
			t.Errorf("output lacks %q", line)
		}
	}
}

func listed(t *testing.T, d *daemon, out, _ string) {
	if !strings.Contains(out, d.path("web", "current")+"\n") {
		t.Errorf("output lacks web/current:\n%s", out)
	}
}

func mentions(words ...string) func(*testing.T, *daemon, string, string) {
	return func(t *testing.T, _ *daemon, out, _ string) {
		for _, w := range words {
			if !strings.Contains(out, w) {
				t.Errorf("output lacks %q:\n%s", w, out)
			}
		}
	}
}

func archived(t *testing.T, _ *daemon, out, old string) {
	found := 0
	for r := tar.NewReader(strings.NewReader(out)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		if h.Name != "./web/current" && h.Name != "./web/follow" {
			continue
		}
		b, err := io.ReadAll(r)
		must(t, err)
		if string(b) != old {
			t.Errorf("%s: %s", h.Name, difference(string(b), old))
		}
		found++
	}
	if found != 2 {
		t.Errorf("the archive has %d of web/current and web/follow", found)
	}
}

func copied(files ...string) func(*testing.T, *daemon, string, string) {
	return func(t *testing.T, d *daemon, _, old string) {
		for _, file := range files {
			if got := scratch(t, d, filepath.Join("copy/web", file)); got != old {
				t.Errorf("%s: %s", file, difference(got, old))
			}
		}
	}
}

// With list-follow = false nothing that reads every file it finds can hang,
// and who knows the name can still follow.
func TestFollowHidden(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, "list-follow = false\n"+smallRing)
	f := d.feed("web")
	f.upTo(20)
	old := d.read("web", "current")
	err := filepath.WalkDir(d.mount, func(path string, e os.DirEntry, err error) error {
		if e != nil && e.Name() == "follow" {
			t.Errorf("%s is listed", path)
		}
		return err
	})
	must(t, err)
	p := d.shell(t, setting{}, `exec cp -r "$M/web" "$W/copy"`)
	if code := p.wait(); code != 0 {
		t.Fatalf("cp -r ended with %d\n%s", code, p.said())
	}
	copied := scratch(t, d, "copy/current")
	if copied != old {
		t.Errorf("cp -r: %s", difference(copied, old))
	}
	f.say("still followed")
}
