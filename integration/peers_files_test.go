package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// losses are what kills have cost.
type losses struct {
	kills, lines int
	lost         int // lines said that are in no file
	most         int // of them, in one place
	told         int // of them, those that a mark in a file stands for
	repeated     int // lines that do not follow those before them
	torn         int // lines that are not whole
	archives     int // that were there and are gone
	refused      int // starts that ended by themselves
}

func (l *losses) add(m losses) {
	l.kills += m.kills
	l.lines += m.lines
	l.lost += m.lost
	l.most = max(l.most, m.most)
	l.told += m.told
	l.repeated += m.repeated
	l.torn += m.torn
	l.archives += m.archives
	l.refused += m.refused
}

// A hole is a place where lines are missing.
type hole struct{ after, lines int }

// files lists the files that hold lines, oldest first, and notes the archives.
// An archive keeps its label for ever; its suffix may change.
func (s *seat) files() (paths []string) {
	names, _ := os.ReadDir(s.dir)
	for _, e := range names {
		if strings.HasPrefix(e.Name(), "@") {
			paths = append(paths, filepath.Join(s.dir, e.Name()))
			s.labels[label(e.Name())] = true
		}
	}
	sort.Strings(paths)
	return append(paths, filepath.Join(s.dir, "previous"), filepath.Join(s.dir, "current"))
}

func label(name string) string {
	label, _, _ := strings.Cut(filepath.Base(name), ".")
	return label
}

// archived is how many archives there have been.
func (s *seat) archived() int {
	s.files()
	return len(s.labels)
}

// newest is the last line that the files hold whole.
func (s *seat) newest() int {
	paths := s.files()
	for i := len(paths) - 1; i >= 0; i-- {
		b, _ := os.ReadFile(paths[i]) // which may have been rotated
		for text := string(b); text != ""; {
			var line string
			at := strings.LastIndexByte(strings.TrimSuffix(text, "\n"), '\n') + 1
			text, line = text[:at], text[at:]
			if n := s.numberOf(line); n != 0 {
				return n
			}
		}
	}
	return 0
}

// numberOf is the number of a stored line, 0 if it is not whole.
func (s *seat) numberOf(line string) int {
	at := strings.Index(line, "n=")
	text, whole := strings.CutSuffix(line, "\n")
	if at < 0 || !whole || !s.logger.stamp.MatchString(line[:at]) {
		return 0
	}
	return numberOf(text[at:])
}

// account reads what the loggers of this seat have left, and says where lines
// are missing.
func (s *seat) account() []hole {
	s.t.Helper()
	seen := make([]bool, s.said+2)
	there := map[string]bool{}
	last := 0
	for _, path := range s.files() {
		there[label(path)] = true
		b, err := os.ReadFile(path)
		if err != nil && !os.IsNotExist(err) {
			s.t.Fatal(err)
		}
		for line := range strings.SplitAfterSeq(string(b), "\n") {
			if n := s.numberOf(line); n != 0 {
				s.count(n, &last, seen)
			} else if line != "" && !s.isMark(line) {
				s.torn++
			}
		}
	}
	for l := range s.labels {
		if !there[l] {
			s.archives++
		}
	}
	return s.holes(seen)
}

func (s *seat) count(n int, last *int, seen []bool) {
	if n <= *last || n > s.said {
		s.repeated++
		return
	}
	*last, seen[n] = n, true
}

// isMark says whether logfs has made a line, and adds up what its lost marks
// tell.
func (s *seat) isMark(line string) bool {
	m := storedLine.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
	if s.d == nil || m == nil || m[2] != "=" || !strings.HasSuffix(line, "\n") {
		return false
	}
	var n int
	if _, err := fmt.Sscanf(m[3], "lost lines=%d", &n); err == nil {
		s.told += n
	}
	return true
}

func (s *seat) holes(seen []bool) (holes []hole) {
	seen[0], seen[s.said+1] = true, true
	last := 0
	for n, is := range seen {
		if is && n > last+1 {
			holes = append(holes, hole{last, n - last - 1})
			s.lost += n - last - 1
			s.most = max(s.most, n-last-1)
		}
		if is {
			last = n
		}
	}
	s.lines = s.said
	return holes
}
