package fs

import (
	"bytes"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"logfs/ring"
	"logfs/ring/record"
)

// refilled is a ring that has the records of r from number first on, as after a
// restart.
func refilled(r *ring.Ring, first uint64) *ring.Ring {
	to := ring.New(ring.Limits{})
	oldest, _ := r.Held()
	begun := false
	for c, ok := r.Chunk(oldest.Block); ok; c, ok = r.Chunk(c.Block + 1) {
		s := record.Scanner{Buf: c.Data, Seq: c.First, Run: c.Run}
		for {
			at := s
			rec, ok := s.Next()
			if !ok {
				break
			}
			if rec.Seq < first {
				continue
			}
			if !begun {
				to.Start(rec.Seq, at.Run)
				begun = true
			}
			b := to.Begin()
			stamp, _ := record.ParseStamp(at.Buf)
			b.Add(stamp, rec.Kind, rec.More, rec.Text)
			b.Commit()
		}
		c.Release()
	}
	return to
}

// A reader who is taken over anywhere, in the middle of a line or between the
// moments in which an answer is noted, sent, and noted once more, reads on as if
// nothing had happened; so does one who reads again what he has had.
func TestTakeoverAnywhere(t *testing.T) {
	for seed := range int64(300) {
		rnd := rand.New(rand.NewSource(seed))
		sel, kind := streams(rnd.Intn(int(streamKinds))), fileKind(rnd.Intn(int(fileKinds)))
		e := newTestEntry(ring.Limits{})
		e.fs = &Server{}
		appendRandom(e.Ring, rnd, 1+rnd.Intn(100))
		n := &node{kind: kind, e: e, v: e.view(sel, kind), cell: &nodeCell{}}
		n.settle()
		h := newHandle(n)
		h.cell = &handleCell{}
		h.note()
		size := n.size()
		read := func(h *handle, off int64, size int) []byte {
			dst := make([]byte, size)
			a := h.reading(off, 0)
			got, _ := h.answer(dst, &a)
			return dst[:got]
		}
		var all []byte
		for range rnd.Intn(20) {
			all = append(all, read(h, int64(len(all)), 1+rnd.Intn(100))...)
			h.note()
		}
		got := bytes.Clone(all)
		if rnd.Intn(2) == 0 { // sent, and not noted
			all = append(all, read(h, int64(len(all)), 1+rnd.Intn(100))...)
			h.noteAhead()
			if rnd.Intn(2) == 0 {
				got = bytes.Clone(all)
			}
		}
		anchor := h.cell.at[h.cell.flags.Load()&flagSecond]
		appendRandom(e.Ring, rnd, 1+rnd.Intn(20))
		n.atEnd() // current shows what came since

		e2 := newTestEntry(ring.Limits{})
		e2.fs = &Server{}
		first := anchor.seq - uint64(rnd.Int63n(int64(anchor.seq)))
		r2 := refilled(e.Ring, first)
		e2 = newEntry(Service{Name: "web", Ring: r2, Looks: Looks{Marks: true}}, e2.fs, 1)
		n2 := e.fs.restoredNode(e2, sel, kind, n.cell)
		h2 := newRestored(n2, h.cell)
		h2.findPlace(anchor.since)
		n2.atEnd()
		if now := n2.size(); now < size {
			t.Errorf("seed %d: the size was %d and is %d", seed, size, now)
		}
		for {
			more := read(h, int64(len(all)), 1000)
			if len(more) == 0 {
				break
			}
			all = append(all, more...)
		}
		for {
			more := read(h2, int64(len(got)), 1+rnd.Intn(200))
			if len(more) == 0 {
				break
			}
			got = append(got, more...)
		}
		if !bytes.Equal(got, all) {
			t.Fatalf("seed %d: %s of selection %d, from number %d, anchor %+v:\n got %q\nwant %q", seed, fileNames[kind], sel, first, anchor, got, all)
		}
		// A newline more, if the ring begins in the middle of an unfinished line.
		if more := n2.size() - int64(len(all)); more < 0 || more > 1 && n2.size() > size {
			t.Errorf("seed %d: the size is %d, %d bytes were read", seed, n2.size(), len(all))
		}
		if s := h2.main.stretches[len(h2.main.stretches)-1]; int64(len(all)) > s.off {
			at := s.off + rnd.Int63n(int64(len(all))-s.off)
			if again := read(h2, at, 50); !bytes.HasPrefix(all[at:], again) || len(again) == 0 {
				t.Errorf("seed %d: read again at %d: %q, want %q", seed, at, again, all[at:])
			}
		}
	}
}

// What was noted is there for the next process, cells that were given back are
// taken again, and memory of another format is refused.
func TestState(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(int64(StateSize)); err != nil {
		t.Fatal(err)
	}
	s, err := openState(f)
	if err != nil {
		t.Fatal(err)
	}
	if s.check() == nil {
		t.Error("memory that nobody has begun is accepted")
	}
	if err := s.begin([]byte("init"), "0:52", "/mnt/logs", "/mnt/logs", 0); err != nil {
		t.Fatal(err)
	}
	one := newTree()
	one.state = s
	slot, web := one.keepEntry("web")
	_, db := one.keepEntry("db")
	one.giveEntry(db)
	for range 3 {
		one.addText(&text{ino: statusIno})
	}
	one.unlook(firstFresh+2, 1)
	fh := one.addHandle(listing{}, 0)

	s, err = openState(f)
	if err != nil || s.check() != nil {
		t.Fatal(err, s.check())
	}
	two := newTree()
	two.adopt(s)
	if again, c := two.keepEntry("web"); again != slot || upToNUL(c.name[:]) != "web" || c.slot.Load() != web.slot.Load() {
		t.Errorf("web has slot %d, had %d", again, slot)
	}
	if again, _ := two.keepEntry("db"); again <= slot+1 {
		t.Errorf("slot %d was given out twice", again)
	}
	srv := &Server{tree: two}
	srv.opts.Status = func(w io.Writer) {}
	srv.restore()
	if len(two.texts) != 2 || two.texts[firstFresh+2] != nil {
		t.Errorf("restored: %v", two.texts)
	}
	two.addText(&text{ino: ignoreIno})
	if two.texts[firstFresh+4] == nil || s.used[1].Load() != 3 {
		t.Errorf("with one more: %v in %d cells", two.texts, s.used[1].Load())
	}
	if again := two.addHandle(listing{}, 0); again <= fh {
		t.Errorf("handle %d was given out twice", again)
	}
	s.magic[7]++
	if s.check() == nil {
		t.Error("memory of another format is accepted")
	}
}

// Nodes that the kernel does not know are forgotten, those it knows are not.
func TestSweep(t *testing.T) {
	m := mountWeb(t, ring.Limits{})
	m.say("o one")
	fd, err := syscall.Open(m.path("current"), syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	unheard := &node{kind: follow, e: m.e, v: m.e.view(selAll, follow)}
	m.s.tree.addNode(unheard)
	m.s.inherited = m.s.tree.fresh
	m.s.sweep()
	if n, _ := m.s.tree.node(unheard.id); n != nil {
		t.Error("a node that the kernel has not heard of is still there")
	}
	var b [10]byte
	if n, err := syscall.Pread(fd, b[:], 0); string(b[:max(n, 0)]) != "one\n" {
		t.Errorf("an open file: %q, %v", b[:max(n, 0)], err)
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil || st.Size != 4 {
		t.Errorf("fstat of an open file: %d bytes, %v", st.Size, err)
	}
}
