package rotate

import (
	"bytes"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"logfs/ring/record"
)

// past is a logdir and, in a plain slice, the records in it.
type past struct {
	opt   Options
	d     *Logdir
	rnd   *rand.Rand
	clock record.Stamp
	next  uint64
	run   uint64
	recs  []kept
}

// kept is a record. before is the run in force before it.
type kept struct {
	number, next, before, run uint64
	stamp                     record.Stamp
	line                      string
}

func (p *past) rec() record.Stamp {
	p.clock += 1 + record.Stamp(p.rnd.IntN(1000))*record.Stamp(time.Microsecond)
	return p.clock
}

// line makes the next record.
func (p *past) line(batch *[]byte) {
	k := kept{number: p.next, next: p.next + 1, before: p.run, stamp: p.rec()}
	kind, more, text := []record.Kind{record.Out, record.Err}[p.rnd.IntN(2)], p.rnd.IntN(5) == 0, make([]byte, p.rnd.IntN(60))
	for i := range text {
		text[i] = "abcd\x00\\\x1b\xc3\xa4"[p.rnd.IntN(9)]
	}
	if p.rnd.IntN(10) == 0 {
		text = append([]byte("<13>"), text...)
	}
	switch n := p.rnd.Uint64N(40) + 1; p.rnd.IntN(30) {
	case 0, 1:
		p.run++
		kind, more, text = record.Mark, false, record.AppendStart(nil, p.run, 7)
	case 2, 3:
		kind, more, text = record.Mark, false, record.AppendExit(nil, record.Exit{Known: true, After: 5})
	case 4:
		kind, more, text, k.next = record.Mark, false, record.AppendLost(nil, n), p.next+n
	case 5:
		if p.rnd.IntN(10) == 0 {
			text = bytes.Repeat([]byte("long "), p.rnd.IntN(30_000))
		}
	}
	k.run, k.line = p.run, string(record.Append(nil, k.stamp, kind, more, text))
	p.next = k.next
	p.recs = append(p.recs, k)
	*batch = append(*batch, k.line...)
}

func (p *past) append(t *testing.T) {
	t.Helper()
	if p.rnd.IntN(8) == 0 {
		p.clock += record.Stamp(p.rnd.IntN(3600)-1800) * record.Stamp(time.Second)
	}
	var batch []byte
	first, run, back := p.next, p.run, p.rnd.IntN(60)
	for i := range p.rnd.IntN(20) {
		if i == back {
			p.clock -= record.Stamp(time.Hour)
		}
		p.line(&batch)
	}
	mustAppend(t, p.d, string(batch), first, p.next, run)
}

// step does one of the things that happen to a logdir.
func (p *past) step(t *testing.T) {
	t.Helper()
	switch p.rnd.IntN(24) {
	case 0:
		if err := p.d.Rotate(); err != nil {
			t.Fatal(err)
		}
	case 1:
		p.opt.Compress = Compression(p.rnd.IntN(3))
		if err := p.d.Configure(p.opt); err != nil {
			t.Fatal(err)
		}
	case 2:
		waitPacked(p.d)
	case 3:
		mustClose(t, p.d)
		p.open(t)
	case 4:
		p.crash(t)
	case 5:
		mustClose(t, p.d)
		p.foreign(t)
		p.open(t)
	case 6:
		mustClose(t, p.d)
		p.forget(t)
		p.open(t)
	case 7:
		mustClose(t, p.d)
		p.damage(t)
		p.open(t)
	default:
		p.append(t)
	}
	p.retained(t)
}

func (p *past) open(t *testing.T) {
	t.Helper()
	p.d = mustOpen(t, p.opt)
	if n := p.d.State().Next; n != p.next {
		t.Fatalf("next number %d, want %d", n, p.next)
	}
}

// crash cuts the last line, as power loss may.
func (p *past) crash(t *testing.T) {
	t.Helper()
	name := filepath.Join(p.opt.Dir, currentName)
	crash(p.d)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(p.recs); n > 0 && strings.HasSuffix(string(b), "\n"+p.recs[n-1].line) {
		last := p.recs[n-1]
		if err := os.Truncate(name, int64(len(b)-1-p.rnd.IntN(len(last.line)-1))); err != nil {
			t.Fatal(err)
		}
		p.recs, p.next, p.run = p.recs[:n-1], last.number, last.before
	}
	p.open(t)
}

// foreign puts an archive of another logger between those there are.
func (p *past) foreign(t *testing.T) {
	t.Helper()
	names, _ := files(t, p.opt.Dir)
	label, _, ok := parseArchive(names[p.rnd.IntN(len(names))])
	name := archiveName(label-1, complete)
	if taken := func(s string) bool { return s[:record.StampLen] == name[:record.StampLen] }; ok && !slices.ContainsFunc(names[:len(names)-1], taken) {
		content := string(record.AppendStamp(nil, label)) + " said by somebody else\n"
		lay(t, p.opt.Dir, file{name: name, content: content})
	}
}

// forget takes what a version before has not written out of an archive.
func (p *past) forget(t *testing.T) {
	t.Helper()
	names, content := files(t, p.opt.Dir)
	name := names[p.rnd.IntN(len(names))]
	form := compressionOf(name)
	if form == None {
		return
	}
	c, err := count(strings.NewReader(content[name]), int64(len(content[name])))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w, err := packWriter(&b, form, &c, "")
	if err == nil {
		_, err = w.Write([]byte(content[name]))
	}
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(p.opt.Dir, name), b.Bytes(), 0o640)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// damage makes a line in a plain archive one of nobody's.
func (p *past) damage(t *testing.T) {
	t.Helper()
	names, content := files(t, p.opt.Dir)
	name := names[p.rnd.IntN(len(names))]
	at := strings.Index(content[name], " o ")
	if name == currentName || compressionOf(name) != None || at < 0 {
		return
	}
	line := content[name][strings.LastIndexByte(content[name][:at], '\n')+1:]
	line = line[:strings.IndexByte(line, '\n')+1]
	i := slices.IndexFunc(p.recs, func(k kept) bool { return k.line == line })
	if i < 0 {
		return // of another logger
	}
	damaged := content[name][:at] + " ?" + content[name][at+2:]
	if err := os.WriteFile(filepath.Join(p.opt.Dir, name), []byte(damaged), 0o640); err != nil {
		t.Fatal(err)
	}
	p.recs = slices.Delete(p.recs, i, i+1)
}

// retained forgets what retention has deleted.
func (p *past) retained(t *testing.T) {
	t.Helper()
	files, err := p.d.view.list()
	if err != nil {
		t.Fatal(err)
	}
	if len(files) > 0 {
		i := slices.IndexFunc(p.recs, func(k kept) bool { return k.number >= files[0].first })
		if i < 0 {
			i = len(p.recs)
		}
		p.recs = p.recs[i:]
	}
}

func (p *past) find(t record.Stamp) (seq uint64, ok bool) {
	for _, k := range p.recs {
		if k.stamp >= t {
			return k.number, true
		}
	}
	return 0, false
}

func (p *past) runs() (all []RunInfo) {
	for _, k := range p.recs {
		if k.run == 0 {
			continue
		}
		if n := len(all); n == 0 || all[n-1].Run != k.run {
			all = append(all, RunInfo{Run: k.run, First: k.number})
		}
		r := &all[len(all)-1]
		r.Last = k.next - 1
		if strings.Contains(k.line, " = start ") {
			r.Began = k.stamp
		}
		if strings.Contains(k.line, " = exit ") {
			r.Ended = k.stamp
		}
	}
	return all
}

// written is how many bytes readers get, each form written out.
func (p *past) written(from, to uint64) (n [7]int64) {
	var b []byte
	var open record.Kind
	put := func(r *record.Record) {
		breaks := int64(0)
		if open != 0 && open != r.Kind {
			breaks = 1
		}
		if open = 0; r.More {
			open = r.Kind
		}
		b = r.AppendText(b[:0], "web")
		text := int64(len(b))
		b = r.AppendSeq(b[:0], "web")
		seq := int64(len(b))
		n[0], n[1], n[4] = n[0]+breaks+text, n[1]+breaks+text, n[4]+seq
		switch plain := int64(len(r.AppendBytes(b[:0]))); r.Kind {
		case record.Mark:
			n[1] -= text
		case record.Out:
			n[2], n[5] = n[2]+plain, n[5]+seq
		case record.Err:
			n[3], n[6] = n[3]+plain, n[6]+seq
		}
	}
	var next uint64
	for _, k := range p.recs {
		if k.number < from || k.number >= to {
			continue
		}
		if next > 0 && k.number > next {
			lost := record.Lost(0, k.before, next, k.number-1)
			put(&lost)
		}
		next = k.next
		s := record.Scanner{Buf: []byte(k.line), Seq: k.number, Run: k.before}
		r, _ := s.Next()
		put(&r)
	}
	return n
}

func lens(s record.Sizes) [7]int64 {
	return [7]int64{
		s.Text("web", true), s.Text("web", false), s.Bytes(record.Out), s.Bytes(record.Err),
		s.Seq("web", 0), s.Seq("web", record.Out), s.Seq("web", record.Err),
	}
}

// anyNumber is a number that means something, or one beside it.
func (p *past) anyNumber() uint64 {
	if len(p.recs) == 0 || p.rnd.IntN(10) == 0 {
		return []uint64{0, 1, p.next, p.next + 5, math.MaxUint64}[p.rnd.IntN(5)]
	}
	files, _ := p.d.view.list()
	if p.rnd.IntN(3) == 0 {
		return files[p.rnd.IntN(len(files))].first + p.rnd.Uint64N(3) - 1
	}
	return p.recs[p.rnd.IntN(len(p.recs))].number + p.rnd.Uint64N(3) - 1
}

func (p *past) check(t *testing.T) {
	t.Helper()
	for range 3 {
		at := record.Stamp(p.rnd.Int64N(int64(noon)) * 2)
		if n := len(p.recs); n > 0 && p.rnd.IntN(10) > 0 {
			at = p.recs[p.rnd.IntN(n)].stamp + record.Stamp(p.rnd.IntN(3)) - 1
		}
		wantSeq, want := p.find(at)
		if seq, ok, err := p.d.Find(at); seq != wantSeq || ok != want || err != nil {
			t.Fatalf("Find(%d): %d, %v, %v; want %d, %v", at, seq, ok, err, wantSeq, want)
		}
		p.checkMeasure(t, p.anyNumber(), p.anyNumber())
	}
	if p.rnd.IntN(4) == 0 {
		p.checkMeasure(t, 0, math.MaxUint64)
		if got, want := p.d.Runs(), p.runs(); !slices.Equal(got, want) {
			t.Fatalf("runs\n%+v\nwant\n%+v", got, want)
		}
	}
	p.checkRun(t)
}

func (p *past) checkRun(t *testing.T) {
	t.Helper()
	run := 1 + p.rnd.Uint64N(p.run+2)
	all := p.runs()
	i := slices.IndexFunc(all, func(r RunInfo) bool { return r.Run == run })
	got, ok, err := p.d.Run(run)
	if err != nil || ok != (i >= 0) || ok && got != all[i] {
		t.Fatalf("run %d: %+v, %v, %v; the runs are\n%+v", run, got, ok, err, all)
	}
}

// checkParts wants every record in one part, with its numbers.
func (p *past) checkParts(t *testing.T, from, to uint64) {
	t.Helper()
	parts, err := p.d.Parts(from, to)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range p.recs {
		if k.number < from || k.number >= to {
			continue
		}
		for len(parts) > 0 && parts[0].Next <= k.number {
			parts = parts[1:]
		}
		if len(parts) == 0 || k.number < parts[0].First || k.number == parts[0].First && parts[0].Run != k.before {
			t.Fatalf("number %d, in run %d, is not in %+v", k.number, k.before, parts)
		}
		if k.number == parts[0].First {
			if got, want := lens(parts[0].Sizes), p.written(parts[0].First, parts[0].Next); got != want {
				t.Fatalf("from %d to %d: %d, want %d", parts[0].First, parts[0].Next, got, want)
			}
		}
	}
}

func (p *past) checkMeasure(t *testing.T, from, to uint64) {
	t.Helper()
	s, err := p.d.Measure(from, to)
	if want := p.written(from, to); err != nil || lens(s) != want {
		t.Fatalf("Measure(%d, %d): %d, %v; want %d", from, to, lens(s), err, want)
	}
	p.checkParts(t, from, to)
}
