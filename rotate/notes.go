package rotate

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"

	"logfs/ring/record"
)

// notes are what a compressed archive says of its records: the summary, and
// the survey unless there is none.
type notes struct {
	contents
	ok       bool // there is a summary
	survey   survey
	surveyed bool
}

// The survey is a line of text, too:
//
//	logfs survey=1 first=18441 next=19000 run=42 top=@4000… begins=o open=- breaks=0 out=500,45000,45000,68000 err=… marks=… runs=42:18441-18999,-,@4000…
//
// first, next and run are those of the records, as far as they can be read, and
// top is the greatest stamp. The others are record.Sizes and RunInfo; of each
// kind there are the Tally's numbers, of each run its number, its records, and
// when it began and ended. What the name of the service adds to sizes is left
// out. The survey of another version is not believed, because sizes may be
// others since. Whoever does not know the survey finds the summary where it always was:
// in gzip the survey is in the extra field of the header, under an id of its own,
// in zstd in a second skippable frame.
const surveyForm = "logfs survey=" + record.SizesVersion + " first=%d next=%d run=%d top=%s begins=%s open=%s breaks=%d out=%d,%d,%d,%d err=%d,%d,%d,%d marks=%d,%d,%d,%d runs="

// maxSurvey is what fits into the extra field. An archive with more runs than
// that has no survey, and is unpacked once when it is asked for.
const maxSurvey = 1<<16 - 1 - len(extraID) - 2

const extraID = "lg"

func (v *survey) text() string {
	b := fmt.Appendf(nil, surveyForm, v.first, v.next, v.run, record.AppendStamp(nil, v.top),
		kindText(v.sizes.First), kindText(v.sizes.Open), v.sizes.Breaks,
		v.sizes.Out.Records, v.sizes.Out.Text, v.sizes.Out.Bytes, v.sizes.Out.Seq,
		v.sizes.Err.Records, v.sizes.Err.Text, v.sizes.Err.Bytes, v.sizes.Err.Seq,
		v.sizes.Marks.Records, v.sizes.Marks.Text, v.sizes.Marks.Bytes, v.sizes.Marks.Seq)
	for i, r := range v.runs {
		if i > 0 {
			b = append(b, ';')
		}
		b = fmt.Appendf(b, "%d:%d-%d,%s,%s", r.Run, r.First, r.Last, stampText(r.Began), stampText(r.Ended))
	}
	return string(b)
}

// parseSurvey accepts only what text can have made.
func parseSurvey(text string) (v survey, ok bool) {
	head, runs, _ := strings.Cut(text, "runs=")
	var top, begins, open string
	o, e, m := &v.sizes.Out, &v.sizes.Err, &v.sizes.Marks
	_, err := fmt.Sscanf(head+"runs=", surveyForm, &v.first, &v.next, &v.run, &top, &begins, &open, &v.sizes.Breaks,
		&o.Records, &o.Text, &o.Bytes, &o.Seq, &e.Records, &e.Text, &e.Bytes, &e.Seq, &m.Records, &m.Text, &m.Bytes, &m.Seq)
	if err != nil {
		return v, false
	}
	v.top, _ = record.ParseStamp([]byte(top))
	v.sizes.First, v.sizes.Open = textKind(begins), textKind(open)
	for s := range strings.SplitSeq(runs, ";") {
		if r, ok := parseRun(s); ok {
			v.runs = append(v.runs, r)
		}
	}
	return v, v.text() == text
}

func parseRun(text string) (r RunInfo, ok bool) {
	var began, ended string
	text = strings.ReplaceAll(text, ",", " ")
	_, err := fmt.Sscanf(text, "%d:%d-%d %s %s", &r.Run, &r.First, &r.Last, &began, &ended)
	r.Began, _ = record.ParseStamp([]byte(began))
	r.Ended, _ = record.ParseStamp([]byte(ended))
	return r, err == nil
}

const none = "-"

func stampText(t record.Stamp) string {
	if t == 0 {
		return none
	}
	return string(record.AppendStamp(nil, t))
}

func kindText(k record.Kind) string {
	if k == 0 {
		return none
	}
	return string(rune(k))
}

func textKind(s string) record.Kind {
	if s == none {
		return 0
	}
	return record.Kind(s[0])
}

// extraField is the extra field of a gzip header with a survey in it.
func extraField(survey string) []byte {
	b := binary.LittleEndian.AppendUint16([]byte(extraID), uint16(len(survey)))
	return append(b, survey...)
}

// ofExtraField finds the survey among the parts of an extra field.
func ofExtraField(b []byte) string {
	for len(b) >= 4 {
		size := 4 + int(binary.LittleEndian.Uint16(b[2:]))
		if size > len(b) {
			break
		}
		if string(b[:2]) == extraID {
			return string(b[4:size])
		}
		b = b[size:]
	}
	return ""
}

// frame is a zstd frame that decoders skip.
func frame(text string) []byte {
	b := binary.LittleEndian.AppendUint32(nil, skippable)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(text)))
	return append(b, text...)
}

// ofFrame reads the text of a frame that decoders skip, if one comes next.
func ofFrame(r *bufio.Reader) string {
	b, _ := r.Peek(8)
	if len(b) < 8 || binary.LittleEndian.Uint32(b) != skippable {
		return ""
	}
	size := binary.LittleEndian.Uint32(b[4:])
	if size > uint32(maxSurvey) {
		return ""
	}
	text := make([]byte, 8+size)
	if _, err := io.ReadFull(r, text); err != nil {
		return ""
	}
	return string(text[8:])
}

// readNotes reads what stands before the data of a compressed archive.
func readNotes(f io.ReaderAt, form Compression) (n notes, err error) {
	in := trackReader{Reader: io.NewSectionReader(f, 0, 1<<18)}
	r := bufio.NewReaderSize(&in, 1<<10)
	var summary, text string
	if form == Gzip {
		if z, err := gzip.NewReader(r); err == nil {
			summary, text = z.Comment, ofExtraField(z.Extra)
		}
	} else if summary = ofFrame(r); summary != "" {
		text = ofFrame(r)
	}
	if in.err != nil {
		return n, in.err
	}
	if n.contents, n.ok = parseSummary(summary); n.ok {
		n.survey, n.surveyed = parseSurvey(text)
		n.top = n.survey.top
	}
	return n, nil
}

// readSummary finds the summary of a compressed archive.
func readSummary(f io.ReaderAt, form Compression) (c contents, ok bool, err error) {
	n, err := readNotes(f, form)
	return n.contents, n.ok, err
}
