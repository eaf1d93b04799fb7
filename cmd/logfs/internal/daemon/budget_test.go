package daemon

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"logfs/cmd/logfs/internal/config"
	"logfs/cmd/logfs/internal/control"
	"logfs/cmd/logfs/internal/exit"
)

func wants(name string, bytes int64) config.Service {
	return config.Service{Name: name, RingBytes: bytes, LineLimit: 1000}
}

// Rings never hold more together than they may, however many services come, and
// nobody gets less than four lines.
func TestBudget(t *testing.T) {
	b := newBudget(config.Limits{RingTotal: 1 << 20})
	b.reserve(wants("own", 1<<19))
	var err error
	smallest, n := int64(1<<20), 0
	for ; err == nil; n++ {
		c := wants(fmt.Sprint("job", n), 1<<19)
		if err = b.admit(c); err == nil {
			smallest = min(smallest, b.bytes(c))
		}
		if sum := b.givenLocked(); sum > 1<<20 {
			t.Fatalf("%d bytes given with %d services", sum, n)
		}
	}
	if !errors.Is(err, errLimit) || n < 40 || smallest != 4000 {
		t.Errorf("%d services, the smallest ring has %d bytes, then %v", n, smallest, err)
	}
	b.release("job0")
	if err := b.admit(wants("again", 1<<19)); err != nil {
		t.Errorf("after one has gone: %v", err)
	}
}

func TestBudgetAfterAReload(t *testing.T) {
	b := newBudget(config.Limits{RingTotal: 1 << 20})
	for i := range 4 {
		if err := b.admit(wants(fmt.Sprint("job", i), 1<<18)); err != nil {
			t.Fatal(err)
		}
	}
	before := b.bytes(wants("job0", 1<<18))
	c := config.Config{Limits: b.limits, Defaults: wants("", 1<<18)}
	for name, changed := range b.refit(c) {
		if changed {
			t.Errorf("%s has another share after a reload of the same", name)
		}
	}
	c.Services = []config.Service{wants("own", 1<<20-1<<15), wants("job3", 1<<10)}
	other := b.refit(c)
	if now := b.bytes(wants("job0", 1<<18)); !other["job0"] || now >= before || now < 4000 {
		t.Errorf("job0 has %d bytes after %d, want less", now, before)
	}
	if sum := b.givenLocked(); sum > 1<<20 || b.bytes(wants("own", 1)) != 1<<20-1<<15 {
		t.Errorf("%d bytes given, the configured have %+v", sum, b.shares)
	}
	c.Limits.RingTotal = 0
	b.refit(c)
	if now := b.bytes(wants("job0", 1<<18)); now != 1<<18 {
		t.Errorf("job0 has %d bytes without a limit", now)
	}
}

// A service too many is refused and counted, and leaves nothing behind.
func TestServiceLimit(t *testing.T) {
	o := newOptions(t)
	o.Config.Limits = config.Limits{Services: 2, RingTotal: 1 << 40}
	dt := openDaemon(t, o)
	for _, name := range []string{"one", "two"} {
		r, _ := dt.attach(t, name, control.Pipe)
		r.Detach()
	}
	_, err := dt.service("three")
	if exit.Status(err) != exit.Refused || !strings.Contains(err.Error(), "max-services is 2") {
		t.Errorf("a third service: %v", err)
	}
	if _, err := dt.service("two"); err != nil {
		t.Errorf("one that is there: %v", err)
	}
	if err := dt.makeService("three", 0o755); !errors.Is(err, syscall.EDQUOT) {
		t.Errorf("mkdir of a third: %v, want EDQUOT", err)
	}
	var table strings.Builder
	dt.Limits(&table)
	if !strings.HasPrefix(table.String(), limitsHeader+"max-services 2 2 2\nring-total ") {
		t.Errorf("limits:\n%s", &table)
	}
}
