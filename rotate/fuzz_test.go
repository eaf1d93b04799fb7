package rotate

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"logfs/ring/record"
)

// FuzzRecover damages current at any byte: cut there, or that byte changed.
// Opening must keep every whole line as it is, in order, and add none.
func FuzzRecover(f *testing.F) {
	intact := header(3, 5) + lines(5, 8) + start(8, 4) + lost(9, 100) + text(109) + "\n" + text(111)
	for _, at := range []uint16{0, 1, 24, 25, 60, 66, 67, 68, 100, 127, 300} {
		f.Add(at, byte(0), true, false)
		f.Add(at, byte('\n'), false, false)
		f.Add(at, byte(0), false, true)
		f.Add(at, byte('9'), false, true)
	}
	f.Fuzz(func(t *testing.T, at uint16, with byte, cut, clean bool) {
		content := []byte(intact)
		i := int(at) % len(content)
		if content[i] = with; cut {
			content = content[:i]
		}
		checkRecovery(t, string(content), clean)
	})
}

// FuzzForeign opens a current of any content.
func FuzzForeign(f *testing.F) {
	f.Add("", false)
	f.Add("hello\nworld", true)
	f.Add("\x00\x00\x00", false)
	f.Add(header(1, 1), true)
	f.Add(header(1, 1)+"x", true)
	f.Add(header(1, 1)+"x\n\n\n", false)
	f.Add(lines(1, 5), false)
	f.Add(strings.Repeat("long", 20_000)+"\n"+header(0, 1), false)
	f.Fuzz(checkRecovery)
}

func checkRecovery(t *testing.T, content string, clean bool) {
	dir := t.TempDir()
	lay(t, dir, file{archiveName(base, complete), header(1, 1) + lines(1, 4), false})
	mode := os.FileMode(fileMode)
	if clean {
		mode = cleanMode
	}
	if err := os.WriteFile(filepath.Join(dir, currentName), []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	o := options(dir)
	o.FS = newFaultFS(0, 0) // no fsync
	d := mustOpen(t, o)
	next := d.State().Next
	if next < 4 {
		t.Errorf("next number %d has been used", next)
	}
	written, err := d.Append([]byte(text(1)), next, next+1, d.State().Run)
	if err != nil || written != next+1 {
		t.Fatalf("written %d, error %v", written, err)
	}
	mustClose(t, d)

	names, files := files(t, dir)
	var got string
	for _, name := range names[1:] {
		got += files[name]
	}
	want := content
	if _, ours := record.ParseHeader([]byte(content[:strings.IndexByte(content, '\n')+1])); ours {
		want = content[:strings.LastIndexByte(content, '\n')+1]
	}
	if tail, ok := strings.CutPrefix(got, want); !ok {
		t.Errorf("files hold\n%q, which does not begin with\n%q", got, want)
	} else if tail = strings.TrimSuffix(tail, text(1)); tail != "" {
		if _, ok := record.ParseHeader([]byte(tail)); !ok {
			t.Errorf("files hold %q after the recovered lines", tail)
		}
	}
}

// FuzzArchiveName accepts only names that it makes.
func FuzzArchiveName(f *testing.F) {
	f.Add("@400000006b00928d1908bac4.s")
	f.Add("@400000006b00928d1908bac4.u")
	f.Add("@400000006b00928d1908bac4.s.gz")
	f.Add("@400000006B00928D1908BAC4.s")
	f.Add("@400000006b00928dffffffff.u")
	f.Fuzz(func(t *testing.T, name string) {
		label, suffix, ok := parseArchive(name)
		if ok && archiveName(label, suffix) != name {
			t.Errorf("%q accepted as %q", name, archiveName(label, suffix))
		}
	})
}
