package fs

import (
	"io"
	"sort"

	"logfs/ring/record"
)

// A meter finds out the offsets of records that follow each other from the sizes
// that a History tells, without reading them.
type meter struct {
	l     *layout
	at    landmark // the next record
	marks []landmark
	lead  []byte // what is told before the first record
	first uint64 // the first number of that
}

// history goes from the number from to to. If asked is set, it is told which
// numbers are gone before the first record.
func (m *meter) history(h History, from, to uint64, asked bool) error {
	m.at.seq = from
	if h == nil {
		return nil
	}
	parts, err := h.Parts(from, to)
	if err != nil {
		return err
	}
	for i, p := range parts {
		if i == 0 && len(m.marks) == 0 && m.at.off == 0 && p.First > from {
			m.at.seq = p.First
			if asked {
				m.told(from, p.First, p.Run, lineAt(h, p.First))
			}
		}
		m.add(p)
	}
	if len(parts) > 0 && m.at.seq < to {
		m.gap(to, m.at.run)
	}
	return nil
}

// lineAt returns the stored line of a record, or none.
func lineAt(h History, seq uint64) []byte {
	r, err := h.From(seq)
	if err != nil {
		return nil
	}
	defer r.Close()
	_, _, lines, err := r.Next(make([]byte, 64))
	if err != nil && err != io.EOF {
		return nil
	}
	return lines
}

// told begins with a mark that the numbers from first to before next are gone;
// lines begin with the record next.
func (m *meter) told(first, next, run uint64, lines []byte) {
	m.first = first
	m.lead = m.l.lost(nil, first, next-1, run, lines)
	m.at.off += int64(len(m.lead))
}

// lost appends the mark that tells that numbers are gone. next is stored lines
// that begin behind them: the mark is older.
func (l *layout) lost(dst []byte, first, last, run uint64, next []byte) []byte {
	if l.form == formBytes {
		return dst
	}
	rec := record.Lost(stampOf(next)-1, run, first, last)
	return l.write(dst, 0, &rec)
}

// add goes over the records of p.
func (m *meter) add(p Part) {
	if p.First > m.at.seq {
		m.gap(p.First, p.Run)
	}
	m.at.run = p.Run
	m.marks = append(m.marks, m.at)
	m.open(p.Sizes.First)
	m.at.off += m.l.total(&p.Sizes)
	m.at.seq, m.at.open = p.Next, 0
	if m.l.form == formText {
		m.at.open = p.Sizes.Open
	}
}

// open goes over the newline before a record of kind k.
func (m *meter) open(k record.Kind) {
	if rec := (record.Record{Line: record.Line{Kind: k}}); k != 0 && m.l.breaks(m.at.open, &rec) {
		m.at.off++
	}
	m.at.open = 0
}

// gap goes over the mark that readers get instead of what is missing.
func (m *meter) gap(next, run uint64) {
	rec := record.Lost(0, run, m.at.seq, next-1)
	m.at.off += int64(m.l.size(m.at.open, &rec))
	m.at.seq, m.at.run, m.at.open = next, run, 0
}

// reach goes on to the record at p in the ring, with which the stored lines next
// begin. The selection began with the number from.
func (m *meter) reach(p *pos, next []byte, from uint64, asked bool) {
	if len(m.marks) > 0 {
		m.seam(next)
	} else if asked && p.Seq > from {
		m.told(from, p.Seq, p.Run, next)
	}
	m.at.seq, m.at.run = p.Seq, p.Run
	if len(next) == 0 {
		m.at.open = p.open
	}
}

// seam goes over the newline that the first of the stored lines next may have
// before it.
func (m *meter) seam(next []byte) {
	s := record.Scanner{Buf: next, Seq: m.at.seq, Run: m.at.run}
	if rec, ok := s.Next(); ok {
		m.open(rec.Kind)
	}
}

// total is how many bytes records of these sizes have, without a newline before
// the first.
func (l *layout) total(s *record.Sizes) int64 {
	kind := [...]record.Kind{selOut: record.Out, selErr: record.Err}[l.sel]
	switch l.form {
	case formText:
		return s.Text(l.service, l.marks)
	case formBytes:
		return s.Bytes(kind)
	}
	return s.Seq(l.service, kind)
}

// lastAt returns the last landmark at or before the offset off.
func lastAt(marks []landmark, off int64) (l landmark, ok bool) {
	i := sort.Search(len(marks), func(i int) bool { return marks[i].off > off })
	if i == 0 {
		return l, false
	}
	return marks[i-1], true
}
