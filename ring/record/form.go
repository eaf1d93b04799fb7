package record

import (
	"bytes"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// AppendText appends r as readers of current and follow see it: NUL as the
// four characters \x00, a mark as a sentence, a newline unless the line goes
// on. The caller adds the newline that a broken-off line still needs.
func (r *Record) AppendText(dst []byte, service string) []byte {
	if r.Kind == Mark {
		return r.appendSentence(dst, service)
	}
	for text := r.Text; ; {
		i := bytes.IndexByte(text, 0)
		if i < 0 {
			dst = append(dst, text...)
			break
		}
		dst = append(append(dst, text[:i]...), `\x00`...)
		text = text[i+1:]
	}
	if r.More {
		return dst
	}
	return append(dst, '\n')
}

// TextLen is the number of bytes AppendText appends.
func (r *Record) TextLen(service string) int {
	if r.Kind == Mark {
		return len(r.appendSentence(nil, service))
	}
	n := len(r.Text) + 3*bytes.Count(r.Text, nul)
	if !r.More {
		n++
	}
	return n
}

var nul = []byte{0}

// AppendBytes appends r as the service wrote it: the byte-exact form.
func (r *Record) AppendBytes(dst []byte) []byte {
	dst = append(dst, r.Text...)
	if r.More {
		return dst
	}
	return append(dst, '\n')
}

// BytesLen is the number of bytes AppendBytes appends.
func (r *Record) BytesLen() int {
	if r.More {
		return len(r.Text)
	}
	return len(r.Text) + 1
}

// AppendSeq appends r as a numbered record, in the manner of /dev/kmsg:
//
//	@400000006b00928d1908bac4,web,42,18441,o;GET /health 200\n
//
// Control characters, invalid bytes and the backslash are written \xNN, so
// the text can neither end the record nor drive a terminal; other UTF-8 is
// left alone. A text that begins with a priority, as messages to syslog do and
// lines that services write for systemd, has it in the header too:
//
//	@400000006b00928d1908bac4,log,1,7,o,pri=165;<165>1 2026-11-20T02:50:00Z …\n
func (r *Record) AppendSeq(dst []byte, service string) []byte {
	dst = append(dst, r.label...)
	dst = append(dst, ',')
	dst = append(dst, service...)
	dst = append(dst, ',')
	dst = strconv.AppendUint(dst, r.Run, 10)
	dst = append(dst, ',')
	dst = strconv.AppendUint(dst, r.Seq, 10)
	if r.Last != r.Seq {
		dst = append(dst, '-')
		dst = strconv.AppendUint(dst, r.Last, 10)
	}
	dst = append(dst, ',', byte(r.Kind))
	if r.More {
		dst = append(dst, '+')
	}
	if pri := r.priority(); pri != nil {
		dst = append(append(dst, fieldPri...), pri...)
	}
	dst = append(dst, ';')
	dst = appendEscaped(dst, r.Text)
	return append(dst, '\n')
}

// SeqLen is the number of bytes AppendSeq appends.
func (r *Record) SeqLen(service string) int {
	n := StampLen + len(",,,,o;\n") + len(service) + digits(r.Run) + digits(r.Seq) + len(r.Text)
	if r.Last != r.Seq {
		n += 1 + digits(r.Last)
	}
	if r.More {
		n++
	}
	if pri := r.priority(); pri != nil {
		n += len(fieldPri) + len(pri)
	}
	for at, bad := nextBad(r.Text, 0); bad > 0; at, bad = nextBad(r.Text, at+bad) {
		n += 3 * bad
	}
	return n
}

// fieldPri begins the header field that has the priority.
const fieldPri = ",pri="

// maxPriority is that of the facility local7 and the severity debug.
const maxPriority = 191

// priority is the digits between the angle brackets that the text begins with,
// nil if it does not begin with a priority as RFC 3164 and RFC 5424 have it. It
// is what the writer of the line says, and of the first piece of a line only by
// intent: a later piece that looks so is taken for one too, because a record is
// shown the same wherever reading begins.
func (r *Record) priority() []byte {
	text := r.Text
	if len(text) < 3 || text[0] != '<' || r.Kind == Mark {
		return nil
	}
	n, end := 0, 1
	for ; end < min(len(text), 5) && '0' <= text[end] && text[end] <= '9'; end++ {
		n = 10*n + int(text[end]-'0')
	}
	leadingZero := text[1] == '0' && end > 2
	if end == 1 || end == len(text) || text[end] != '>' || leadingZero || n > maxPriority {
		return nil
	}
	return text[1:end]
}

func digits(v uint64) int {
	n := 1
	for ; v >= 10; v /= 10 {
		n++
	}
	return n
}

// suspect tells which bytes of a text nextBad has to look at: control bytes,
// DEL and the backslash, and all that is not ASCII.
var suspect = func() (t [256]bool) {
	for c := range t {
		t[c] = c < 0x20 || c >= 0x7f || c == '\\'
	}
	return t
}()

// nextBad finds the next bytes from i on that a seq record must not hold as
// they are; bad is how many, 0 if there are none. The control characters
// U+0080 to U+009F drive terminals too, as UTF-8 or as single bytes, so they
// and every invalid byte are bad; other UTF-8 is good.
func nextBad(text []byte, i int) (at, bad int) {
	for i < len(text) {
		if !suspect[text[i]] {
			i++
			continue
		}
		if text[i] < utf8.RuneSelf {
			return i, 1
		}
		r, size := utf8.DecodeRune(text[i:])
		if r < 0xa0 || (r == utf8.RuneError && size == 1) {
			return i, size
		}
		i += size
	}
	return i, 0
}

func appendEscaped(dst, text []byte) []byte {
	done := 0
	for at, bad := nextBad(text, 0); bad > 0; at, bad = nextBad(text, at+bad) {
		dst = append(dst, text[done:at]...)
		for _, c := range text[at : at+bad] {
			dst = append(dst, '\\', 'x', hexits[c>>4], hexits[c&15])
		}
		done = at + bad
	}
	return append(dst, text[done:]...)
}

// appendSentence appends a mark as a person reads it, a whole line:
//
//	-- web run 42 started 2026-11-20T03:12:07Z pid 4242 --
//	-- web run 42 exited 1 after 3m12s --
//	-- web lost 1523 lines 18442-19964 --
//	-- web cut off after line 18441 2026-11-20T03:12:07Z, 17 bytes torn: later lines may be lost --
func (r *Record) appendSentence(dst []byte, service string) []byte {
	dst = append(append(dst, "-- "...), service...)
	switch {
	case bytes.HasPrefix(r.Text, []byte(verbStart)):
		dst = r.appendStarted(dst)
	case bytes.HasPrefix(r.Text, []byte(verbExit)):
		dst = r.appendExited(dst)
	case bytes.HasPrefix(r.Text, []byte(verbLost)):
		dst = r.appendLost(dst)
	case bytes.HasPrefix(r.Text, []byte(verbCut)):
		dst = r.appendCut(dst)
	default:
		dst = append(append(dst, ' '), r.Text...)
	}
	return append(dst, " --\n"...)
}

func (r *Record) appendRun(dst []byte) []byte {
	return strconv.AppendUint(append(dst, " run "...), r.Run, 10)
}

func (r *Record) appendStarted(dst []byte) []byte {
	dst = append(r.appendRun(dst), " started "...)
	dst = time.Unix(0, int64(r.Time())).UTC().AppendFormat(dst, time.RFC3339)
	if pid := field(r.Text, "pid="); pid != "" {
		dst = append(append(dst, " pid "...), pid...)
	}
	return dst
}

func (r *Record) appendExited(dst []byte) []byte {
	dst = r.appendRun(dst)
	if sig := field(r.Text, "signal="); sig != "" {
		dst = append(append(dst, " killed by SIG"...), sig...)
	} else if code := field(r.Text, "code="); code != "" {
		dst = append(append(dst, " exited "...), code...)
	} else {
		dst = append(dst, " ended"...)
	}
	secs, err := strconv.ParseFloat(strings.TrimSuffix(field(r.Text, "after="), "s"), 64)
	if err != nil {
		return dst
	}
	after := time.Duration(secs * float64(time.Second)).Round(time.Millisecond)
	return append(append(dst, " after "...), after.String()...)
}

func (r *Record) appendLost(dst []byte) []byte {
	dst = strconv.AppendUint(append(dst, " lost "...), r.Last-r.Seq+1, 10)
	dst = strconv.AppendUint(append(dst, " lines "...), r.Seq, 10)
	dst = append(dst, '-')
	return strconv.AppendUint(dst, r.Last, 10)
}

func (r *Record) appendCut(dst []byte) []byte {
	dst = append(append(dst, " cut off after line "...), field(r.Text, "after=")...)
	if t, ok := ParseStamp([]byte(field(r.Text, "last="))); ok {
		dst = time.Unix(0, int64(t)).UTC().AppendFormat(append(dst, ' '), time.RFC3339)
	}
	if torn := field(r.Text, "torn="); torn != "0" {
		dst = append(append(append(dst, ", "...), torn...), " bytes torn"...)
	}
	return append(dst, ": later lines may be lost"...)
}

// Lost returns the record that tells a reader that the numbers first to last
// cannot be had any more. t is the moment it is told.
func Lost(t Stamp, run, first, last uint64) Record {
	text := AppendLost(nil, last-first+1)
	return Record{Line: Line{Stamp: t, Kind: Mark, Text: text}, Seq: first, Last: last, Run: run, label: AppendStamp(nil, t)}
}
