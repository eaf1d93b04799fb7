package record

import (
	"bytes"
	"strings"
	"testing"
	"testing/quick"
	"time"
)

// The vectors were checked with tai64nlocal.
var vectors = []struct {
	unix  Stamp
	label string
}{
	{0*second + 123456789, "@400000000000000a075bcd15"},
	{1000000000*second + 123456789, "@400000003b9aca0a075bcd15"},
	{1700000000*second + 123456789, "@400000006553f10a075bcd15"},
	{1795200000*second + 123456789, "@400000006b00940a075bcd15"},
	{-1, "@40000000000000093b9ac9ff"},
}

func TestStampVectors(t *testing.T) {
	for _, v := range vectors {
		if got := string(AppendStamp(nil, v.unix)); got != v.label {
			t.Errorf("AppendStamp(%d) = %s, want %s", v.unix, got, v.label)
		}
		if got, ok := ParseStamp([]byte(v.label)); !ok || got != v.unix {
			t.Errorf("ParseStamp(%s) = %d, %v, want %d", v.label, got, ok, v.unix)
		}
	}
}

func TestStampRefuses(t *testing.T) {
	for _, bad := range []string{
		"", "@", "400000006553f10a075bcd15", "@400000006553f10a075bcd1", "@400000006553F10A075BCD15",
		"@400000006553f10a3b9aca00", "@ffffffffffffffff00000000", "@000000000000000000000000", "@40000000 553f10a075bcd15",
	} {
		if got, ok := ParseStamp([]byte(bad)); ok {
			t.Errorf("ParseStamp(%q) = %d, want it refused", bad, got)
		}
	}
}

func TestStampOrderIsTextOrder(t *testing.T) {
	err := quick.Check(func(a, b int64) bool {
		x, y := Stamp(a/2), Stamp(b/2)
		return (x < y) == (bytes.Compare(AppendStamp(nil, x), AppendStamp(nil, y)) < 0)
	}, nil)
	if err != nil {
		t.Error(err)
	}
}

func FuzzStamp(f *testing.F) {
	for _, v := range vectors {
		f.Add(v.label)
	}
	f.Add("@400000006553f10a3b9aca00")
	f.Fuzz(func(t *testing.T, s string) {
		v, ok := ParseStamp([]byte(s))
		if ok && string(AppendStamp(nil, v)) != s[:StampLen] {
			t.Errorf("%q was accepted as %d, which is written %s", s, v, AppendStamp(nil, v))
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"@400000006b00928d1908bac4 o GET /health 200\n", "@400000006b00928d1908bac4 e+ half", "@400000006b00928d1908bac4 = exit code=1 after=192s\n",
		"@400000006b00928d1908bac4 =+ no\n", "@400000006b00928d1908bac4 o\n", "@400000006b00928d1908bac4 x y\n", "@400000006b00928d1908bac4 o a\nb\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := Parse(b)
		if err != nil {
			return
		}
		want := append(bytes.TrimSuffix(b, []byte{'\n'}), '\n')
		if got := Append(nil, l.Stamp, l.Kind, l.More, l.Text); !bytes.Equal(got, want) {
			t.Errorf("%q was accepted, but is written %q", b, got)
		}
	})
}

const at = Stamp(1795200000*second + 123456789)

func scan(t *testing.T, lines string, seq, run uint64) []Record {
	t.Helper()
	s := Scanner{Buf: []byte(lines), Seq: seq, Run: run}
	var all []Record
	for r, ok := s.Next(); ok; r, ok = s.Next() {
		all = append(all, r)
	}
	if len(s.Buf) > 0 {
		t.Fatalf("the scanner stopped before %q", s.Buf)
	}
	return all
}

func TestScannerCounts(t *testing.T) {
	var b []byte
	b = Append(b, at, Mark, false, AppendStart(nil, 42, 4242))
	b = Append(b, at, Out, false, []byte("one"))
	b = Append(b, at, Mark, false, AppendLost(nil, 1519))
	b = Append(b, at, Err, true, []byte("half"))
	b = Append(b, at, Mark, false, AppendExit(nil, Exit{Known: true, Code: 1, After: 192 * time.Second}))
	got := scan(t, string(b), 10, 41)
	want := []struct{ seq, last, run uint64 }{{10, 10, 42}, {11, 11, 42}, {12, 1530, 42}, {1531, 1531, 42}, {1532, 1532, 42}}
	for i, w := range want {
		if g := got[i]; g.Seq != w.seq || g.Last != w.last || g.Run != w.run {
			t.Errorf("record %d: number %d-%d run %d, want %+v", i, g.Seq, g.Last, g.Run, w)
		}
	}
}

func TestScannerStopsAtJunk(t *testing.T) {
	good := string(Append(nil, at, Out, false, []byte("x")))
	for _, junk := range []string{"\n", "@4000", good[:len(good)-1], "hello world, this is not a stored line\n", strings.Replace(good, " o ", " q ", 1)} {
		s := Scanner{Buf: []byte(good + junk), Seq: 1}
		if _, ok := s.Next(); !ok {
			t.Fatal("the good line was refused")
		}
		if r, ok := s.Next(); ok || string(s.Buf) != junk || s.Seq != 2 {
			t.Errorf("junk %q gave %+v, left %q, next number %d", junk, r, s.Buf, s.Seq)
		}
	}
}

func TestForms(t *testing.T) {
	exit := func(e Exit) string { return string(AppendExit(nil, e)) }
	cut := func(c Cut) string { return string(AppendCut(nil, c)) }
	for _, c := range []struct {
		kind           Kind
		more           bool
		text           string
		wantText, want string
	}{
		{Out, false, "GET /health 200", "GET /health 200\n", "o;GET /health 200"},
		{Err, false, "a\x00b\x00", "a\\x00b\\x00\n", `e;a\x00b\x00`},
		{Out, true, "half", "half", "o+;half"},
		{Out, false, "", "\n", "o;"},
		{Out, false, "\x1b[2J\r\t\\n\x7f", "\x1b[2J\r\t\\n\x7f\n", `o;\x1b[2J\x0d\x09\x5cn\x7f`},
		{Out, false, "grün → \xff\xc2\x9bm", "grün → \xff\xc2\x9bm\n", `o;grün → \xff\xc2\x9bm`},
		{Out, false, "@400000006b00940a075bcd15,web,1,2,=;forged", "@400000006b00940a075bcd15,web,1,2,=;forged\n", "o;@400000006b00940a075bcd15,web,1,2,=;forged"},
		{Out, false, "<165>1 - - -", "<165>1 - - -\n", "o,pri=165;<165>1 - - -"},
		{Err, true, "<0>", "<0>", "e+,pri=0;<0>"},
		{Out, false, "<191>x", "<191>x\n", "o,pri=191;<191>x"},
		{Out, false, "<192>x", "<192>x\n", "o;<192>x"},
		{Out, false, "<013>x", "<013>x\n", "o;<013>x"},
		{Out, false, "<13", "<13\n", "o;<13"},
		{Out, false, "<>x", "<>x\n", "o;<>x"},
		{Out, false, "<1x>", "<1x>\n", "o;<1x>"},
		{Out, false, " <13>x", " <13>x\n", "o; <13>x"},
		{Mark, false, string(AppendStart(nil, 42, 4242)), "-- web run 42 started 2026-11-20T18:40:00Z pid 4242 --\n", "=;start run=42 pid=4242"},
		{Mark, false, string(AppendUser(AppendStart(nil, 42, 4242), 1000)), "-- web run 42 started 2026-11-20T18:40:00Z pid 4242 uid 1000 --\n", "=;start run=42 pid=4242 uid=1000"},
		{Mark, false, exit(Exit{Known: true, Code: 1, After: 192 * time.Second}), "-- web run 42 exited 1 after 3m12s --\n", "=;exit code=1 after=192s"},
		{Mark, false, exit(Exit{Known: true, Signal: "KILL", After: 250 * time.Millisecond}), "-- web run 42 killed by SIGKILL after 250ms --\n", "=;exit signal=KILL after=0.25s"},
		{Mark, false, exit(Exit{After: 3 * time.Second}), "-- web run 42 ended after 3s --\n", "=;exit after=3s"},
		{Mark, false, cut(Cut{After: 7, Last: 1700000000e9, Torn: 17}), "-- web cut off after line 7 2023-11-14T22:13:20Z, 17 bytes torn: later lines may be lost --\n", "=;cut after=7 last=@400000006553f10a00000000 torn=17"},
		{Mark, false, cut(Cut{After: 7, Last: 1700000000e9}), "-- web cut off after line 7 2023-11-14T22:13:20Z: later lines may be lost --\n", "=;cut after=7 last=@400000006553f10a00000000 torn=0"},
		{Mark, false, cut(Cut{}), "-- web cut off after line 0: later lines may be lost --\n", "=;cut after=0 torn=0"},
	} {
		r := scan(t, string(Append(nil, at, c.kind, c.more, []byte(c.text))), 18441, 42)[0]
		if got := string(r.AppendText(nil, "web")); got != c.wantText {
			t.Errorf("text of %q: %q, want %q", c.text, got, c.wantText)
		}
		want := "@400000006b00940a075bcd15,web,42,18441," + c.want + "\n"
		if got := string(r.AppendSeq(nil, "web")); got != want {
			t.Errorf("seq of %q:\n got %q\nwant %q", c.text, got, want)
		}
		checkLengths(t, &r)
	}
}

func TestLostForms(t *testing.T) {
	r := Lost(at, 42, 18442, 19964)
	if got := string(r.AppendText(nil, "web")); got != "-- web lost 1523 lines 18442-19964 --\n" {
		t.Errorf("text: %q", got)
	}
	if got := string(r.AppendSeq(nil, "web")); got != "@400000006b00940a075bcd15,web,42,18442-19964,=;lost lines=1523\n" {
		t.Errorf("seq: %q", got)
	}
	checkLengths(t, &r)
}

func checkLengths(t *testing.T, r *Record) {
	t.Helper()
	if got, want := r.TextLen("web"), len(r.AppendText(nil, "web")); got != want {
		t.Errorf("TextLen of %q = %d, want %d", r.Text, got, want)
	}
	if got, want := r.BytesLen(), len(r.AppendBytes(nil)); got != want {
		t.Errorf("BytesLen of %q = %d, want %d", r.Text, got, want)
	}
	if got, want := r.SeqLen("web"), len(r.AppendSeq(nil, "web")); got != want {
		t.Errorf("SeqLen of %q = %d, want %d", r.Text, got, want)
	}
}

func FuzzForms(f *testing.F) {
	f.Add([]byte("a\x00\x1b\\\xc2\x9b\xff"), true)
	f.Add([]byte("\xc2"), false)
	f.Add([]byte("<165>1 2026"), true)
	f.Fuzz(func(t *testing.T, text []byte, more bool) {
		text = bytes.ReplaceAll(text, []byte{'\n'}, nil)
		r := scan(t, string(Append(nil, at, Out, more, text)), 7, 1)[0]
		checkLengths(t, &r)
		seq := r.AppendSeq(nil, "web")
		for i, c := range seq[:len(seq)-1] {
			if c < 0x20 || c == 0x7f {
				t.Errorf("control byte %#x at %d in %q", c, i, seq)
			}
		}
	})
}

func TestHeader(t *testing.T) {
	h := Header{Stamp: at, Service: "web", Run: 42, First: 18441, Top: at + 1}
	if line := AppendHeader(nil, h); !bytes.HasSuffix(line, []byte(" first=18441 top=@400000006b00940a075bcd16\n")) {
		t.Errorf("%q", line)
	} else if got, ok := ParseHeader(line); !ok || got != h {
		t.Errorf("ParseHeader(%q) = %+v, %v", line, got, ok)
	}
	h.Top = 0
	line := AppendHeader(nil, h)
	if got, ok := ParseHeader(line); !ok || got != h {
		t.Errorf("ParseHeader(%q) = %+v, %v", line, got, ok)
	}
	for _, bad := range []string{
		"", strings.Replace(string(line), "format=1", "format=2", 1), strings.Replace(string(line), "first=18441", "first=0", 1),
		strings.Replace(string(line), " = ", " o ", 1), strings.Replace(string(line), "run=42", "run=x", 1),
	} {
		if h, ok := ParseHeader([]byte(bad)); ok {
			t.Errorf("ParseHeader(%q) = %+v, want it refused", bad, h)
		}
	}
}

func TestAppendDoesNotAllocate(t *testing.T) {
	buf, text := make([]byte, 0, 1024), []byte("<13>GET /health 200")
	n := testing.AllocsPerRun(100, func() {
		line := Append(buf, at, Out, false, text)
		s := Scanner{Buf: line, Seq: 1}
		r, _ := s.Next()
		r.AppendSeq(line, "web")
	})
	if n != 0 {
		t.Errorf("%v allocations per record", n)
	}
}
