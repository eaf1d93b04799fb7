package fs

import (
	"io"
	"os/exec"
	"testing"
	"time"

	"logfs/ring"
)

func TestTimeoutOfTheKernel(t *testing.T) {
	for _, tt := range []struct{ byDefault, most, want int }{
		{0, 0, 0}, {60, 0, 60}, {0, 30, 30}, {60, 30, 30}, {20, 30, 20},
	} {
		if got := timeoutOf(tt.byDefault, tt.most); got != time.Duration(tt.want)*time.Second {
			t.Errorf("default %d, at most %d: %v, want %d s", tt.byDefault, tt.most, got, tt.want)
		}
	}
}

// Readers that wait are interrupted when they have waited for long enough: cat
// waits on, sed ends.
func TestReadsAreBounded(t *testing.T) {
	m := mountWeb(t, ring.Limits{})
	m.s.longest.Store(int64(20 * time.Millisecond))
	cat := exec.Command("cat", m.path("follow"))
	out, err := cat.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cat.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cat.Process.Kill(); _ = cat.Wait() })
	for range 5 {
		<-m.parks
	}
	m.say("o one")
	for range 5 {
		<-m.parks
	}
	m.say("o two")
	got := make([]byte, len("one\ntwo\n"))
	if _, err := io.ReadFull(out, got); err != nil || string(got) != "one\ntwo\n" {
		t.Errorf("cat has %q, %v", got, err)
	}
	if said, err := exec.Command("sed", "-u", "-n", "p", m.path("follow")).CombinedOutput(); err == nil {
		t.Errorf("sed ended well: %q", said)
	}
	m.s.waits.mu.Lock()
	defer m.s.waits.mu.Unlock()
	if n := len(m.s.waits.m); n > 1 {
		t.Errorf("%d reads are parked, of one reader", n)
	}
}
