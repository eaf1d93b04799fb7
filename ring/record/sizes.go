package record

// SizesVersion is another one whenever a record has another size in any form
// than it had before: sizes that were kept from then do not hold any more.
const SizesVersion = "1"

// Sizes is how many bytes records have that follow each other, in every form
// in which readers see them. The zero value is that of no records. What it
// holds does not depend on the name of the service, which the forms have in
// them, and two of them can be joined without the records.
type Sizes struct {
	Out, Err, Marks Tally
	// Breaks is how many newlines the text form has before records that break
	// a line of another stream off.
	Breaks int64
	// First is the kind of the first record, 0 if there are none. Open is the
	// stream whose line is unfinished behind the last one, 0 for none.
	First, Open Kind
}

// A Tally counts records of one kind, and their bytes: Text as AppendText
// writes them, Bytes as AppendBytes, Seq as AppendSeq. In Seq, and in the Text
// of marks, the name of the service is missing, once in each record.
type Tally struct{ Records, Text, Bytes, Seq int64 }

// Add counts the next record.
func (s *Sizes) Add(r *Record) {
	if s.Open != 0 && s.Open != r.Kind {
		s.Breaks++
	}
	if s.First == 0 {
		s.First = r.Kind
	}
	s.Open = 0
	if r.More {
		s.Open = r.Kind
	}
	s.of(r.Kind).add(Tally{1, int64(r.TextLen("")), int64(r.BytesLen()), int64(r.SeqLen(""))})
}

// Join counts the records of t, which follow those of s.
func (s *Sizes) Join(t Sizes) {
	if t.First == 0 {
		return
	}
	if s.Open != 0 && s.Open != t.First {
		s.Breaks++
	}
	if s.First == 0 {
		s.First = t.First
	}
	s.Open = t.Open
	s.Breaks += t.Breaks
	s.Out.add(t.Out)
	s.Err.add(t.Err)
	s.Marks.add(t.Marks)
}

// Text is how many bytes current and follow of the service have, with marks
// or without.
func (s *Sizes) Text(service string, marks bool) int64 {
	n := s.Breaks + s.Out.Text + s.Err.Text
	if marks {
		n += s.Marks.Text + s.Marks.Records*int64(len(service))
	}
	return n
}

// Bytes is how many bytes the records of one stream have in the byte-exact form.
func (s *Sizes) Bytes(stream Kind) int64 { return s.of(stream).Bytes }

// Seq is how many bytes records have in seq: those of one stream, or all if
// stream is 0.
func (s *Sizes) Seq(service string, stream Kind) (n int64) {
	for _, k := range []Kind{Out, Err, Mark} {
		if t := s.of(k); stream == 0 || stream == k {
			n += t.Seq + t.Records*int64(len(service))
		}
	}
	return n
}

func (s *Sizes) of(k Kind) *Tally {
	switch k {
	case Out:
		return &s.Out
	case Err:
		return &s.Err
	}
	return &s.Marks
}

func (t *Tally) add(u Tally) {
	t.Records += u.Records
	t.Text += u.Text
	t.Bytes += u.Bytes
	t.Seq += u.Seq
}
