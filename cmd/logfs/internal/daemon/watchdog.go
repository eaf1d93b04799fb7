package daemon

import (
	"sync"
	"time"
)

const (
	// stall is how long a write may take before capture goes on without it. A
	// disk that is busy but well answers sooner, and a pipe holds what most
	// services say in that time. It is noticed at most a tick late.
	stall = 10 * time.Millisecond
	tick  = stall / 2

	// diskPatience is after how long a stall is worth a warning. Until then, a
	// service that has filled half the ring with lines the disk has not taken
	// waits for it; after that its oldest lines are lost.
	diskPatience = time.Second
)

// A watchdog looks at logs while they write. All logs of a daemon share one,
// and it has one timer, which runs only while something is written: a timer
// for each write would cost more than half as much as the write.
type watchdog struct {
	timer *time.Timer

	mu      sync.Mutex // guards the following; taken after that of a log
	ticking bool
	logs    []*Log
	others  []*Log // the memory of logs at the tick before
}

func newWatchdog() *watchdog {
	d := &watchdog{}
	d.timer = time.AfterFunc(time.Hour, d.tick)
	d.timer.Stop()
	return d
}

// watch has l looked at, until it says that there is nothing to watch.
func (d *watchdog) watch(l *Log) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.logs = append(d.logs, l)
	if !d.ticking {
		d.ticking = true
		d.timer.Reset(tick)
	}
}

func (d *watchdog) tick() {
	d.mu.Lock()
	logs := d.logs
	d.logs, d.others = d.others[:0], nil
	d.mu.Unlock()
	kept := logs[:0]
	for _, l := range logs {
		if l.look() {
			kept = append(kept, l)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	fresh := d.logs
	d.logs, d.others = append(kept, fresh...), fresh
	clear(d.others)
	if d.ticking = len(d.logs) > 0; d.ticking {
		d.timer.Reset(tick)
	}
}
