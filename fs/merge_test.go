package fs

import (
	"bytes"
	"fmt"
	"math/rand"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"logfs/ring"
	"logfs/ring/record"
)

// chorus is some services with a clock, and no mount.
type chorus struct {
	t       testing.TB
	all     []*Entry
	changes uint64
	now     record.Stamp
	said    map[*Entry][]string // seq records, in order
	due     map[*Entry]record.Stamp
}

const noon = record.Stamp(1795200000_000000000)

func newChorus(t testing.TB, n int, limits ring.Limits) *chorus {
	c := &chorus{t: t, now: noon, said: map[*Entry][]string{}, due: map[*Entry]record.Stamp{}}
	for i := range n {
		c.join(fmt.Sprintf("s%0*d", 1+i%5, i), limits, nil)
	}
	return c
}

func (c *chorus) join(name string, limits ring.Limits, h History) *Entry {
	s := Service{Name: name, Ring: ring.New(limits), Looks: Looks{Marks: true}, History: h}
	e := newEntry(s, &Server{}, uint64(len(c.all)+1))
	e.Due = func(now record.Stamp) record.Stamp {
		if d := c.due[e]; d != 0 {
			return d
		}
		return now
	}
	c.all = append(c.all, e)
	c.changes++
	return e
}

// say appends a record, as mounted.say does, with a stamp.
func (c *chorus) say(e *Entry, at record.Stamp, line string) {
	head, text, _ := bytes.Cut([]byte(line), []byte{' '})
	b := e.Ring.Begin()
	b.Add(at, record.Kind(head[0]), len(head) > 1, text)
	if f, ok := e.History.(*files); ok {
		f.write(b.First(), b.Run(), bytes.Join(b.Chunks(), nil))
	}
	s := record.Scanner{Buf: bytes.Clone(bytes.Join(b.Chunks(), nil)), Seq: b.First(), Run: b.Run()}
	for rec, ok := s.Next(); ok; rec, ok = s.Next() {
		c.said[e] = append(c.said[e], string(rec.AppendSeq(nil, e.Name)))
	}
	b.Commit()
}

func (c *chorus) order(sel streams, f form) *order {
	o := &order{sel: sel, form: f, width: widthOf(c.all), members: func() []*Entry { return c.all },
		changed: func() uint64 { return c.changes }, clock: func() time.Time { return time.Unix(0, int64(c.now)) }}
	o.begin()
	return o
}

// pread reads from m once, as a client does, and loads what that takes.
func (m *merger) pread(t testing.TB, n int, off int64) string {
	t.Helper()
	b := make([]byte, n)
	for range 1000 {
		m.o.mu.Lock()
		n, load := m.read(b, off, false, false)
		want := m.wanting()
		m.o.mu.Unlock()
		if !load {
			return string(b[:n])
		}
		for _, t := range want {
			t.feed.wants = false
			t.feed.held, _ = t.st.e.Ring.Bounds()
			t.feed.fetch(t.st.e.History, t.at.Seq, make([]byte, loadSizeOf(len(want))))
		}
	}
	t.Fatalf("a read at %d does not end", off)
	return ""
}

// readAll reads to the end.
func (m *merger) readAll(t testing.TB, n int) string {
	t.Helper()
	var all strings.Builder
	for {
		s := m.pread(t, n, int64(all.Len()))
		if s == "" {
			return all.String()
		}
		all.WriteString(s)
	}
}

// perService takes a merged seq apart.
func perService(all string) map[string][]string {
	m := map[string][]string{}
	for line := range strings.Lines(all) {
		f := strings.SplitN(line, ",", 3)
		m[f[1]] = append(m[f[1]], line)
	}
	return m
}

func (c *chorus) complete(all string) {
	c.t.Helper()
	got := perService(all)
	for _, e := range c.all {
		if g, w := strings.Join(got[e.Name], ""), strings.Join(c.said[e], ""); g != w {
			c.t.Fatalf("service %s:\n%.400s\nwant\n%.400s", e.Name, g, w)
		}
	}
}

// expect compares what a new node shows, in pieces of every size.
func (c *chorus) expect(o *order, want string) {
	c.t.Helper()
	for _, n := range []int{1, 7, 4096} {
		if got := newMerger(o).readAll(c.t, n); got != want {
			c.t.Fatalf("reading by %d:\n%s\nwant\n%s", n, got, want)
		}
	}
	if o.size != int64(len(want)) {
		c.t.Fatalf("size %d, want %d", o.size, len(want))
	}
}

func TestMergeSortsByStamp(t *testing.T) {
	c := newChorus(t, 0, ring.Limits{})
	web, db := c.join("web", ring.Limits{}, nil), c.join("database", ring.Limits{}, nil)
	c.say(web, noon+1, "o one")
	c.say(web, noon+4, "e four")
	c.say(db, noon+2, "o two")
	c.say(db, noon+3, "= start run=1 pid=7")
	c.say(db, noon+4, "o a tie goes by slot")
	c.expect(c.order(selAll, formText), ""+
		"web      | one\n"+
		"database | two\n"+
		"database | -- database run 1 started 2026-11-20T18:40:00Z pid 7 --\n"+
		"web      | four\n"+
		"database | a tie goes by slot\n")
	c.expect(c.order(selOut, formText), "web      | one\ndatabase | two\ndatabase | a tie goes by slot\n")
	c.expect(c.order(selErr, formText), "web      | four\n")
}

func TestMergeKeepsLinesWhole(t *testing.T) {
	c := newChorus(t, 0, ring.Limits{})
	a, b := c.join("a", ring.Limits{}, nil), c.join("b", ring.Limits{}, nil)
	c.say(a, noon+1, "o+ first ")
	c.say(b, noon+2, "o between")
	c.say(a, noon+3, "o+ second ")
	c.say(a, noon+4, "o third")
	c.say(a, noon+5, "o+ half")
	c.say(b, noon+6, "o last")
	c.say(a, noon+7, "= exit after=1s")
	c.say(a, noon+8, "o+ end")
	o := c.order(selAll, formText)
	want := "a | first second third\nb | between\na | half\nb | last\na | -- a run 0 ended after 1s --\na | end"
	c.expect(o, want)
	c.say(a, noon+9, "o +more")
	o.freeze()
	want += "+more\n"
	c.expect(o, want)
	c.say(a, noon+10, "o+ open")
	o.freeze()
	c.say(b, noon+11, "o comes between")
	o.freeze()
	c.say(a, noon+12, "o goes on")
	o.freeze()
	c.expect(o, want+"a | open\nb | comes between\na | goes on\n")
	c.expect(c.order(selOut, formText), "a | first second third\nb | between\na | half\nb | last\na | end+more\na | opengoes on\nb | comes between\n")
}

func TestMergeWaitsForTheWindow(t *testing.T) {
	c := newChorus(t, 2, ring.Limits{})
	a, b := c.all[0], c.all[1]
	o := c.order(selAll, formSeq)
	m := newMerger(o)
	next := func() string {
		o.advance()
		return m.pread(t, 4096, m.off)
	}
	c.now = noon + 10
	c.say(a, noon+5, "o nobody is about to speak")
	if s := next(); !strings.Contains(s, "nobody") {
		t.Fatalf("a line that nothing can come before waits: %q", s)
	}
	c.due[b] = noon + 20 // it has a stamp, and is not committed
	c.now = noon + 40
	c.say(a, noon+30, "o later")
	if s := next(); s != "" {
		t.Fatalf("too early: %q", s)
	}
	c.say(b, noon+20, "o sooner")
	c.due[b] = 0
	if s := next(); !strings.Contains(s, "sooner") || strings.Index(s, "sooner") > strings.Index(s, "later") {
		t.Fatalf("got %q", s)
	}
	c.due[b] = noon + 50 // it is stuck
	c.say(a, noon+60, "o not held up")
	c.now = noon + 61
	if s := next(); s != "" {
		t.Fatalf("too early: %q", s)
	}
	c.now = noon + 60 + record.Stamp(reorder)
	if s := next(); !strings.Contains(s, "not held up") {
		t.Fatalf("held up by a service that is stuck: %q", s)
	}
	c.say(b, noon+50, "o too late")
	c.due[b] = 0
	if s := next(); !strings.Contains(s, "too late") {
		t.Fatalf("got %q", s)
	}
	c.complete(newMerger(o).readAll(t, 100))
}

// Whatever is said when, and with what stamps: every line is there once, in order
// within its service, and every offset keeps its byte.
func TestMergeIsOneFile(t *testing.T) {
	for seed := range int64(100) {
		rnd := rand.New(rand.NewSource(seed))
		f := form([]form{formText, formSeq}[seed%2])
		sel := streams(rnd.Intn(2)) * selOut
		c := newChorus(t, 1+rnd.Intn(5), ring.Limits{Lines: 1000, Bytes: 1 << 20})
		c.babble(rnd, 30)
		o := c.order(sel, f)
		m := newMerger(o)
		var got strings.Builder
		for range 60 {
			c.babble(rnd, rnd.Intn(6))
			if rnd.Intn(20) == 0 {
				c.join(fmt.Sprintf("new%d", len(c.all)), ring.Limits{}, nil)
			}
			if rnd.Intn(30) == 0 {
				o.freeze()
			} else {
				o.advance()
			}
			for range rnd.Intn(3) {
				got.WriteString(m.pread(t, 1+rnd.Intn(300), int64(got.Len())))
			}
			if rnd.Intn(3) == 0 && got.Len() > 0 {
				off := rnd.Intn(got.Len())
				s, want := newMerger(o).pread(t, 500, int64(off)), got.String()[off:]
				if n := min(len(s), len(want)); s[:n] != want[:n] {
					t.Errorf("seed %d: at %d", seed, off)
					differ(t, s[:n], want[:n])
				}
			}
		}
		o.freeze()
		for s := "x"; s != ""; got.WriteString(s) {
			s = m.pread(t, 100, int64(got.Len()))
		}
		if again := newMerger(o).readAll(t, 4096); again != got.String() {
			differ(t, again, got.String())
		}
		if o.size != int64(got.Len()) {
			t.Fatalf("seed %d: size %d, want %d", seed, o.size, got.Len())
		}
		if f == formSeq && sel == selAll {
			c.complete(got.String())
		}
	}
}

// babble has services say something; clocks jump, and commits are late.
func (c *chorus) babble(rnd *rand.Rand, n int) {
	for range n {
		c.now += record.Stamp(rnd.Intn(int(20 * time.Millisecond)))
		if rnd.Intn(40) == 0 {
			c.now -= record.Stamp(rnd.Intn(int(10 * time.Second)))
		}
		kind := []string{"o", "o", "e", "o+", "e+"}[rnd.Intn(5)]
		line := kind + " " + strings.Repeat("x", rnd.Intn(60))
		if rnd.Intn(12) == 0 {
			line = "= exit after=1s"
		}
		late := record.Stamp(rnd.Intn(int(60*time.Millisecond))) * record.Stamp(rnd.Intn(2))
		c.say(c.all[rnd.Intn(len(c.all))], c.now-late, line)
	}
}

// Stamps that do not step back come sorted.
func TestMergeIsSorted(t *testing.T) {
	rnd := rand.New(rand.NewSource(1))
	c := newChorus(t, 20, ring.Limits{})
	for range 5000 {
		c.now += record.Stamp(1 + rnd.Intn(1000))
		c.say(c.all[rnd.Intn(20)], c.now, "o "+strings.Repeat("y", rnd.Intn(90)))
	}
	got := newMerger(c.order(selAll, formSeq)).readAll(t, 128<<10)
	c.complete(got)
	lines := strings.SplitAfter(got, "\n")
	if lines = lines[:len(lines)-1]; !sort.StringsAreSorted(lines) {
		t.Error("the lines are not sorted by their stamps")
	}
}

func TestMergeIsFedFromDisk(t *testing.T) {
	rnd := rand.New(rand.NewSource(2))
	c := newChorus(t, 0, ring.Limits{})
	for i := range 4 {
		c.join(fmt.Sprint("s", i), ring.Limits{Lines: 50 + 1000*i}, &files{})
	}
	o := c.order(selAll, formSeq)
	m := newMerger(o)
	var got strings.Builder
	for range 40 {
		for range 100 {
			c.now += record.Stamp(1 + rnd.Intn(1000))
			c.say(c.all[rnd.Intn(4)], c.now, "o "+strings.Repeat("z", rnd.Intn(90)))
		}
		o.freeze()
		for range 3 {
			got.WriteString(m.pread(t, 4096, int64(got.Len())))
		}
	}
	for s := "x"; s != ""; got.WriteString(s) {
		s = m.pread(t, 4096, int64(got.Len()))
	}
	c.complete(got.String())
	off := got.Len() / 3
	if s := m.pread(t, 1000, int64(off)); s != got.String()[off:off+1000] {
		differ(t, s, got.String()[off:off+1000])
	}
	if len(o.marks) == 0 {
		t.Error("no place to begin from was kept")
	}
}

// A service that has left is let go of when its lines have been read.
func TestMergeLetsGo(t *testing.T) {
	c := newChorus(t, 3, ring.Limits{})
	o := c.order(selAll, formText)
	m, other := newMerger(o), newMerger(o)
	gone := c.all[1]
	c.say(gone, noon+1, "o last words")
	c.all = append(c.all[:1:1], c.all[2])
	c.changes++
	o.freeze()
	o.freeze()
	for _, m := range []*merger{m, other} {
		if o.strands[1].e != gone {
			t.Fatal("it is gone before all have read it")
		}
		if s := m.readAll(t, 100); s != "s01  | last words\n" {
			t.Fatalf("got %q", s)
		}
	}
	if o.strands[1].e == gone {
		t.Error("it is kept")
	}
	c.say(c.all[0], noon+2, "o another")
	o.freeze()
	if s := m.pread(t, 100, m.off); s != "s0   | another\n" {
		t.Errorf("got %q", s)
	}
	if s := newMerger(o).readAll(t, 100); s != "s0   | another\n" {
		t.Errorf("from the beginning: %q", s)
	}
}

func TestMergeTellsWhatIsLost(t *testing.T) {
	c := newChorus(t, 0, ring.Limits{})
	a, b := c.join("a", ring.Limits{Lines: 10}, nil), c.join("b", ring.Limits{}, nil)
	c.say(a, noon+1, "o first")
	o := c.order(selAll, formText)
	m := newMerger(o)
	for i := range 100 {
		c.say(a, noon+2+record.Stamp(2*i), fmt.Sprint("o ", strings.Repeat("-", 500), i))
		c.say(b, noon+3+record.Stamp(2*i), fmt.Sprint("o ", i))
	}
	o.freeze()
	got := m.readAll(t, 4096)
	if !strings.Contains(got, "a | -- a lost 93 lines 1-93 --\n") || strings.Count(got, "b | ") != 100 || strings.Count(got, "a | --") != 9 {
		t.Errorf("got %s", got)
	}
}

// preadLines reads on, to the end of a line, from the rings.
func (m *merger) preadLines(n int) string {
	b := make([]byte, n)
	m.o.mu.Lock()
	defer m.o.mu.Unlock()
	n, _ = m.read(b, m.off, true, false)
	return string(b[:n])
}

// Writers do not wait for readers: blocks fill up and follow each other while an
// order looks at them.
func TestMergeBesideWriters(t *testing.T) {
	const services, lines = 3, 30_000
	c := newChorus(t, services, ring.Limits{Lines: services * lines, Bytes: 64 << 10}) // small blocks
	for _, e := range c.all {
		e.Ring.Keep(1)
	}
	o := c.order(selAll, formSeq)
	var writing sync.WaitGroup
	for i, e := range c.all {
		writing.Go(func() {
			for n := 0; n < lines; {
				b := e.Ring.Begin()
				for range min(1+n%7, lines-n) {
					n++
					b.Add(noon+record.Stamp(services*n+i), record.Out, false, []byte("a line of some length that fills blocks"))
				}
				b.Commit()
			}
		})
	}
	done := make(chan struct{})
	go func() { writing.Wait(); close(done) }()
	m, next := newMerger(o), [services]uint64{}
	for last := false; ; {
		select {
		case <-done:
			last = true
		default:
		}
		o.freeze()
		s := m.preadLines(64 << 10)
		if s == "" && last {
			break
		}
		for line := range strings.Lines(s) {
			var name string
			var run, seq uint64
			if _, err := fmt.Sscanf(strings.ReplaceAll(line, ",", " "), "@%24s s%s %d %d", new(string), &name, &run, &seq); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			i := name[len(name)-1] - '0'
			if next[i]++; seq != next[i] {
				t.Fatalf("service %d: number %d, want %d", i, seq, next[i])
			}
		}
	}
	if o.size != m.off {
		t.Errorf("the size is %d, want %d", o.size, m.off)
	}
	for i, n := range next {
		if n != lines {
			t.Errorf("service %d: %d lines, want %d", i, n, lines)
		}
	}
}
