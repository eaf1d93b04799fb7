package record

import (
	"bytes"
	"errors"
)

// Kind says which stream a record belongs to.
type Kind byte

// The kinds, as they stand in stored lines and in seq records. Only the
// daemon makes marks; no service can choose the kind of its lines.
const (
	Out  Kind = 'o'
	Err  Kind = 'e'
	Mark Kind = '='
)

// Overhead is the greatest number of bytes a stored line has beyond its text.
const Overhead = StampLen + len(" o+ ") + len("\n")

// A Line is one stored line, taken apart. Text aliases the parsed bytes.
type Line struct {
	Stamp Stamp
	Kind  Kind
	// More says that the service had not ended its line here: the line goes
	// on in the next record of the same stream, or its run ended before it
	// was finished.
	More bool
	Text []byte
}

// Append appends the stored form of one record to dst:
//
//	@400000006b00928d1908bac4 o GET /health 200\n
//
// text must not contain a newline.
func Append(dst []byte, t Stamp, k Kind, more bool, text []byte) []byte {
	dst = AppendStamp(dst, t)
	if more {
		dst = append(dst, ' ', byte(k), '+', ' ')
	} else {
		dst = append(dst, ' ', byte(k), ' ')
	}
	dst = append(dst, text...)
	return append(dst, '\n')
}

var errForm = errors.New(`not a stored record: want "@<24 hex digits> <o|e|=>[+] <text>"`)

// Parse takes one stored line apart, with or without its newline. It is
// strict: whatever Append cannot have written is an error.
func Parse(b []byte) (Line, error) {
	b = bytes.TrimSuffix(b, []byte{'\n'})
	if bytes.IndexByte(b, '\n') >= 0 {
		return Line{}, errForm
	}
	t, ok := ParseStamp(b)
	if !ok {
		return Line{}, errForm
	}
	k, more, text, ok := split(b)
	if !ok {
		return Line{}, errForm
	}
	return Line{Stamp: t, Kind: k, More: more, Text: text}, nil
}

// split finds kind and text behind the stamp of a stored line without newline.
func split(b []byte) (k Kind, more bool, text []byte, ok bool) {
	if len(b) < StampLen+3 || b[StampLen] != ' ' {
		return 0, false, nil, false
	}
	k, b = Kind(b[StampLen+1]), b[StampLen+2:]
	if b[0] == '+' {
		more, b = true, b[1:]
	}
	if len(b) == 0 || b[0] != ' ' || (k != Out && k != Err && k != Mark) || (more && k == Mark) {
		return 0, false, nil, false
	}
	return k, more, b[1:], true
}
