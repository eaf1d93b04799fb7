package daemon

import (
	"fmt"

	"logfs/ring"
)

// LineLimit implements capture.Limiter.
func (l *Log) LineLimit() int { return int(l.limit.Load()) }

// Configure puts other limits in force, those of a run that is under way too.
// Dir and Service of the logdir, and what is not a limit, stay as they are. An
// error says that the files are not kept in the new way yet: they will be when
// the disk answers.
func (l *Log) Configure(o LogOptions) error {
	l.limit.Store(int64(o.LineLimit))
	l.resize(o.Ring, o.Block)
	l.wanted.Store(&o.Rotate)
	err := patiently(closePatience, func() error {
		// The last one wins, in whatever order those get on that wait here.
		l.tuning.Lock()
		defer l.tuning.Unlock()
		err := l.dir.Configure(*l.wanted.Load())
		l.disk.Store(l.dir.DiskBytes())
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot configure the files: %w", err)
	}
	return nil
}

// resize gives the ring other limits. While lines wait for the disk it does not
// become smaller: that would lose them.
func (l *Log) resize(limits ring.Limits, block bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.block, l.shrink = block, nil
	if !l.writer.late {
		l.ring.Resize(limits)
		return
	}
	l.shrink = &limits
	now := l.ring.Limits()
	l.ring.Resize(ring.Limits{Lines: max(now.Lines, limits.Lines), Bytes: max(now.Bytes, limits.Bytes)})
	if block {
		l.ring.Keep(l.writer.at.Seq)
	} else {
		l.ring.Keep(ring.KeepNone)
		l.missLocked()
	}
	l.changed.Broadcast()
}
