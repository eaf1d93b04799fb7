package capture

import "bytes"

// DefaultLimit is the line limit where none is given.
const DefaultLimit = 10_000

// Stream says which output of a service a piece comes from.
type Stream uint8

// The streams of a service.
const (
	Stdout Stream = 1
	Stderr Stream = 2
)

// String is the name of the stream as people know it.
func (s Stream) String() string {
	switch s {
	case Stdout:
		return "stdout"
	case Stderr:
		return "stderr"
	}
	return "unknown stream"
}

// Piece is a line, or a part of one, without its newline.
type Piece struct {
	Stream Stream
	// More says that the service had not ended its line here: the next piece
	// of this stream goes on with it, or the stream ended without a newline.
	More bool
	// Text belongs to the reader's buffers; copy what must be kept.
	Text []byte
}

// Splitter cuts the bytes of one stream into pieces. How the bytes are divided
// among calls of Split does not change the pieces.
//
// It keeps the unfinished line only, so its memory is bounded by the limit and
// one chunk of the caller.
type Splitter struct {
	stream Stream
	limit  int    // of the unfinished line
	coming int    // the limit of those after it
	part   []byte // the unfinished line so far, at most limit bytes
	given  bool   // a piece of the last call is part: its bytes must stay
	next   []byte // the unfinished line while given; moved to part by settle
}

// NewSplitter returns a Splitter for lines of at most limit bytes, DefaultLimit
// if limit is not positive.
func NewSplitter(stream Stream, limit int) *Splitter {
	if limit <= 0 {
		limit = DefaultLimit
	}
	return &Splitter{stream: stream, limit: limit, coming: limit}
}

// SetLimit sets another limit, from the next line on. One that is not positive
// changes nothing.
func (s *Splitter) SetLimit(limit int) {
	if limit > 0 {
		s.coming = limit
	}
}

// Split appends to out the pieces that chunk completes, in order. Their text
// is valid until the next call, and as long as chunk is not changed.
//
// A line of up to limit bytes is one piece. A longer one is pieces of exactly
// limit bytes with More set and a last piece with the rest, at least one byte;
// such a piece is given out when the byte after it was seen.
func (s *Splitter) Split(chunk []byte, out []Piece) []Piece {
	s.settle()
	for len(chunk) > 0 {
		if s.held() == 0 { // at the start of a line
			s.limit = s.coming
		}
		end := bytes.IndexByte(chunk, '\n')
		if end < 0 {
			var rest []byte
			rest, out = s.cut(chunk, out)
			s.keep(rest)
			break
		}
		line := chunk[:end:end]
		chunk = chunk[end+1:]
		if s.held()+end > s.limit {
			line, out = s.cut(line, out)
		}
		out = append(out, s.piece(line, false))
	}
	return out
}

// Finish appends the unfinished last line to out, as a piece with More set, if
// there is one. After it the Splitter is as new.
func (s *Splitter) Finish(out []Piece) []Piece {
	s.settle()
	if s.held() > 0 {
		out = append(out, s.piece(nil, true))
	}
	return out
}

// settle prepares a new call: what the last one gave out is no longer used.
func (s *Splitter) settle() {
	if !s.given {
		return
	}
	s.part = s.grow(s.part[:0], s.next)
	s.next = s.next[:0]
	s.given = false
}

// shrink gives back memory that no unfinished line needs. It ends the validity
// of the pieces given out, as a call of Split does.
func (s *Splitter) shrink() {
	const small = 512
	s.settle()
	if len(s.part) == 0 && cap(s.part) > small {
		s.part = nil
	}
	if cap(s.next) > small {
		s.next = nil
	}
}

// rest is how many bytes were not given out: the end of what was split.
func (s *Splitter) rest() int {
	if s.given {
		return len(s.next)
	}
	return len(s.part)
}

// held is how many bytes of the current line came with earlier chunks.
func (s *Splitter) held() int {
	if s.given {
		return 0
	}
	return len(s.part)
}

// cut appends the pieces of limit bytes that text, without newline, completes
// and returns the rest of text, which fits the limit with what is held.
func (s *Splitter) cut(text []byte, out []Piece) ([]byte, []Piece) {
	for s.held()+len(text) > s.limit {
		room := s.limit - s.held()
		out = append(out, s.piece(text[:room:room], true))
		text = text[room:]
	}
	return text, out
}

// piece joins what is held with text, which fits the limit together.
func (s *Splitter) piece(text []byte, more bool) Piece {
	if s.held() > 0 {
		s.part = s.grow(s.part, text)
		s.given = true
		text = s.part[:len(s.part):len(s.part)]
	}
	return Piece{Stream: s.stream, More: more, Text: text}
}

// keep copies text, the end of a chunk, to what is held of the current line.
// The bytes after a piece that was given out in the same call are no more than
// the chunk, so part and next together stay within limit and chunk.
func (s *Splitter) keep(text []byte) {
	if s.given {
		s.next = s.grow(s.next, text)
	} else {
		s.part = s.grow(s.part, text)
	}
}

// grow appends text to buf. A line that goes on doubles its buffer, but never
// beyond the limit, as append alone would; the first bytes of a line get what
// they need, which a chunk bounds.
func (s *Splitter) grow(buf, text []byte) []byte {
	size := len(buf) + len(text)
	if size <= cap(buf) {
		return append(buf, text...)
	}
	if len(buf) > 0 {
		size = min(max(size, 2*cap(buf)), s.limit)
	}
	grown := make([]byte, len(buf), size)
	copy(grown, buf)
	return append(grown, text...)
}
