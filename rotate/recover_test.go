package rotate

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"logfs/ring/record"
)

// Archives of the table below, oldest first, and the label a recovered
// current gets.
const (
	first  = "@400000006b00940a00000064"
	second = "@400000006b00940a000000c8"
	fresh  = "@400000006b00a21a00000000"
)

// file is one file of a logdir; clean is the mark on current.
type file struct {
	name, content string
	clean         bool
}

// TestRecovery opens directories as crashes, power loss, disk errors and
// other loggers leave them. Each row is a directory and what it becomes; then
// a line is appended, which must go to current.
func TestRecovery(t *testing.T) {
	const torn = "@400000006b00940a000003e8 o number 00"
	garbage := "\x00\x00gar\xffbage\n"
	multilog := "@400000006b00928d1908bac4 hello\n@400000006b00928d1908bac5 world\n"
	rows := []struct {
		name string
		have []file
		want State
		left []file // archives, then current without the line appended
	}{
		{
			name: "empty directory",
			want: State{Next: 1, Clean: true, New: true},
			left: []file{{name: "current", content: headerAt(noon, 0, 1)}},
		}, {
			name: "closed cleanly",
			have: []file{{"current", header(3, 5) + lines(5, 8), true}},
			want: State{Next: 8, Run: 3, Last: stamp(7), Clean: true},
			left: []file{{name: "current", content: header(3, 5) + lines(5, 8)}},
		}, {
			name: "closed cleanly, start mark and lost mark inside",
			have: []file{{"current", header(3, 5) + text(5) + start(6, 4) + lost(7, 100) + text(107), true}},
			want: State{Next: 108, Run: 4, Last: stamp(107), Clean: true},
			left: []file{{name: "current", content: header(3, 5) + text(5) + start(6, 4) + lost(7, 100) + text(107)}},
		}, {
			name: "closed cleanly, only a header: stamp of the archive",
			have: []file{{first + ".s", header(1, 1) + lines(1, 5), false}, {"current", header(2, 5), true}},
			want: State{Next: 5, Run: 2, Last: stamp(4), Clean: true},
			left: []file{{name: first + ".s", content: header(1, 1) + lines(1, 5)}, {name: "current", content: header(2, 5)}},
		}, {
			name: "killed, whole lines",
			have: []file{{"current", header(3, 5) + lines(5, 8), false}},
			want: State{Next: 8, Run: 3, Last: stamp(7)},
			left: []file{{name: fresh + ".u", content: header(3, 5) + lines(5, 8)}, {name: "current", content: header(3, 8)}},
		}, {
			name: "killed, torn line",
			have: []file{{"current", header(3, 5) + lines(5, 8) + torn, false}},
			want: State{Next: 8, Run: 3, Last: stamp(7), Cut: int64(len(torn))},
			left: []file{{name: fresh + ".u", content: header(3, 5) + lines(5, 8)}, {name: "current", content: header(3, 8)}},
		}, {
			name: "marked clean, but torn",
			have: []file{{"current", header(3, 5) + lines(5, 8) + torn, true}},
			want: State{Next: 8, Run: 3, Last: stamp(7), Cut: int64(len(torn))},
			left: []file{{name: fresh + ".u", content: header(3, 5) + lines(5, 8)}, {name: "current", content: header(3, 8)}},
		}, {
			name: "power loss, NULs at the end",
			have: []file{{"current", header(3, 5) + lines(5, 8) + strings.Repeat("\x00", 126), false}},
			want: State{Next: 8, Run: 3, Last: stamp(7), Cut: 126},
			left: []file{{name: fresh + ".u", content: header(3, 5) + lines(5, 8)}, {name: "current", content: header(3, 8)}},
		}, {
			name: "killed, garbage in the middle takes a number",
			have: []file{{"current", header(3, 5) + lines(5, 7) + garbage + text(8) + torn, false}},
			want: State{Next: 9, Run: 3, Last: stamp(8), Cut: int64(len(torn))},
			left: []file{{name: fresh + ".u", content: header(3, 5) + lines(5, 7) + garbage + text(8)}, {name: "current", content: header(3, 9)}},
		}, {
			name: "killed, only a header",
			have: []file{{"current", header(3, 5), false}},
			want: State{Next: 5, Run: 3},
			left: []file{{name: "current", content: header(3, 5)}},
		}, {
			name: "killed, header and torn line",
			have: []file{{"current", header(3, 5) + torn, false}},
			want: State{Next: 5, Run: 3, Cut: int64(len(torn))},
			left: []file{{name: "current", content: header(3, 5)}},
		}, {
			name: "current empty",
			have: []file{{first + ".s", header(1, 1) + lines(1, 5), false}, {"current", "", false}},
			want: State{Next: 5, Run: 1, Last: stamp(4)},
			left: []file{{name: first + ".s", content: header(1, 1) + lines(1, 5)}, {name: "current", content: header(1, 5)}},
		}, {
			name: "current missing",
			have: []file{{first + ".s", header(1, 1) + lines(1, 5), false}, {second + ".u", header(1, 5) + start(5, 2), false}},
			want: State{Next: 6, Run: 2, Last: stamp(5)},
			left: []file{
				{name: first + ".s", content: header(1, 1) + lines(1, 5)},
				{name: second + ".u", content: header(1, 5) + start(5, 2)},
				{name: "current", content: header(2, 6)},
			},
		}, {
			name: "power loss, archives torn or empty",
			have: []file{
				{first + ".s", header(1, 1) + lines(1, 5) + torn, false},
				{second + ".s", "", false},
				{"current", header(1, 9), false},
			},
			want: State{Next: 9, Run: 1, Last: stamp(4), Cut: int64(len(torn)), Missing: 4},
			left: []file{
				{name: first + ".u", content: header(1, 1) + lines(1, 5)},
				{name: second + ".s"},
				{name: "current", content: header(1, 9)},
			},
		}, {
			name: "rotation interrupted before the link",
			have: []file{{"current", header(1, 1) + lines(1, 5), false}, {".current.new", header(1, 5), false}},
			want: State{Next: 5, Run: 1, Last: stamp(4)},
			left: []file{{name: fresh + ".u", content: header(1, 1) + lines(1, 5)}, {name: "current", content: header(1, 5)}},
		}, {
			name: "rotation interrupted after the link",
			have: []file{
				{"current", header(1, 1) + lines(1, 5), false},
				{second + ".s", "=current", false},
				{".current.new", header(1, 5), false},
			},
			want: State{Next: 5, Run: 1, Last: stamp(4)},
			left: []file{{name: second + ".s", content: header(1, 1) + lines(1, 5)}, {name: "current", content: header(1, 5)}},
		}, {
			name: "rotation interrupted after the link, and torn by power loss",
			have: []file{
				{"current", header(1, 1) + lines(1, 5) + torn, false},
				{second + ".s", "=current", false},
			},
			want: State{Next: 5, Run: 1, Last: stamp(4), Cut: int64(len(torn))},
			left: []file{{name: second + ".u", content: header(1, 1) + lines(1, 5)}, {name: "current", content: header(1, 5)}},
		}, {
			name: "clean, multilog has gone on in it",
			have: []file{{"current", header(3, 5) + lines(5, 8) + multilog, true}},
			want: State{Next: 10, Run: 3, Last: stamp(7), Clean: true},
			left: []file{{name: fresh + ".s", content: header(3, 5) + lines(5, 8) + multilog}, {name: "current", content: headerAt(stamp(7), 3, 10)}},
		}, {
			name: "current of multilog",
			have: []file{{"current", multilog, true}},
			want: State{Next: 1, Clean: true},
			left: []file{{name: fresh + ".u", content: multilog}, {name: "current", content: headerAt(noon, 0, 1)}},
		}, {
			name: "current of multilog, torn, beside archives of both",
			have: []file{
				{first + ".s", header(1, 1) + lines(1, 5), false},
				{second + ".s", multilog + "torn", false},
				{"current", multilog + "torn", false},
			},
			want: State{Next: 5, Run: 1, Last: stamp(4)},
			left: []file{
				{name: first + ".s", content: header(1, 1) + lines(1, 5)},
				{name: second + ".s", content: multilog + "torn"},
				{name: fresh + ".u", content: multilog + "torn"},
				{name: "current", content: header(1, 5)},
			},
		}, {
			name: "header damaged: its lines keep their numbers",
			have: []file{
				{first + ".s", header(1, 1) + lines(1, 5), false},
				{"current", "#" + header(1, 5)[1:] + lines(5, 8), false},
			},
			want: State{Next: 9, Run: 1, Last: stamp(7)},
			left: []file{
				{name: first + ".s", content: header(1, 1) + lines(1, 5)},
				{name: fresh + ".u", content: "#" + header(1, 5)[1:] + lines(5, 8)},
				{name: "current", content: headerAt(stamp(7), 1, 9)},
			},
		}, {
			name: "header damaged: a number that was used is not used again",
			have: []file{
				{first + ".s", header(1, 41) + lines(41, 45), false},
				{"current", header(1, 5) + text(45), false},
			},
			want: State{Next: 45, Run: 1, Last: stamp(45)},
			left: []file{
				{name: first + ".s", content: header(1, 41) + lines(41, 45)},
				{name: fresh + ".u", content: header(1, 5) + text(45)},
				{name: "current", content: headerAt(stamp(45), 1, 45)},
			},
		}, {
			name: "header damaged, no record: not continued under used numbers",
			have: []file{
				{first + ".s", header(1, 41) + lines(41, 45), false},
				{"current", header(1, 5), true},
			},
			want: State{Next: 45, Run: 1, Last: stamp(44), Clean: true},
			left: []file{
				{name: first + ".s", content: header(1, 41) + lines(41, 45)},
				{name: fresh + ".s", content: header(1, 5)},
				{name: "current", content: header(1, 45)},
			},
		}, {
			name: "no header anywhere: counted from 1",
			have: []file{{first + ".s", lines(1, 5), false}, {"current", lines(5, 8), false}},
			want: State{Next: 8, Last: stamp(7)},
			left: []file{
				{name: first + ".s", content: lines(1, 5)},
				{name: fresh + ".u", content: lines(5, 8)},
				{name: "current", content: header(0, 8)},
			},
		}, {
			name: "current of another service",
			have: []file{{"current", headerOf("db", 3, 5) + lines(5, 8), true}},
			want: State{Next: 8, Run: 3, Last: stamp(7), Clean: true},
			left: []file{{name: fresh + ".s", content: headerOf("db", 3, 5) + lines(5, 8)}, {name: "current", content: header(3, 8)}},
		}, {
			name: "hard link elsewhere",
			have: []file{{"current", header(3, 5) + lines(5, 8), true}, {"backup", "=current", false}},
			want: State{Next: 8, Run: 3, Last: stamp(7), Clean: true},
			left: []file{
				{name: fresh + ".s", content: header(3, 5) + lines(5, 8)},
				{name: "current", content: headerAt(stamp(7), 3, 8)},
			},
		},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, f := range r.have {
				lay(t, dir, f)
			}
			lay(t, dir, file{name: lockName, content: "this boot\n"})
			d := mustOpen(t, options(dir))
			if d.State() != r.want {
				t.Errorf("state\n%+v, want\n%+v", d.State(), r.want)
			}
			checkLeft(t, dir, r.left)
			next := d.State().Next
			mustAppend(t, d, text(next), next, next+1, d.State().Run)
			mustClose(t, d)
			r.left[len(r.left)-1].content += text(next)
			checkLeft(t, dir, r.left)
		})
	}
}

func headerAt(at record.Stamp, run, first uint64) string {
	return string(record.AppendHeader(nil, record.Header{Stamp: at, Service: "web", Run: run, First: first}))
}

// lay makes a file; "=name" as content makes it a second name of that one.
func lay(t *testing.T, dir string, f file) {
	t.Helper()
	path := filepath.Join(dir, f.name)
	mode := os.FileMode(fileMode)
	if f.clean {
		mode = cleanMode
	}
	var err error
	if of, ok := strings.CutPrefix(f.content, "="); ok {
		err = os.Link(filepath.Join(dir, of), path)
	} else {
		err = os.WriteFile(path, []byte(f.content), mode)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func checkLeft(t *testing.T, dir string, want []file) {
	t.Helper()
	names, content := files(t, dir)
	var wantNames []string
	for _, f := range want {
		wantNames = append(wantNames, f.name)
		if got, ok := content[f.name]; ok && got != f.content {
			t.Errorf("%s holds\n%q, want\n%q", f.name, got, f.content)
		}
	}
	if !slices.Equal(names, wantNames) {
		t.Errorf("files\n%q, want\n%q", names, wantNames)
	}
	if _, err := os.Lstat(filepath.Join(dir, freshName)); err == nil {
		t.Errorf("%s is left", freshName)
	}
}

// TestCurrentThatIsNoFile refuses what would be followed, waited for, or
// written to by mistake, and leaves it as it is.
func TestCurrentThatIsNoFile(t *testing.T) {
	target := filepath.Join(t.TempDir(), "target")
	if err := os.WriteFile(target, []byte("precious\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, make := range map[string]func(path string) error{
		"symlink":   func(path string) error { return os.Symlink(target, path) },
		"dangling":  func(path string) error { return os.Symlink(target+"x", path) },
		"fifo":      func(path string) error { return unix.Mkfifo(path, 0o600) },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"socket":    func(path string) error { return unix.Mknod(path, unix.S_IFSOCK|0o600, 0) },
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, currentName)
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		before, _ := os.Lstat(path)
		_, err := Open(options(dir))
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("%s: error %v", name, err)
		}
		after, err := os.Lstat(path)
		if err != nil || !os.SameFile(before, after) || before.Mode() != after.Mode() {
			t.Errorf("%s: replaced or changed", name)
		}
	}
	if b, _ := os.ReadFile(target); string(b) != "precious\n" || mode(t, target) != 0o600 {
		t.Errorf("target holds %q, mode %o", b, mode(t, target))
	}
}

func TestLinkedDirectoryAndLinkedLockAreRefused(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(options(link)); err == nil {
		t.Error("a linked directory was opened")
	}
	if err := os.Symlink(filepath.Join(t.TempDir(), "elsewhere"), filepath.Join(dir, lockName)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(options(dir)); err == nil {
		t.Error("a linked lock was opened")
	}
}

// TestReopenAfterCrash appends, dies and opens again, many times over.
func TestReopenAfterCrash(t *testing.T) {
	dir := t.TempDir()
	next := uint64(1)
	for i := range uint64(12) {
		d := mustOpen(t, options(dir))
		if s := d.State(); s.Next != next || s.Clean != (i == 0) {
			t.Fatalf("opened as %+v, want next %d", s, next)
		}
		for range i {
			mustAppend(t, d, lines(next, next+5), next, next+5, 0)
			next += 5
		}
		crash(d)
	}
	checkFiles(t, dir, lines(1, next))
}

// TestMissing has gaps between files: those at the newest archives are found,
// those behind an empty one, and those that a summary shows.
func TestMissing(t *testing.T) {
	for _, c := range []struct {
		name  string
		clean bool
		have  []string // archives and current
		want  uint64
	}{
		{"none", false, []string{header(1, 1) + lines(1, 5), header(1, 5) + text(5)}, 0},
		{"newest", false, []string{header(1, 1) + lines(1, 5), header(1, 8) + text(8)}, 3},
		{"two", false, []string{header(1, 1) + lines(1, 5), header(1, 8) + text(8), header(1, 11) + text(11)}, 5},
		{"long ago", false, []string{header(1, 1) + text(1), header(1, 8) + text(8), header(1, 9) + text(9), header(1, 10)}, 0},
		{"before an empty one", false, []string{header(1, 1) + text(1), "", "", header(1, 8) + text(8), header(1, 9) + text(9), header(1, 10)}, 6},
		{"clean", true, []string{header(1, 1) + lines(1, 5), header(1, 8) + text(8)}, 0},
		{"lost mark", false, []string{header(1, 1) + lost(1, 7), header(1, 8) + text(8)}, 0},
		{"current not ours", false, []string{header(1, 1) + text(1), "hello\n"}, 0},
	} {
		dir := t.TempDir()
		n := len(c.have) - 1
		for i, content := range c.have[:n] {
			lay(t, dir, file{name: archiveName(stamp(uint64(i)), complete), content: content})
		}
		lay(t, dir, file{currentName, c.have[n], c.clean})
		d := mustOpen(t, options(dir))
		if got := d.State().Missing; got != c.want {
			t.Errorf("%s: %d missing, want %d", c.name, got, c.want)
		}
		mustClose(t, d)
	}
}

// TestAdoption opens directories of other loggers. Their archives count by
// name and are not changed; their other files are nobody's business. Stamps of
// s6-log are 27 s later, and are taken as they are.
func TestAdoption(t *testing.T) {
	const (
		multilog = "@400000006b00928d1908bac4 o looks like ours\n@400000006b00928d1908bac5 world\n"
		svlogd   = "2026-11-20_18:40:00.12345 world\n"
		s6       = "@400000006b0092a81908bac4 hello\n"
	)
	for name, content := range map[string]string{"multilog": multilog, "svlogd": svlogd, "s6-log": s6} {
		dir := t.TempDir()
		others := []string{"state", "config", "processor", "previous", "newstate", "@400000006b00928d1908bac4.t", "notes"}
		for _, other := range others {
			lay(t, dir, file{name: other, content: other})
		}
		for i := range uint64(6) {
			lay(t, dir, file{name: archiveName(stamp(i), []string{complete, recovered}[i%2]), content: content})
		}
		lay(t, dir, file{currentName, content, true})
		log := &countLog{}
		o := options(dir)
		o.Keep, o.Compress, o.Log = 4, Gzip, slog.New(log)
		d := mustOpen(t, o)
		next := d.State().Next
		if len(d.archives) != 4 || log.count("without a header") != 1 {
			t.Errorf("%s: %d archives, log %q", name, len(d.archives), log.buf.String())
		}
		mustAppend(t, d, lines(next, next+12), next, next+12, 0)
		waitPacked(d)
		mustClose(t, d)
		for _, other := range others {
			if b, err := os.ReadFile(filepath.Join(dir, other)); err != nil || string(b) != other {
				t.Errorf("%s: %s holds %q, %v", name, other, b, err)
			}
		}
		names, have := files(t, dir)
		if len(names) != 5 || names[0] != archiveName(stamp(4), complete) || have[names[0]] != content || have[names[1]] != content || have[names[2]] != content {
			t.Errorf("%s: files %q", name, names)
		}
	}
}
