package capture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The tests here kill a process that captures at each of its steps in turn, and
// the next one too. What outlives a process is real: memory, pipes, inputs. The
// files are a slice; a kill is a panic.

// A scenario is what a service writes and how its disk is.
type scenario struct {
	limit int
	feeds [][]feed // the next is written whenever one read has begun
	late  func(take int) bool
	lost  bool // what waits for the disk is more than a Hold keeps
	big   bool // takes its time
	grows int  // the limit, with time
	parts int  // pieces that get their numbers together
}

// A feed is written to a stream, or, if empty, ends it.
type feed struct {
	stream Stream
	text   string
}

// A stored is a record in the files.
type stored struct {
	first, next uint64
	what        Doing
	text        string
	more        bool
}

// A world is what outlives processes.
type world struct {
	t     testing.TB
	s     *scenario
	hold  []*os.File
	in    [streams]*os.File
	ends  [streams]*os.File
	fed   int
	files []stored
	takes int

	deaths []int // after how many steps each process is killed, or, if negative, told to end
	trace  []string
}

type kill struct{}

func newWorld(t testing.TB, s *scenario, deaths []int) *world {
	w := &world{t: t, s: s, deaths: deaths}
	var err error
	if w.hold, err = NewHold(); err != nil {
		t.Fatal(err)
	}
	for i := range w.in {
		var fds [2]int
		if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		w.in[i], w.ends[i] = file(fds[0]), file(fds[1])
	}
	w.feed()
	return w
}

func (w *world) close() {
	closeFiles(w.hold)
	closeFiles(w.in[:])
	closeFiles(w.ends[:])
}

func (w *world) feed() {
	if w.fed == len(w.s.feeds) {
		closeFiles(w.ends[:])
		return
	}
	for _, f := range w.s.feeds[w.fed] {
		if f.text == "" {
			w.ends[f.stream-1].Close()
		} else if _, err := w.ends[f.stream-1].WriteString(f.text); err != nil {
			w.t.Fatal(err)
		}
	}
	w.fed++
}

// live runs processes until one comes to the end of the run, and returns how many
// steps that has taken.
func (w *world) live() (steps int) {
	for {
		p := &process{world: w}
		p.ctx, p.cancel = context.WithCancel(context.Background())
		if len(w.deaths) > 0 {
			p.death, w.deaths = w.deaths[0], w.deaths[1:]
		}
		if p.live() {
			return p.steps
		}
	}
}

// A process captures until it is killed, or told to end.
type process struct {
	*world
	ctx    context.Context
	cancel context.CancelFunc
	h      *Hold
	next   uint64 // number
	queue  []stored
	death  int
	steps  int
}

func (p *process) live() (ended bool) {
	atStep = func(h *Hold, what string) { p.step(h, what) }
	defer func() {
		atStep = nil
		p.cancel()
		if r := recover(); r != nil {
			if _, killed := r.(kill); !killed {
				panic(r)
			}
		}
	}()
	h, err := OpenHold([]*os.File{dup(p.t, p.hold[0]), dup(p.t, p.hold[1]), dup(p.t, p.hold[2])})
	if err != nil {
		p.t.Fatalf("%v\n%s", err, strings.Join(p.trace, "\n"))
	}
	defer h.Close()
	p.h = h
	if p.resume() {
		return true
	}
	err = Pump(p.ctx, p.LineLimit(), p, Input{File: dup(p.t, p.in[0]), Stream: Stdout, Hold: h},
		Input{File: dup(p.t, p.in[1]), Stream: Stderr, Hold: h})
	p.note("the pump ended: %v", err)
	if errors.Is(err, ErrLeft) {
		return false
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		p.t.Fatal(err)
	}
	p.mark(ExitMark, 1)
	p.flush()
	return true
}

// resume is what a Log does.
func (p *process) resume() (ended bool) {
	run := uint64(0)
	p.next = 1
	for _, r := range p.files {
		p.next = r.next
		if r.what == StartMark {
			run++
		}
	}
	held := p.h.Recover(p.next, p.next)
	p.note("recovered %+v, files have %d before %d", held, len(p.files), p.next)
	if held.Ended {
		return true
	}
	if held.Lost > 0 {
		p.mark(LostMark, held.Lost)
	}
	if held.Run == 0 || held.Run > run {
		p.h.Starting(run+1, 1)
		p.mark(StartMark, 1)
	}
	return false
}

func (p *process) note(format string, args ...any) {
	p.trace = append(p.trace, fmt.Sprintf("%3d ", p.steps)+fmt.Sprintf(format, args...))
}

// step is where a process may be killed.
func (p *process) step(h *Hold, what string) {
	p.steps++
	if what == "moved" {
		p.feed()
	}
	switch p.steps {
	case -p.death:
		p.note("told to end when %s", what)
		p.cancel()
		return
	default:
		return
	case p.death:
	}
	p.note("killed when %s", what)
	if h == nil {
		h = p.h
	}
	if h == nil {
		panic(kill{})
	}
	scribble(h)
	unix.Munmap(h.mem)
	h.mem = nil
	unix.Close(h.r)
	unix.Close(h.w)
	panic(kill{})
}

// scribble spoils all that the note in force does not speak of: a kill may have
// come while it was written.
func scribble(h *Hold) {
	if h.mem[0] == 0 {
		return
	}
	active := h.active().Load()
	for i := range noteRoom {
		h.mem[noteAt+int((active^1)&1)*noteRoom+i] = 0xee
	}
	const around = 256
	for i, s := range h.slot(active).Spans {
		room := h.room(Stream(i + 1))
		for _, free := range [][]byte{room[s.Start-min(s.Start, around) : s.Start], room[s.Expect:min(s.Expect+around, holdRoom)]} {
			for j := range free {
				free[j] = '#'
			}
		}
	}
}

func (p *process) mark(what Doing, size uint64) {
	p.h.Begin(what, p.next, p.next+size, nil)
	p.queue = append(p.queue, stored{first: p.next, next: p.next + size, what: what})
	p.next += size
	p.write()
}

func (p *process) Take(batch []Piece, _ func()) {
	for len(batch) > 0 {
		n := len(batch)
		if p.s.parts > 0 {
			n = min(n, p.s.parts)
		}
		p.take(batch[:n], batch[n:])
		batch = batch[n:]
	}
}

func (p *process) take(batch, rest []Piece) {
	doing := Doing(batch[0].Stream)
	p.h.Begin(doing, p.next, p.next+uint64(len(batch)), rest)
	p.note("take %d pieces at %d", len(batch), p.next)
	for _, piece := range batch {
		p.queue = append(p.queue, stored{p.next, p.next + 1, doing, string(piece.Text), piece.More})
		p.next++
	}
	p.write()
}

// LineLimit is another one now and then, if it changes at all.
func (p *process) LineLimit() int { return p.s.limit + p.s.grows*(p.world.takes/3%3) }

// write is what a disk does: nothing, if it is late.
func (p *process) write() {
	p.world.takes++
	if p.s.late == nil || !p.s.late(p.world.takes) {
		p.flush()
	}
}

// flush brings records to the files one by one.
func (p *process) flush() {
	for i, r := range p.queue {
		p.step(nil, "written before")
		p.files = append(p.files, r)
		p.step(nil, "written")
		if i == len(p.queue)/2 {
			p.h.Stored(r.next)
		}
	}
	p.queue = p.queue[:0]
	p.h.Stored(p.next)
}

// check compares the files with what was written.
func (w *world) check(deaths []int) {
	w.t.Helper()
	marks, next, lost, missing := map[Doing]int{}, uint64(1), 0, 0
	var got [streams][]Piece
	for _, r := range w.files {
		if r.first != next {
			w.t.Errorf("number %d follows %d", r.first, next-1)
		}
		next = r.next
		marks[r.what]++
		switch {
		case r.what.lines():
			got[r.what-1] = append(got[r.what-1], Piece{More: r.more, Text: []byte(r.text)})
		case r.what == LostMark:
			lost += int(r.next - r.first)
		}
	}
	for i := range got {
		missing += w.checkStream(Stream(i+1), got[i])
	}
	if marks[StartMark] != 1 || marks[ExitMark] != 1 || w.files[0].what != StartMark {
		w.t.Errorf("marks %v, want one start and one exit", marks)
	}
	if lost != missing {
		w.t.Errorf("%d lines said to be lost, %d are", lost, missing)
	}
	if w.t.Failed() {
		w.t.Fatalf("died after %v steps\n%s", deaths, strings.Join(w.trace, "\n"))
	}
}

// checkStream returns how many pieces are missing.
func (w *world) checkStream(stream Stream, pieces []Piece) (missing int) {
	var said []byte
	for _, feeds := range w.s.feeds {
		for _, f := range feeds {
			if f.stream == stream {
				said = append(said, f.text...)
			}
		}
	}
	s := NewSplitter(stream, w.s.limit)
	got, want := w.texts(pieces), w.texts(s.Finish(s.Split(said, nil)))
	if w.s.lost {
		missing = len(want) - len(got)
		there := map[string]bool{}
		for _, text := range got {
			there[text] = true
		}
		want = slices.DeleteFunc(want, func(s string) bool { return !there[s] })
	}
	for at := range max(len(got), len(want)) {
		if got, want := shown(got, at), shown(want, at); got != want {
			w.t.Errorf("%s, line %d: stored %s, want %s", stream, at, got, want)
			break
		}
	}
	return missing
}

// texts are pieces as text: whole lines, if the limit changes.
func (w *world) texts(pieces []Piece) (all []string) {
	goesOn := false
	for _, p := range pieces {
		text := string(p.Text)
		if w.s.grows > 0 && goesOn {
			all[len(all)-1] += text
		} else {
			all = append(all, text)
		}
		if goesOn = p.More; !goesOn {
			all[len(all)-1] += "\n"
		}
	}
	return all
}

func shown(lines []string, at int) string {
	if at < len(lines) {
		return fmt.Sprintf("%.40q of %d bytes", lines[at], len(lines[at]))
	}
	return "nothing"
}

func feeds(texts ...string) (all [][]feed) {
	for _, text := range texts {
		var at []feed
		for _, part := range strings.Split(text, "|") {
			s := Stdout
			if part[0] == 'e' {
				s = Stderr
			}
			at = append(at, feed{s, part[1:]})
		}
		all = append(all, at)
	}
	return all
}

var mixed = feeds("oone\ntw", "oo", "o\nthr", "eE1\nE", "eE", "o-ee\nfour\nfi", "e2\n|ove", "oabcdefghijklm", "enopqrstuvwxyz",
	"oABCDEFGHIJKLMNOPQ\n|eq\n", "osix\n\n\nseven", "e\nunfinished", "e|o bytes\nlast")

var scenarios = map[string]scenario{
	"disk on time":            {limit: 8, feeds: mixed},
	"disk late":               {limit: 8, feeds: mixed, late: func(take int) bool { return take%7 > 1 }},
	"disk stuck":              {limit: 8, feeds: mixed, late: func(take int) bool { return true }},
	"limit changes":           {limit: 8, grows: 20, feeds: append(feeds("oa\n", "o0123456789012345678", "eb\n|o9012345678901234567890123", "ec\n|o456789", "ed\n|o0\n"), mixed...), late: func(take int) bool { return take%7 > 2 }},
	"in parts":                {limit: 8, parts: 2, feeds: append(feeds("oa\nb\nc\nd\ne\n", "eA\nB\nC\nD\nE\n", "of\ng\nh\n"), mixed...), late: func(take int) bool { return take%12 > 1 }},
	"bulk":                    {limit: 3000, feeds: bulk(10), late: func(take int) bool { return take%3 > 0 }, big: true},
	"bulk that waits":         {limit: 3000, feeds: bulk(28), late: func(take int) bool { return take > 2 }, lost: true, big: true},
	"more waits than is held": {limit: 8, feeds: many(maxBatches + 8), late: func(take int) bool { return take%50 > 1 }, lost: true},
}

// many is so many lines on both streams in turn.
func many(n int) (all [][]feed) {
	for i := range n {
		all = append(all, []feed{{Stream(1 + i%2), fmt.Sprintf("%d\n", i)}})
	}
	return all
}

// bulk is more than a Hold has room for, in pieces that are not lines.
func bulk(n int) (all [][]feed) {
	line := 0
	for i := range n {
		var text strings.Builder
		for text.Len() < 50_000 {
			fmt.Fprintf(&text, "%s\n", strings.Repeat(fmt.Sprint(line, " "), 1+line*line%1000))
			line++
		}
		text.WriteString("and ")
		all = append(all, []feed{{Stream(1 + i/3%2), text.String()}})
	}
	return all
}

// Every process may be killed at any of its steps, or told to end there, and the
// next ones as well: all is stored once, in order, in one run.
func TestKillAtEveryStep(t *testing.T) {
	for name, s := range scenarios {
		t.Run(name, func(t *testing.T) {
			first, second := strides(&s)
			total, worlds := runWorld(t, &s, nil), 1
			for n := 1; n <= total; n += first {
				for m := 0; m <= total; m += second(m) {
					runWorld(t, &s, []int{n, m})
					runWorld(t, &s, []int{-n, m})
					worlds += 2
				}
			}
			rnd := rand.New(rand.NewPCG(1, 2))
			for range 40 {
				deaths := make([]int, 5)
				for i := range deaths {
					deaths[i] = rnd.IntN(1+rnd.IntN(total)) - total/8
				}
				runWorld(t, &s, deaths)
			}
			t.Logf("%d steps, %d worlds", total, worlds+40)
		})
	}
}

// strides are how far it is from one step at which a process dies to the next.
func strides(s *scenario) (first int, second func(int) int) {
	switch {
	case os.Getenv("LOGFS_LONG") != "" && !s.big:
		return 1, func(int) int { return 1 }
	case os.Getenv("LOGFS_LONG") != "":
		return 1, func(m int) int { return 5 + 4*m }
	case s.big:
		return 101, func(m int) int { return 100 + 9*m }
	}
	return 1, func(m int) int { return 6 + 2*m }
}

func runWorld(t *testing.T, s *scenario, kills []int) (steps int) {
	w := newWorld(t, s, kills)
	defer w.close()
	steps = w.live()
	w.check(kills)
	return steps
}
