package record

import (
	"bytes"
	"strconv"
	"time"
)

// The verbs of marks, as they begin the stored text of a mark.
const (
	verbStart = "start "
	verbExit  = "exit "
	verbLost  = "lost "
	verbCut   = "cut "
	verbFile  = "logfs "
)

// AppendStart appends the text of the mark that begins a run:
// "start run=42 pid=4242". A pid of 0 is left out: it is not known.
func AppendStart(dst []byte, run uint64, pid int) []byte {
	dst = append(dst, verbStart+"run="...)
	dst = strconv.AppendUint(dst, run, 10)
	if pid > 0 {
		dst = append(dst, " pid="...)
		dst = strconv.AppendInt(dst, int64(pid), 10)
	}
	return dst
}

// AppendUser appends to the text of a start mark whose process it was:
// " uid=1000".
func AppendUser(dst []byte, uid uint32) []byte {
	return strconv.AppendUint(append(dst, " uid="...), uint64(uid), 10)
}

// An Exit says how a run ended.
type Exit struct {
	// Known is false when nobody saw the status; Code and Signal are unset.
	Known bool
	Code  int
	// Signal is a name without SIG, such as KILL; empty if none.
	Signal string
	After  time.Duration
}

// AppendExit appends the text of the mark that ends a run:
// "exit code=1 after=192s", "exit signal=KILL after=0.25s" or "exit after=3s".
func AppendExit(dst []byte, e Exit) []byte {
	dst = append(dst, verbExit...)
	switch {
	case e.Known && e.Signal != "":
		dst = append(dst, "signal="...)
		dst = append(append(dst, e.Signal...), ' ')
	case e.Known:
		dst = append(dst, "code="...)
		dst = append(strconv.AppendInt(dst, int64(e.Code), 10), ' ')
	}
	dst = append(dst, "after="...)
	dst = strconv.AppendFloat(dst, roundAfter(e.After).Seconds(), 'f', -1, 64)
	return append(dst, 's')
}

// roundAfter keeps three digits for short runs and seconds for long ones.
func roundAfter(d time.Duration) time.Duration {
	if d < 10*time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(time.Second)
}

// AppendLost appends the text of the mark that stands for n lost lines.
func AppendLost(dst []byte, n uint64) []byte {
	dst = append(dst, verbLost+"lines="...)
	return strconv.AppendUint(dst, n, 10)
}

// A Cut says where a log was cut off by a crash that may have taken lines with
// it, nobody knows how many.
type Cut struct {
	After uint64 // number of the last record that is left, 0 if none is
	Last  Stamp  // its stamp
	Torn  int64  // bytes of lines that were not whole, and have been removed
}

// AppendCut appends the text of the mark that tells of c:
// "cut after=18441 last=@400000006b00928d1908bac4 torn=17".
func AppendCut(dst []byte, c Cut) []byte {
	dst = strconv.AppendUint(append(dst, verbCut+"after="...), c.After, 10)
	if c.Last != 0 {
		dst = AppendStamp(append(dst, " last="...), c.Last)
	}
	return strconv.AppendInt(append(dst, " torn="...), c.Torn, 10)
}

// IsCut says whether l is the mark of a cut.
func IsCut(l Line) bool { return l.Kind == Mark && bytes.HasPrefix(l.Text, []byte(verbCut)) }

// Span returns how many numbers the record of l takes: as many as it says
// were lost for a lost mark, 1 for everything else.
func Span(l Line) uint64 {
	if l.Kind != Mark || !bytes.HasPrefix(l.Text, []byte(verbLost)) {
		return 1
	}
	if n, err := strconv.ParseUint(field(l.Text, "lines="), 10, 64); err == nil && n > 0 {
		return n
	}
	return 1
}

// StartRun returns the run that a start mark begins.
func StartRun(l Line) (run uint64, ok bool) {
	if l.Kind != Mark || !bytes.HasPrefix(l.Text, []byte(verbStart)) {
		return 0, false
	}
	run, err := strconv.ParseUint(field(l.Text, "run="), 10, 64)
	return run, err == nil
}

// IsExit says whether l is a mark that ends a run.
func IsExit(l Line) bool { return l.Kind == Mark && bytes.HasPrefix(l.Text, []byte(verbExit)) }

// field returns the value of the first blank-separated word of text that
// begins with name, or "".
func field(text []byte, name string) string {
	for word := range bytes.FieldsSeq(text) {
		if bytes.HasPrefix(word, []byte(name)) {
			return string(word[len(name):])
		}
	}
	return ""
}

// A Header is the first line of every file of a logdir. It is not a record
// and takes no number: it says what the numbers of the file are counted from.
type Header struct {
	Stamp   Stamp
	Service string
	// Run is the run in force at the first record, 0 before the first run.
	Run uint64
	// First is the number of the first record.
	First uint64
	// Top is the greatest stamp in the file before, if that is greater than
	// Stamp: the clock stepped back there. Else it is 0.
	Top Stamp
}

// formatVersion is the version of the stored form that a Header names.
const formatVersion = "1"

// AppendHeader appends h as a whole line:
//
//	@400000006b00928d1908bac4 = logfs format=1 service=web run=42 first=18441\n
//
// Where there is a Top it follows: " top=@400000006b0092a11d3c0f08".
func AppendHeader(dst []byte, h Header) []byte {
	dst = AppendStamp(dst, h.Stamp)
	dst = append(dst, " = "+verbFile+"format="+formatVersion+" service="...)
	dst = append(dst, h.Service...)
	dst = append(dst, " run="...)
	dst = strconv.AppendUint(dst, h.Run, 10)
	dst = append(dst, " first="...)
	dst = strconv.AppendUint(dst, h.First, 10)
	if h.Top > h.Stamp {
		dst = AppendStamp(append(dst, " top="...), h.Top)
	}
	return append(dst, '\n')
}

// ParseHeader takes the header of a file apart; false for anything else,
// a header of another format version included.
func ParseHeader(b []byte) (Header, bool) {
	l, err := Parse(b)
	if err != nil || l.Kind != Mark || !bytes.HasPrefix(l.Text, []byte(verbFile)) {
		return Header{}, false
	}
	h := Header{Stamp: l.Stamp, Service: field(l.Text, "service=")}
	run, err1 := strconv.ParseUint(field(l.Text, "run="), 10, 64)
	first, err2 := strconv.ParseUint(field(l.Text, "first="), 10, 64)
	h.Run, h.First = run, first
	h.Top, _ = ParseStamp([]byte(field(l.Text, "top=")))
	ok := field(l.Text, "format=") == formatVersion && h.Service != "" && err1 == nil && err2 == nil
	return h, ok && first > 0
}
