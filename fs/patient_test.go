package fs

import (
	"runtime"
	"syscall"
	"testing"
	"time"

	"logfs/ring"
)

// An asker reads files as GNU tail -f does, on a thread of its own: the kernel says
// which thread asks.
type asker struct {
	t    *testing.T
	m    *mounted
	do   chan func()
	size chan int64
}

func newAsker(t *testing.T, m *mounted) *asker {
	a := &asker{t: t, m: m, do: make(chan func()), size: make(chan int64, 1)}
	go func() {
		runtime.LockOSThread()
		for f := range a.do {
			f()
		}
	}()
	t.Cleanup(func() { close(a.do) })
	return a
}

// open opens a file, goes to its end and finds nothing there.
func (a *asker) open(name string) *reader {
	r := a.m.open(a.t, name, 0)
	done := make(chan struct{})
	a.do <- func() {
		defer close(done)
		if _, err := syscall.Seek(r.fd, 0, 2); err != nil {
			a.t.Error(err)
		}
		r.wants(100, "")
	}
	<-done
	return r
}

// ask asks for the size of r. Go interrupts its threads, which has the kernel
// answer: then it asks again, as long as the size is before.
func (a *asker) ask(r *reader, before int64) {
	a.do <- func() {
		var st syscall.Stat_t
		for st.Size = before; st.Size == before; {
			if err := syscall.Fstat(r.fd, &st); err != nil {
				a.t.Error(err)
				break
			}
			if before == 0 {
				break
			}
		}
		a.size <- st.Size
	}
}

// told asks once and is answered.
func (a *asker) told(r *reader, want int64) {
	a.t.Helper()
	a.ask(r, 0)
	select {
	case got := <-a.size:
		if got != want {
			a.t.Errorf("the size is %d, want %d", got, want)
		}
	case <-time.After(10 * time.Second):
		a.t.Fatal("the first question after news was not answered")
	}
}

// waits asks and is not answered before do is done: then it is told want.
func (a *asker) waits(r *reader, before, want int64, do func()) {
	a.t.Helper()
	select {
	case <-a.m.parks:
	default:
	}
	a.ask(r, before)
	select {
	case <-a.m.parks:
	case got := <-a.size:
		a.t.Fatalf("the size %d was told at once, want it with news", got)
	case <-time.After(10 * time.Second):
		a.t.Fatal("the question is not parked")
	}
	do()
	select {
	case got := <-a.size:
		if got != want {
			a.t.Errorf("the size is %d, want %d", got, want)
		}
	case <-time.After(5 * time.Second): // before patience ends
		a.t.Fatal("a question was not answered at the news")
	}
}

// Who asks a second time for the size of a file that has no news is answered when
// there is some; the first question after news is answered at once.
func TestQuestionWaitsForNews(t *testing.T) {
	m := mountWeb(t, ring.Limits{})
	m.say("o one")
	a := newAsker(t, m)
	r := a.open("follow")
	a.told(r, 4)
	a.told(r, 4) // tail has not printed what there was
	a.waits(r, 4, 8, func() { m.say("o two") })
	r.wants(4, "two\n")
	a.told(r, 8)
	a.waits(r, 8, 14, func() { m.say("e three") })
	if got := statSize(t, m.path("follow")); got != 14 {
		t.Errorf("stat of the path says %d, want 14 at once", got)
	}
	r.wants(6, "three\n")
	a.told(r, 14)
	a.waits(r, 14, 19, func() { m.say("o four") })
}

// Of several files the first one waits for all, and none other waits.
func TestQuestionWaitsForSeveralFiles(t *testing.T) {
	m := mountWeb(t, ring.Limits{})
	m.say("o one", "e one")
	a := newAsker(t, m)
	out, err := a.open("stdout/follow"), a.open("stderr/follow")
	for range 3 {
		a.told(err, 4)
	}
	a.told(out, 4)
	a.told(out, 4)
	before := int64(4)
	a.ask(out, 0)
	for m.s.pollers.waiting() == 0 {
		runtime.Gosched()
	}
	m.say("e two")
	if got := <-a.size; got != before {
		t.Errorf("the size of stdout is %d, want %d and the question answered for the news of stderr", got, before)
	}
	a.told(err, 8)
	err.wants(4, "two\n")
	a.told(out, 4) // tail has not printed it yet
}

func (p *pollers) waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.asked)
}

func statSize(t *testing.T, path string) int64 {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Size
}

// What is removed, and what ends, answers those who ask for its size.
func TestQuestionEndsWithTheService(t *testing.T) {
	m := mountWeb(t, ring.Limits{})
	m.say("o one")
	a := newAsker(t, m)
	r := a.open("follow")
	a.told(r, 4)
	a.told(r, 4)
	a.ask(r, 0)
	for m.s.pollers.waiting() == 0 {
		runtime.Gosched()
	}
	m.s.Remove("web")
	if got := <-a.size; got != 4 {
		t.Errorf("the size is %d, want 4", got)
	}
}
