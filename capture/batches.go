package capture

import "bytes"

// A batch is records that have the numbers First to Next-1 and are not known to
// be in the files. Those of one stream follow each other from Start on; this one
// ends at Taken. Batches are in the order of their numbers.
type batch struct {
	First, Next uint64
	Doing       Doing
	Taken       uint64 // of a start mark: the run
}

const (
	// maxBatches is how many batches are kept that wait for a disk.
	maxBatches = 32
	// maxMarks is how many marks wait besides: one of each kind.
	maxMarks = 3
)

// Doing is what is being stored.
type Doing uint64

const (
	OutLines  Doing = Doing(Stdout)
	ErrLines  Doing = Doing(Stderr)
	StartMark Doing = 3
	ExitMark  Doing = 4
	LostMark  Doing = 5
)

func (d Doing) lines() bool { return d == OutLines || d == ErrLines }

func (h *Hold) batches() []batch { return h.note.Batches[:h.note.Count] }

// Begin notes that the records first to next-1 are about to be stored. If they
// are not the whole batch that was handed on, rest is what comes behind them.
func (h *Hold) Begin(what Doing, first, next uint64, rest []Piece) {
	if !h.lock() {
		return
	}
	defer h.mu.Unlock()
	b := batch{First: first, Next: next, Doing: what}
	switch what {
	case StartMark:
		b.Taken = h.starting
	case OutLines, ErrLines:
		b.Taken = h.reach[what-1] - uint64(length(rest))
	}
	if !h.extend(b) {
		h.insert(b, len(rest) > 0)
	}
	h.note.Given = max(next, h.note.Batches[h.note.Count-1].Next)
	h.flip()
}

// took notes that the batch about to be handed on ends rest bytes before the
// end of what was read.
func (h *Hold) took(s Stream, rest int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reach[s-1] = h.note.Spans[s-1].End - uint64(rest)
}

// extend makes lines part of the batch before them, while that is small: then
// many small ones need no room when they wait.
func (h *Hold) extend(b batch) bool {
	last := int(h.note.Count) - 1
	if last < 0 || h.again > 0 || !b.Doing.lines() {
		return false
	}
	before := &h.note.Batches[last]
	if before.Doing != b.Doing || before.Next != b.First || b.Taken-h.start(b.Doing, last) > holdWarm {
		return false
	}
	before.Next, before.Taken = b.Next, b.Taken
	return true
}

// start is where the lines of a stream begin that are behind its first i batches.
func (h *Hold) start(what Doing, i int) uint64 {
	for i--; i >= 0; i-- {
		if h.note.Batches[i].Doing == what {
			return h.note.Batches[i].Taken
		}
	}
	return h.note.Spans[what-1].Start
}

// insert puts b before the batches that are to be stored again, in the place of
// the one it is, or is part of, and has those be numbered behind it.
func (h *Hold) insert(b batch, part bool) {
	if b.Doing.lines() {
		h.takeAgain(b, part)
		for h.again == 0 && h.note.Count >= maxBatches && h.giveUp(0) {
		}
	}
	if int(h.note.Count) == len(h.note.Batches) {
		h.remove(0) // there is no more than one mark of each kind
	}
	at := int(h.note.Count) - h.again
	copy(h.note.Batches[at+1:], h.batches()[at:])
	h.note.Batches[at] = b
	h.note.Count++
	h.number(at+1, b.Next)
}

// takeAgain takes b off the first batch of its kind that is to be stored again.
// What comes now, comes first: another that should have come first has not come.
func (h *Hold) takeAgain(b batch, part bool) {
	for h.again > 0 {
		first := &h.note.Batches[int(h.note.Count)-h.again]
		same := first.Doing == b.Doing
		if same && part && first.Next-first.First > b.Next-b.First {
			first.First += b.Next - b.First
			return
		}
		h.remove(int(h.note.Count) - h.again)
		if same {
			return
		}
	}
}

// number gives the batches from at on the numbers from next on, and returns the
// one after them.
func (h *Hold) number(at int, next uint64) uint64 {
	for i := at; i < int(h.note.Count); i++ {
		b := &h.note.Batches[i]
		b.First, b.Next = next, next+b.Next-b.First
		next = b.Next
	}
	return next
}

// giveUp gives up the oldest lines that wait, those of a stream if it is not 0:
// they are nowhere but with who stores them.
func (h *Hold) giveUp(s Stream) bool {
	for i, b := range h.batches() {
		if b.Doing.lines() && (s == 0 || b.Doing == Doing(s)) {
			h.note.Spans[b.Doing-1].Start = b.Taken
			h.remove(i)
			return true
		}
	}
	return false
}

// pop takes the first batch for stored.
func (h *Hold) pop() {
	switch b := h.note.Batches[0]; b.Doing {
	case StartMark:
		h.note.Run = b.Taken
	case ExitMark:
		h.note.Ended = 1
	case OutLines, ErrLines:
		h.note.Spans[b.Doing-1].Start = b.Taken
	}
	h.remove(0)
}

func (h *Hold) remove(i int) {
	if i >= int(h.note.Count)-h.again {
		h.again--
	}
	copy(h.note.Batches[i:], h.batches()[i+1:])
	h.note.Count--
}

// Stored notes that the files have all records before the number next.
func (h *Hold) Stored(next uint64) {
	if !h.lock() {
		return
	}
	defer h.mu.Unlock()
	before := h.note.Count
	for int(h.note.Count) > h.again && h.note.Batches[0].Next <= next {
		h.pop()
	}
	if h.note.Count != before {
		h.flip()
	}
}

// behind says whether something waits for the disk.
func (h *Hold) behind() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.note.Count > 0
}

// Starting says which run the next start mark begins, and when: Unix time in ns.
func (h *Hold) Starting(run uint64, began int64) {
	if !h.lock() {
		return
	}
	defer h.mu.Unlock()
	h.starting = run
	if h.note.Began == 0 {
		h.note.Began = began
	}
}

// Held is what Recover has found.
type Held struct {
	Run   uint64 // 0: it has not begun
	Began int64  // Unix time in ns, 0 if that died with the process
	Ended bool
	Lost  uint64 // records that got numbers and are not in the files
}

// Unstored returns the number of the first record that is not known to be in the
// files, and its run.
func (h *Hold) Unstored() (first, run uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.note.Count == 0 {
		return h.note.Given, h.note.Run
	}
	b := h.note.Batches[0]
	if b.Doing == StartMark {
		return b.First, b.Taken
	}
	return b.First, h.note.Run
}

// Recover compares the note with the files. They have the records of this run up
// to the number have; next is the number that will be given next, which is larger
// if something else has been stored since. The inputs go on where the files end.
// The lost records must get their mark before lines are taken.
func (h *Hold) Recover(have, next uint64) Held {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := &h.note
	for n.Count > 0 && n.Batches[0].Next <= have {
		h.pop()
	}
	h.skip(have)
	lost := h.lost(have)
	h.dropMarks()
	h.again = int(n.Count)
	n.Given = h.number(0, next+lost)
	h.flip()
	return Held{Run: n.Run, Began: n.Began, Ended: n.Ended == 1, Lost: lost}
}

// skip takes the lines of the first batch that the files have off it.
func (h *Hold) skip(have uint64) {
	if h.note.Count == 0 {
		return
	}
	b := &h.note.Batches[0]
	if !b.Doing.lines() || b.First >= have {
		return
	}
	pieces := h.pieces(0)
	pieces = pieces[:min(have-b.First, uint64(len(pieces)))]
	h.note.Spans[b.Doing-1].Start += uint64(length(pieces))
	b.First = have
}

// lost counts the numbers from have on that are nobody's: they are in no batch.
// Those of a lost mark are nobody's again.
func (h *Hold) lost(have uint64) uint64 {
	lost := h.note.Given - min(have, h.note.Given)
	for _, b := range h.batches() {
		if b.Doing != LostMark {
			lost -= b.Next - max(b.First, have)
		}
	}
	return lost
}

// dropMarks drops the marks: those who have made them make them anew.
func (h *Hold) dropMarks() {
	lines := h.note.Batches[:0]
	for _, b := range h.batches() {
		if b.Doing.lines() {
			lines = append(lines, b)
		}
	}
	h.note.Count = uint64(len(lines))
}

// held returns the bytes that a dead process has read and not handed on.
func (h *Hold) held(s Stream) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return bytes.Clone(h.room(s)[h.start(Doing(s), int(h.note.Count)):h.note.Spans[s-1].End])
}

// retakes is how many batches are to be stored again.
func (h *Hold) retakes() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.again
}

// retake returns the pieces of the first batch that is to be stored again.
func (h *Hold) retake() []Piece {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.again == 0 {
		return nil
	}
	first := int(h.note.Count) - h.again
	b := h.note.Batches[first]
	h.reach[b.Doing-1] = b.Taken
	pieces := h.pieces(first)
	if len(pieces) == 0 {
		h.remove(first)
	}
	return pieces
}

// pieces are those of a batch of lines: the last may be the unfinished one of a
// stream that had ended.
func (h *Hold) pieces(i int) []Piece {
	b := h.note.Batches[i]
	s := NewSplitter(Stream(b.Doing), int(h.note.Limit))
	text := bytes.Clone(h.room(Stream(b.Doing))[h.start(b.Doing, i):b.Taken])
	return s.Finish(s.Split(text, nil))
}

// length is how many bytes of a stream the pieces were.
func length(pieces []Piece) (n int) {
	for i := range pieces {
		n += len(pieces[i].Text)
		if !pieces[i].More {
			n++
		}
	}
	return n
}
