package integration

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"logfs/ring/record"
	"logfs/rotate"
)

// nightServices are those of docs/night.md: what they have said is in
// testdata/night.txt, and web is up again.
const nightServices = `
[defaults]
size = "4KiB"
keep = 100
compress = "zstd"
mode = "0755"
[service.web]
command = "echo listening on :8080; exec sleep 1000"
[service.db]
[service.mail]
`

// What docs/night.md shows is what the commands print, in a place where it is
// a quarter past three in the morning.
func TestNight(t *testing.T) {
	t.Parallel()
	needTools(t, "tai64nlocal", "zstd")
	d := newDaemon(t, nightServices)
	zone := zoneAt(t, d.dir, 3*time.Hour+15*time.Minute)
	d.zone = zone.String()
	for name, lines := range nightLines(t, zone) {
		writeHistory(t, d.logdir(name), name, lines)
	}
	d.start()
	d.awaitState("web", "running")
	d.watch("web", "run", "43", "follow").await("listening")
	for _, c := range shown(t, "../docs/night.md") {
		cmd := exec.Command("sh", "-c", d.here(c.line))
		cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ="+d.zone)
		out, err := cmd.CombinedOutput()
		if err != nil || !matches(c.output, strings.ReplaceAll(string(out), d.mount, "/mnt/logs")) {
			t.Errorf("$ %s\n%v; docs/night.md shows\n%s\nbut it prints\n%s", c.line, err, c.output, out)
		}
	}
}

// zoneAt is a time zone, in a file, whose clocks are now at that time of the day.
func zoneAt(t *testing.T, dir string, clock time.Duration) *time.Location {
	t.Helper()
	now := time.Now().UTC()
	east := clock - now.Sub(now.Truncate(24*time.Hour)).Truncate(time.Second)
	b := append([]byte("TZif"), make([]byte, 40)...)
	binary.BigEndian.PutUint32(b[36:], 1) // types
	binary.BigEndian.PutUint32(b[40:], 4) // letters
	b = binary.BigEndian.AppendUint32(b, uint32(int32(east.Seconds())))
	b = append(b, 0, 0)
	b = append(b, "LOC\x00"...)
	file := filepath.Join(dir, "zone")
	must(t, os.WriteFile(file, b, 0o644))
	zone, err := time.LoadLocationFromTZData(file, b)
	must(t, err)
	return zone
}

// nightLines are the stored lines of testdata/night.txt, by service, today by the
// clocks of zone.
func nightLines(t *testing.T, zone *time.Location) map[string][][]byte {
	t.Helper()
	text, err := os.ReadFile("testdata/night.txt")
	must(t, err)
	today := time.Now().In(zone).Format(time.DateOnly) + " "
	all := map[string][][]byte{}
	for i, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		f := strings.SplitN(line, " ", 4)
		at, err := time.ParseInLocation(time.DateTime, today+f[0], zone)
		must(t, err)
		stamp := record.Stamp(at.UnixNano() + int64(i))
		all[f[1]] = append(all[f[1]], record.Append(nil, stamp, record.Kind(f[2][0]), false, []byte(f[3])))
	}
	return all
}

// writeHistory makes a log of stored lines.
func writeHistory(t *testing.T, dir, name string, lines [][]byte) {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o755))
	l, err := rotate.Open(rotate.Options{Dir: dir, Service: name, Size: 4 << 10, Keep: 100, Compress: rotate.Zstd})
	must(t, err)
	run := uint64(0)
	for i, line := range lines {
		if parsed, err := record.Parse(line); err == nil {
			if r, ok := record.StartRun(parsed); ok {
				run = r
			}
		}
		_, err := l.Append(line, uint64(i+1), uint64(i+2), run)
		must(t, err)
	}
	must(t, l.Close())
}

// A shownCommand is one of a document, with what it prints.
type shownCommand struct{ line, output string }

// shown returns the commands of the console blocks of a document: they follow "$ ".
func shown(t *testing.T, file string) (all []shownCommand) {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	for _, block := range regexp.MustCompile("(?s)```console\n(.*?)```").FindAllSubmatch(text, -1) {
		for line := range strings.Lines(string(block[1])) {
			last := len(all) - 1
			switch command, ok := strings.CutPrefix(line, "$ "); {
			case ok:
				all = append(all, shownCommand{line: command})
			case strings.HasPrefix(line, "> "):
				all[last].line += line[2:]
			default:
				all[last].output += line
			}
		}
	}
	if len(all) == 0 {
		t.Fatalf("%s shows no command", file)
	}
	return all
}

// others are what is another on each day and machine.
var others = []struct {
	what *regexp.Regexp
	in   string
}{
	{regexp.MustCompile(`@[0-9a-f]{24}`), "@STAMP"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "MOMENT"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d`), "DATE"},
	{regexp.MustCompile(`(\d\d:\d\d:\d\d)\.\d+`), "$1"},
	{regexp.MustCompile(`[A-Z][a-z]{2} [ 0-9]\d (\d\d:\d\d)`), "DAY $1"},
	{regexp.MustCompile(`pid[ =]\d+`), "PID"},
	{regexp.MustCompile(`(root|adm) +\d+ `), "$1 SIZE "}, // a pid is in it
}

// matches says whether out is what a document shows. A line "..." there is any
// number of lines.
func matches(want, out string) bool {
	for _, o := range others {
		want, out = o.what.ReplaceAllString(want, o.in), o.what.ReplaceAllString(out, o.in)
	}
	parts := strings.Split(want, "...\n")
	rest, ok := strings.CutPrefix(out, parts[0])
	for _, part := range parts[1:] {
		i := strings.Index(rest, part)
		if ok = ok && i >= 0; ok {
			rest = rest[i+len(part):]
		}
	}
	return ok && (rest == "" || len(parts) > 1 && parts[len(parts)-1] == "")
}
