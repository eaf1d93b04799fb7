package record

import "bytes"

// A Record is one record with the numbers its stored line does not carry.
type Record struct {
	Line
	// Seq is its number; a lost mark takes the numbers Seq to Last.
	Seq, Last uint64
	// Run is the run it belongs to; a start mark belongs to the run it begins.
	Run uint64
	// label is the stored stamp: most readers never need its value.
	label []byte
}

// Time returns the stamp of the record. Line.Stamp is not set by Scanner.
func (r *Record) Time() Stamp {
	t, _ := ParseStamp(r.label)
	return t
}

// A Scanner counts numbers and runs over stored lines that follow each other.
// Seq and Run are those in force at the next line. The zero Scanner reads
// nothing. It does not allocate.
type Scanner struct {
	Buf []byte
	Seq uint64
	Run uint64
}

// Next takes the next record off Buf. It returns false at the end of Buf and
// at bytes that are not a whole stored line, which it leaves in Buf.
func (s *Scanner) Next() (Record, bool) {
	end := bytes.IndexByte(s.Buf, '\n')
	if end < StampLen+3 {
		return Record{}, false
	}
	k, more, text, ok := split(s.Buf[:end])
	if !ok {
		return Record{}, false
	}
	r := Record{Line: Line{Kind: k, More: more, Text: text}, Seq: s.Seq, Last: s.Seq, Run: s.Run}
	if k == Mark {
		s.mark(&r)
	}
	r.label = s.Buf[:StampLen]
	s.Buf, s.Seq, s.Run = s.Buf[end+1:], r.Last+1, r.Run
	return r, true
}

func (s *Scanner) mark(r *Record) {
	r.Last = r.Seq + Span(r.Line) - 1
	if run, ok := StartRun(r.Line); ok {
		r.Run = run
	}
}
