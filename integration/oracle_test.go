package integration

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"logfs/ring/record"
)

// A said is one record of a logdir.
type said struct {
	seq, last, run uint64
	stored         []byte
	record.Record
}

// An ledger is what a service's files have said, kept also when they are gone.
type ledger struct {
	d      *daemon
	name   string
	marks  bool
	w      [2]*os.File
	all    map[uint64]said
	lines  []said // those that can be had
	oldest uint64 // in the files
}

// take reads the files, and finds out which records the ring or they have.
func (a *ledger) take() {
	t := a.d.t
	a.oldest = 0
	files, err := filepath.Glob(filepath.Join(a.d.logdir(a.name), "@*"))
	must(t, err)
	slices.Sort(files)
	for _, f := range append(files, filepath.Join(a.d.logdir(a.name), "current")) {
		if !a.takeFile(f) {
			a.take() // it was renamed, or deleted
			return
		}
	}
	first, err := strconv.ParseUint(a.d.statusOf(a.name)[statusFirst], 10, 64)
	if err == nil {
		a.oldest = min(a.oldest, first)
	}
	a.lines = nil
	for _, seq := range slices.Sorted(maps.Keys(a.all)) {
		if seq >= a.oldest {
			a.lines = append(a.lines, a.all[seq])
		}
	}
}

func (a *ledger) takeFile(name string) (ok bool) {
	t := a.d.t
	cat := map[string]string{".gz": "zcat", ".zst": "zstdcat"}[filepath.Ext(name)]
	if cat == "" {
		cat = "cat"
	}
	b, err := exec.Command(cat, name).Output()
	if err != nil {
		return false
	}
	head, rest, _ := bytes.Cut(b, []byte{'\n'})
	h, ok := record.ParseHeader(head)
	if !ok {
		t.Fatalf("%s begins with %q", name, head)
	}
	if a.oldest == 0 {
		a.oldest = h.First
	}
	s := record.Scanner{Buf: rest, Seq: h.First, Run: h.Run}
	for before := s; ; before = s {
		rec, ok := s.Next()
		if !ok {
			break
		}
		a.all[rec.Seq] = said{rec.Seq, rec.Last, rec.Run, before.Buf[:len(before.Buf)-len(s.Buf)], rec}
	}
	if len(s.Buf) > 0 {
		t.Fatalf("%s ends with %q", name, s.Buf)
	}
	return true
}

// A choice is what is chosen on the way to a file, and what it shows.
type choice struct {
	streams string // "", stdout, stderr
	run     uint64
	since   string // the point
	from    uint64
	asked   bool // from was named
}

func (c *choice) takes(s *said) bool {
	return (c.run == 0 || s.run == c.run) && s.last >= c.from
}

// text is what the records say, as readers of the file called name have it.
func (c *choice) text(a *ledger, name string, lines []said) string {
	var out []byte
	var open record.Kind
	kind := map[string]record.Kind{"stdout": record.Out, "stderr": record.Err}[c.streams]
	for _, s := range lines {
		s := s
		takes := kind == 0 || s.Kind == kind
		switch {
		case name == "seq":
			if takes {
				out = s.AppendSeq(out, a.name)
			}
			continue
		case kind != 0:
			if takes {
				out = s.AppendBytes(out)
			}
			continue
		}
		if open != 0 && open != s.Kind {
			out = append(out, '\n')
		}
		if s.Kind != record.Mark || a.marks {
			out = s.AppendText(out, a.name)
		}
		if open = 0; s.More {
			open = s.Kind
		}
	}
	return string(out)
}

// want is the text of a choice from the past.
func (c *choice) want(a *ledger, name string) string {
	var lines []said
	for _, s := range a.lines {
		if c.takes(&s) {
			lines = append(lines, s)
		}
	}
	lead := ""
	if c.asked && c.from < a.oldest && c.streams == "" && (a.marks || name == "seq") && len(lines) > 0 && c.run == 0 {
		first := a.lines[0]
		run := first.run
		if _, begins := record.StartRun(first.Line); begins {
			run--
		}
		rec := record.Lost(first.Time()-1, run, c.from, a.oldest-1)
		if lead = string(rec.AppendText(nil, a.name)); name == "seq" {
			lead = string(rec.AppendSeq(nil, a.name))
		}
	}
	return lead + c.text(a, name, lines)
}

// path is the way to the directory, in a random order.
func (c *choice) path(r *rand.Rand) string {
	var way []string
	if c.streams != "" {
		way = append(way, c.streams)
	}
	if c.run > 0 {
		way = append(way, fmt.Sprintf("run/%d", c.run))
	}
	if c.since != "" {
		way = append(way, "since/"+c.since)
	}
	r.Shuffle(len(way), func(i, j int) { way[i], way[j] = way[j], way[i] })
	return strings.Join(way, "/")
}

// point chooses one of the forms.
func (c *choice) point(a *ledger, r *rand.Rand) {
	s := a.lines[r.Intn(len(a.lines))]
	at := s.Time()
	switch r.Intn(5) {
	case 0:
		c.since = "start"
		return
	case 1:
		c.since = "3h"
		return
	case 2:
		c.from, c.asked = uint64(r.Intn(int(a.lines[len(a.lines)-1].last))+1), true
		c.since = strconv.FormatUint(c.from, 10)
		return
	case 3:
		c.since = string(record.AppendStamp(nil, at))
	case 4:
		moment := time.Unix(0, int64(at)).UTC().Truncate(time.Second)
		at, c.since = record.Stamp(moment.UnixNano()), moment.Format(time.RFC3339)
	}
	for _, s := range a.lines {
		if s.Time() >= at {
			c.from = s.seq
			return
		}
	}
}

// chance chooses what is to be read.
func (a *ledger) chance(r *rand.Rand) (c choice) {
	c.streams = []string{"", "", "stdout", "stderr"}[r.Intn(4)]
	if r.Intn(2) == 0 {
		c.run = a.lines[r.Intn(len(a.lines))].run
	}
	if c.run == 0 || r.Intn(3) == 0 {
		c.point(a, r)
	}
	return c
}

// checkFile compares one file with what it has to be: as a whole, its size, and
// parts of it from any place, and with tools.
func (d *daemon) checkFile(r *rand.Rand, path, want string) {
	t := d.t
	t.Helper()
	fd, err := unix.Open(d.path(path), unix.O_RDONLY, 0)
	for err == unix.EINTR {
		fd, err = unix.Open(d.path(path), unix.O_RDONLY, 0)
	}
	must(t, err)
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	st, err := f.Stat()
	must(t, err)
	got, err := io.ReadAll(f)
	must(t, err)
	if string(got) != want {
		t.Errorf("%s: %s", path, difference(string(got), want))
		return
	}
	end, err := f.Seek(0, io.SeekEnd)
	if must(t, err); st.Size() != int64(len(want)) || end != int64(len(want)) {
		t.Errorf("%s: the size is %d and the end at %d, want %d", path, st.Size(), end, len(want))
	}
	for range 6 {
		off := r.Intn(len(want) + 1)
		b := make([]byte, 1+r.Intn(5000))
		n, err := f.ReadAt(b, int64(off))
		if whole := want[off:min(len(want), off+len(b))]; string(b[:n]) != whole || err != nil && err != io.EOF {
			t.Errorf("%s: %d bytes at %d: %v, %s", path, len(b), off, err, difference(string(b[:n]), whole))
			return
		}
	}
	if r.Intn(20) == 0 {
		d.checkTools(r, path, want)
	}
}

func (d *daemon) checkTools(r *rand.Rand, path, want string) {
	d.t.Helper()
	plain := filepath.Join(d.dir, "plain")
	must(d.t, os.WriteFile(plain, []byte(want), 0o644))
	n := r.Intn(len(want) + 2)
	for _, tool := range []string{"wc -c", fmt.Sprintf("tail -c %d", n), fmt.Sprintf("tail -n %d", n/100), "tac",
		fmt.Sprintf("head -c %d", n), "busybox tail -n 3", "md5sum"} {
		run := func(file string) string {
			return d.do(tool + " <" + file + "; " + tool + " " + file + "|cut -d' ' -f1")
		}
		if got, want := run("m/"+path), run("plain"); got != want {
			d.t.Errorf("%s %s: %s", tool, path, difference(got, want))
		}
	}
}

// speak writes what no well-behaved service says.
func (a *ledger) speak(r *rand.Rand) {
	for range 5 + r.Intn(40) {
		stream := r.Intn(3) / 2
		if a.w[stream] == nil {
			dir := [...]string{"stdout", "stderr"}[stream]
			f, err := os.OpenFile(a.d.path(a.name, dir, "current"), os.O_WRONLY|os.O_APPEND, 0)
			must(a.d.t, err)
			a.w[stream] = f
		}
		text := fmt.Sprintf("%d %s", r.Intn(1000), strings.Repeat("x", r.Intn(60)))
		switch r.Intn(12) {
		case 0:
			text += "\x00\x1b[1m\\ü\xff"
		case 1:
			text = strings.Repeat("long ", 30+r.Intn(100))
		case 2:
			text = ""
		case 3:
			text = "<13>" + text
		}
		if r.Intn(6) > 0 {
			text += "\n"
		}
		if text != "" {
			_, err := a.w[stream].WriteString(text)
			must(a.d.t, err)
		}
	}
}

// rest ends the run of the service.
func (a *ledger) rest() {
	for i, f := range a.w {
		if f != nil {
			f.Close()
		}
		a.w[i] = nil
	}
	eventually(a.d.t, func() string { return "the end of the run" }, func() bool { return a.d.statusOf(a.name)[statusState] != "running" })
}

var ringFirst = regexp.MustCompile(`^@[0-9a-f]{24},[^,]*,[0-9]+,([0-9]+)`)

// check compares what the mount has of a service with its files.
func (a *ledger) check(r *rand.Rand, files int) {
	a.take()
	if len(a.lines) == 0 {
		return
	}
	seq := a.d.read(a.name, "seq")
	if m := ringFirst.FindStringSubmatch(seq); m != nil {
		plain := choice{}
		plain.from, _ = strconv.ParseUint(m[1], 10, 64)
		for _, streams := range []string{"", "stdout", "stderr"} {
			plain.streams = streams
			for _, name := range []string{"current", "seq"} {
				a.d.checkFile(r, filepath.Join(a.name, streams, name), plain.want(a, name))
			}
		}
	}
	a.checkRuns()
	for range files {
		c := a.chance(r)
		name := []string{"current", "current", "seq"}[r.Intn(3)]
		if c.run > 0 && r.Intn(3) == 0 && c.run < a.lines[len(a.lines)-1].run {
			name = "follow"
		}
		a.d.checkFile(r, filepath.Join(a.name, c.path(r), name), c.want(a, name))
	}
}

// checkRuns wants each run listed of which there are records.
func (a *ledger) checkRuns() {
	runs := map[string]bool{}
	for _, s := range a.lines {
		if s.run > 0 {
			runs[strconv.FormatUint(s.run, 10)] = true
		}
	}
	entries, err := os.ReadDir(a.d.path(a.name, "run"))
	must(a.d.t, err)
	for _, e := range entries {
		if e.IsDir() && !runs[e.Name()] {
			a.d.t.Errorf("%s/run has %s", a.name, e.Name())
		}
		delete(runs, e.Name())
	}
	if len(runs) > 0 {
		a.d.t.Errorf("%s/run does not have %v", a.name, runs)
	}
}

// What the mount shows of the past is what the files say, whatever was written,
// and whatever happened to the files and to the daemon meanwhile.
func TestTheMountIsTheFiles(t *testing.T) {
	needTools(t, "zstdcat", "busybox")
	seed, steps, files := time.Now().UnixNano(), 8, 12
	if long {
		steps, files = 25, 40
	}
	if s := os.Getenv("ORACLE_SEED"); s != "" {
		seed, _ = strconv.ParseInt(s, 10, 64)
	}
	t.Logf("ORACLE_SEED=%d", seed)
	r := rand.New(rand.NewSource(seed))
	d := startDaemon(t, `[defaults]
size = "4KiB"
line-limit = 128
[service.a]
ring-lines = 20
keep = 1000
[service.b]
ring-lines = 150
keep = 1000
compress = "zstd"
[service.c]
ring-lines = 40
compress = "gzip"
marks = false
keep = 3
[service.d]
size = "16KiB"
keep = 2
`)
	d.expectLog("stale mount|not closed cleanly|torn")
	var all []*ledger
	for _, name := range []string{"a", "b", "c", "d"} {
		all = append(all, &ledger{d: d, name: name, marks: name != "c", all: map[uint64]said{}})
	}
	for step := 0; step < steps && !t.Failed(); step++ {
		for _, a := range all {
			for range 1 + r.Intn(4) {
				a.speak(r)
				a.take()
				if r.Intn(3) == 0 {
					a.rest()
				}
			}
		}
		switch r.Intn(6) {
		case 0:
			for _, a := range all {
				a.rest()
			}
			d.kill()
			d.start()
		case 1:
			for _, a := range all {
				a.rest()
			}
			d.replace()
		case 2:
			for _, a := range all {
				a.rest()
			}
			d.stop()
			d.start()
		case 3:
			d.logfs("rotate")
		}
		d.logfs("flush")
		for _, a := range all {
			a.check(r, files)
		}
		checkAllOf(all, r)
	}
	for _, a := range all {
		a.rest()
	}
}

// checkAllOf compares all/ with the files: every record once, by stamp.
func checkAllOf(all []*ledger, r *rand.Rand) {
	d := all[0].d
	for _, sel := range []choice{{}, {streams: "stdout"}, {streams: "stderr"}} {
		var want []said
		var names []string
		service := map[string]*ledger{}
		for _, a := range all {
			top := record.Stamp(0)
			for _, s := range a.lines {
				top = max(top, s.Time())
				s.Stamp = top
				want = append(want, s)
				names = append(names, a.name)
			}
			service[a.name] = a
		}
		order := make([]int, len(want))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(i, j int) int {
			switch {
			case want[i].Stamp < want[j].Stamp:
				return -1
			case want[i].Stamp > want[j].Stamp:
				return 1
			}
			return 0
		})
		var seq strings.Builder
		for _, i := range order {
			seq.WriteString(sel.text(service[names[i]], "seq", want[i:i+1]))
		}
		d.checkFile(r, filepath.Join("all", sel.streams, "since/start/seq"), seq.String())
	}
	for _, file := range []string{"all/current", "all/stdout/current", "all/stderr/current"} {
		d.checkFile(r, file, d.read(file))
	}
}
