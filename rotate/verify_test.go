package rotate

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestVerify has a row for each kind of damage, and what Verify says of it.
func TestVerify(t *testing.T) {
	a, b, c := archiveName(stamp(10), complete), archiveName(stamp(20), recovered), archiveName(stamp(30), complete)
	h := func(run, first uint64) string { return header(run, first) }
	const (
		theirs = "@400000006b00928d1908bac4 hello\n@400000006b00928d1908bac5 \n"
		svlogd = "2026-11-20_18:40:00.12345 hello\n2026-11-20T18:40:00.12345 \n"
	)
	for _, row := range []struct {
		name string
		have []file
		want []string // file:line: what it begins with
	}{
		{"sound", []file{{name: a, content: h(0, 1) + start(1, 1) + lines(2, 5)}, {name: b, content: h(1, 5) + lost(5, 3) + text(8)}, {name: currentName, content: h(1, 9) + lines(9, 12)}}, nil},
		{"missing current", []file{{name: a, content: h(0, 1) + text(1)}}, []string{"current:0: missing"}},
		{"empty files", []file{{name: a}, {name: currentName}}, []string{a + ":0: empty", "current:0: empty"}},
		{"numbers missing", []file{{name: a, content: h(1, 1) + text(1)}, {name: currentName, content: h(1, 5)}}, []string{"current:1: begins with number 5: 2 to 4 are missing"}},
		{"numbers used twice", []file{{name: a, content: h(1, 1) + lines(1, 9)}, {name: currentName, content: h(1, 5)}}, []string{"current:1: begins with number 5: up to 8"}},
		{"wrong run", []file{{name: a, content: h(1, 1) + start(1, 2)}, {name: currentName, content: h(1, 2)}}, []string{"current:1: says run 1, want 2"}},
		{"other service", []file{{name: a, content: h(1, 1) + text(1)}, {name: currentName, content: headerOf("db", 1, 2)}}, []string{`current:1: is of service "db"`}},
		{"other loggers", []file{{name: a, content: theirs}, {name: b, content: h(1, 1) + lines(1, 4) + theirs}, {name: c, content: svlogd + theirs}, {name: currentName, content: h(1, 6)}, {name: "config"}, {name: "state"}}, nil},
		{"other loggers, torn", []file{{name: a, content: theirs + "@4000"}, {name: currentName, content: h(1, 1)}}, []string{a + ":3: torn"}},
		{"damaged kind", []file{{name: currentName, content: h(1, 1) + text(1) + strings.Replace(text(2), " o ", " 0 ", 1) + text(3)}}, []string{"current:4: number 3: stands behind"}},
		{"no header", []file{{name: a, content: "hello\n"}, {name: currentName, content: h(1, 1)}}, []string{a + ":1: no header"}},
		{"damaged header", []file{{name: currentName, content: "#" + h(1, 1) + text(1)}}, []string{"current:1: no header"}},
		{"torn", []file{{name: a, content: h(1, 1) + lines(1, 3) + text(3)[:30]}, {name: currentName, content: h(1, 3) + text(3)[:50]}}, []string{a + ":4: torn", "current:2: torn"}},
		{"no record", []file{{name: currentName, content: h(1, 1) + text(1) + "\x00\x00\n" + text(3)}}, []string{"current:3: number 2: not a stored record"}},
		{"long line that is no record", []file{{name: currentName, content: h(1, 1) + strings.Repeat("x", 200_000) + "\n" + text(2) + "torn"}}, []string{"current:2: number 1: not a stored record", "current:4: torn"}},
		{"stamp goes back", []file{{name: a, content: h(1, 1) + lines(5, 7)}, {name: currentName, content: h(1, 3) + text(3) + text(4)}}, []string{"current:2: number 3: stamp"}},
		{"label too early", []file{{name: a, content: h(1, 1) + text(11)}, {name: currentName, content: h(1, 2)}}, []string{a + ":0: label"}},
		{"strangers", []file{{name: currentName, content: h(1, 1)}, {name: "notes"}, {name: lockName}, {name: freshName}, {name: "@400000006B00928D1908BAC4.s"}}, []string{
			freshName + ":0: left by", "@400000006B00928D1908BAC4.s:0: not a file", "notes:0: not a file"}},
		{"compressed garbage", []file{{name: a + ".gz", content: "garbage\n"}, {name: b + ".zst", content: "garbage\n"}, {name: c + ".gz"}, {name: currentName, content: h(1, 1)}}, []string{
			a + ".gz:0: cannot be read: damaged", b + ".zst:0: cannot be read: damaged", c + ".gz:0: empty"}},
	} {
		dir := t.TempDir()
		for _, f := range row.have {
			lay(t, dir, f)
		}
		checkFindings(t, row.name, dir, row.want)
	}
}

func checkFindings(t *testing.T, name, dir string, want []string) {
	t.Helper()
	var got []string
	if err := Verify(dir, func(f Finding) { got = append(got, fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.What)) }); err != nil {
		t.Fatal(err)
	}
	if len(want) != len(got) {
		t.Errorf("%s: found\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		return
	}
	slices.Sort(got)
	slices.Sort(want)
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("%s: found %q, want %q", name, got[i], want[i])
		}
	}
}

// TestVerifyCompressed damages compressed archives.
func TestVerifyCompressed(t *testing.T) {
	name := archiveName(stamp(20), complete)
	for _, form := range forms {
		packed := name + form.suffix()
		for what, want := range map[string][]string{
			"sound":      nil,
			"truncated":  {packed + ":"},
			"beside":     {packed + ":0: also there"},
			"no summary": {packed + ":0: says nothing"},
			"wrong":      {packed + `:0: says "logfs format=1 first=1 last=7`},
		} {
			dir := t.TempDir()
			layPacked(t, dir, name, header(1, 1)+lines(1, 9), form, what != "no summary")
			lay(t, dir, file{currentName, header(1, 9) + text(9), true})
			path := filepath.Join(dir, packed)
			var err error
			switch what {
			case "truncated":
				err = os.Truncate(path, sizeOf(t, path)-9)
			case "beside":
				lay(t, dir, file{name: name, content: header(1, 1) + lines(1, 9)})
			case "wrong":
				err = replaceIn(path, "last=8", "last=7")
			}
			if err != nil {
				t.Fatal(err)
			}
			checkFindings(t, what, dir, want)
		}
	}
}

func replaceIn(path, from, to string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(strings.Replace(string(b), from, to, 1)), 0o600)
}

// TestVerifySurvey changes what compressed archives say of their records.
func TestVerifySurvey(t *testing.T) {
	for _, form := range forms {
		for _, what := range [][2]string{{"out=9,", "out=8,"}, {"1:1-10", "1:1-11"}} {
			o := options(t.TempDir())
			o.Compress = form
			d := mustOpen(t, o)
			mustAppend(t, d, start(1, 1)+lines(2, 20), 1, 20, 0)
			waitPacked(d)
			mustClose(t, d)
			checkFindings(t, "sound", o.Dir, nil)
			names, _ := files(t, o.Dir)
			if err := replaceIn(filepath.Join(o.Dir, names[0]), what[0], what[1]); err != nil {
				t.Fatal(err)
			}
			checkFindings(t, what[1], o.Dir, []string{names[0] + ":0: says other sizes"})
		}
	}
}

// TestVerifyAfterLife finds nothing wrong with what a Logdir leaves.
func TestVerifyAfterLife(t *testing.T) {
	o := options(t.TempDir())
	for i, form := range []Compression{None, Gzip, Zstd} {
		o.Compress = form
		d := mustOpen(t, o)
		n := d.State().Next
		mustAppend(t, d, start(n, uint64(i)+1)+lines(n+1, n+50), n, n+50, uint64(i))
		waitPacked(d)
		if i == 1 {
			crash(d)
			continue
		}
		mustClose(t, d)
	}
	checkFindings(t, "after life", o.Dir, nil)
	if err := Verify(filepath.Join(o.Dir, "nothing"), func(Finding) {}); err == nil {
		t.Error("a directory that is not there was verified")
	}
}
