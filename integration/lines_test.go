package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"testing"
)

const filler = "the quick brown fox jumps over the lazy dog, and the lazy dog does not so much as lift its head"

// numbered is line i: about a hundred bytes, their count and content given by
// the number alone.
func numbered(i int) string {
	return fmt.Sprintf("n=%07d %s", i, filler[:len(filler)-i%23])
}

// numberedRun is lines from to to, each with its newline.
func numberedRun(from, to int) string {
	var b strings.Builder
	for i := from; i <= to; i++ {
		b.WriteString(numbered(i))
		b.WriteByte('\n')
	}
	return b.String()
}

// numberOf returns the number of a numbered line, or 0.
func numberOf(line string) int {
	if len(line) < 9 || line[:2] != "n=" {
		return 0
	}
	n, err := strconv.Atoi(line[2:9])
	if err != nil || line != numbered(n) {
		return 0
	}
	return n
}

var (
	startMark = regexp.MustCompile(`^-- (\S+) run (\d+) started \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ( pid \d+)? --$`)
	runMark   = regexp.MustCompile(`^-- (\S+) run (\d+) (\S.*) --$`)
	lostMark  = regexp.MustCompile(`^-- (\S+) lost (\d+) lines? (\d+)(?:-(\d+))? --$`)
	seqRecord = regexp.MustCompile(
		`^@([0-9a-f]{24}),([A-Za-z0-9][A-Za-z0-9._@:-]{0,99}),(\d+),(\d+)(?:-(\d+))?,([oe=]\+?)(?:,[^;]*)?;(.*)$`)
	storedLine = regexp.MustCompile(`^@([0-9a-f]{24}) ([oe=]\+?) (.*)$`)
	fileHeader = regexp.MustCompile(`^@[0-9a-f]{24} = logfs format=\d+ service=(\S+) run=(\d+) first=(\d+)$`)
)

// checkSnapshot checks that text is one consistent state of a service that
// writes numbered lines: marks of runs, then numbers without a gap, each line
// whole. It returns the first and the last number, 0 if there is none.
func checkSnapshot(t testing.TB, what, text string) (first, last int) {
	t.Helper()
	if text != "" && !strings.HasSuffix(text, "\n") {
		t.Fatalf("%s does not end at a line end: %q", what, tail(text, 200))
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if last == 0 && runMark.MatchString(line) {
			continue
		}
		n := numberOf(line)
		if n == 0 || last != 0 && n != last+1 {
			t.Fatalf("%s: after line %d came %q", what, last, line)
		}
		if first == 0 {
			first = n
		}
		last = n
	}
	return first, last
}

// An account follows the numbered lines of the first run of a service, as a
// reader sees them, and holds them against the marks between them. Number i
// of the lines has number i+1 in the service: the start mark has number 1.
type account struct {
	number  func(line string) int // 0: not a whole line; nil: numberOf
	next    int                   // number of the next line, 0 before the first
	lines   int
	marks   int
	lost    int // lines lost by the marks
	pending int // number that the lines go on with after a lost mark
	ended   bool
}

// add takes the next line, without its newline, and says what is wrong.
func (a *account) add(line string) error {
	if m := lostMark.FindStringSubmatch(line); m != nil {
		return a.addLost(line, m)
	}
	if m := runMark.FindStringSubmatch(line); m != nil {
		if !startMark.MatchString(line) {
			a.ended = true
		}
		return nil
	}
	number := a.number
	if number == nil {
		number = numberOf
	}
	n := number(line)
	switch {
	case n == 0:
		return fmt.Errorf("not a whole line: %q", line)
	case a.pending != 0 && n != a.pending:
		return fmt.Errorf("line %d after a mark that ends before %d", n, a.pending)
	case a.next != 0 && a.pending == 0 && n != a.next:
		return fmt.Errorf("line %d after line %d without a mark", n, a.next-1)
	}
	a.next, a.pending = n+1, 0
	a.lines++
	return nil
}

func (a *account) addLost(line string, m []string) error {
	count, _ := strconv.Atoi(m[2])
	from, _ := strconv.Atoi(m[3])
	to := from
	if m[4] != "" {
		to, _ = strconv.Atoi(m[4])
	}
	if count != to-from+1 || count < 1 {
		return fmt.Errorf("mark %q: %d numbers are not %d", line, to-from+1, count)
	}
	// From here on the numbers are those of the lines. The start mark may be
	// lost like any of them.
	from, to = max(from-1, 1), to-1
	count = to - from + 1
	switch {
	case a.pending != 0:
		return fmt.Errorf("mark %q follows a mark, no line between them", line)
	case a.next != 0 && from != a.next:
		return fmt.Errorf("mark %q after line %d", line, a.next-1)
	}
	a.marks++
	a.lost += count
	a.pending, a.next = to+1, to+1
	return nil
}

// checkAccount runs text through an account and returns it.
func checkAccount(t testing.TB, what, text string) *account {
	t.Helper()
	a := &account{}
	for line := range strings.Lines(text) {
		if !strings.HasSuffix(line, "\n") {
			t.Fatalf("%s: half a line: %q", what, line)
		}
		if err := a.add(strings.TrimSuffix(line, "\n")); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	return a
}

// logdirFiles lists the files of a logdir that hold lines, oldest first.
func logdirFiles(t testing.TB, dir string) []string {
	t.Helper()
	archives, err := filepath.Glob(filepath.Join(dir, "@*"))
	must(t, err)
	sort.Strings(archives)
	return append(archives, filepath.Join(dir, "current"))
}

// readLogdir returns the stored lines of a logdir in order, without the
// headers, having checked the form of each line and the numbers of the files.
func readLogdir(t testing.TB, dir string) []string {
	t.Helper()
	var lines []string
	next := 0
	for _, path := range logdirFiles(t, dir) {
		b, err := os.ReadFile(path)
		must(t, err)
		text, ok := strings.CutSuffix(string(b), "\n")
		if !ok {
			t.Fatalf("%s does not end at a line end", path)
		}
		all := strings.Split(text, "\n")
		first := headerFirst(t, path, all[0])
		if next != 0 && first != next {
			t.Fatalf("%s begins with number %d, want %d", path, first, next)
		}
		for _, line := range all[1:] {
			if !storedLine.MatchString(line) {
				t.Fatalf("%s: not a stored line: %q", path, line)
			}
		}
		lines = append(lines, all[1:]...)
		next = first + len(all) - 1
	}
	return lines
}

func headerFirst(t testing.TB, path, line string) int {
	t.Helper()
	m := fileHeader.FindStringSubmatch(line)
	if m == nil || m[1] != filepath.Base(filepath.Dir(path)) {
		t.Fatalf("%s: bad header %q", path, line)
	}
	first, err := strconv.Atoi(m[3])
	must(t, err)
	return first
}

// storedText is the text of a stored line.
func storedText(line string) string {
	if m := storedLine.FindStringSubmatch(line); m != nil {
		return m[3]
	}
	return ""
}

// A seqRec is one record of a seq file.
type seqRec struct {
	stamp, service   string
	run, first, last int
	kind, text       string
}

// parseSeq parses a seq file, strictly, and checks that the numbers are dense
// and the stamps increase.
func parseSeq(t testing.TB, text string) []seqRec {
	t.Helper()
	var recs []seqRec
	for line := range strings.Lines(text) {
		m := seqRecord.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil || !strings.HasSuffix(line, "\n") {
			t.Fatalf("not a seq record: %q", line)
		}
		r := seqRec{stamp: m[1], service: m[2], kind: m[6], text: m[7]}
		r.run, _ = strconv.Atoi(m[3])
		r.first, _ = strconv.Atoi(m[4])
		r.last = r.first
		if m[5] != "" {
			r.last, _ = strconv.Atoi(m[5])
		}
		if n := len(recs); n > 0 {
			prev := recs[n-1]
			if r.first != prev.last+1 || r.stamp <= prev.stamp || r.run < prev.run {
				t.Fatalf("seq record %q follows %+v", line, prev)
			}
		}
		recs = append(recs, r)
	}
	return recs
}

// tail is the last n bytes of s.
func tail(s string, n int) string {
	if len(s) > n {
		return "..." + s[len(s)-n:]
	}
	return s
}
