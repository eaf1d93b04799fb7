package rotate

import (
	"bytes"
	"time"

	"logfs/ring/record"
)

// None is the Period without rotation by time and the Compression without
// compression.
const None = 0

// Period says when time alone makes current an archive: before the first line
// whose stamp is in another hour or day than that of the line before it. Hours
// and days are local, so a day is what the calendar says it is, also when the
// clocks go forward or back. Nothing happens until there is such a line.
type Period int

const (
	Hourly Period = iota + 1
	Daily
)

// moment is an hour or a day.
type moment struct{ hour, offset int64 }

// of returns the hour or day that t is in. The offset tells the two hours
// apart that have one name when the clocks go back.
func (p Period) of(t record.Stamp, zone *time.Location) moment {
	at := time.Unix(0, int64(t)).In(zone)
	_, offset := at.Zone()
	local := at.Unix() + int64(offset)
	if p == Daily {
		const day = 24 * 60 * 60
		return moment{hour: floor(local, day) * 24}
	}
	return moment{floor(local, 60*60), int64(offset)}
}

func floor(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// periodLocked returns the length of the lines that belong into current as
// far as the period goes. They come from few readings of the clock: if the
// first and the last are in one period, so are those between.
func (d *Logdir) periodLocked(lines []byte) int {
	p, zone := d.opt.Period, d.opt.Zone
	if p == None || len(lines) == 0 {
		return len(lines)
	}
	first, ok := record.ParseStamp(lines)
	if !ok {
		return len(lines)
	}
	now := p.of(first, zone)
	if d.records && d.last != 0 && now != p.of(d.last, zone) {
		return 0
	}
	if last, ok := record.ParseStamp(lines[lastLine(lines):]); ok && p.of(last, zone) == now {
		return len(lines)
	}
	for n := 0; n < len(lines); n += bytes.IndexByte(lines[n:], '\n') + 1 {
		if t, ok := record.ParseStamp(lines[n:]); ok && p.of(t, zone) != now {
			return n
		}
	}
	return len(lines)
}

// lastLine returns where the last of some whole lines begins.
func lastLine(lines []byte) int {
	return bytes.LastIndexByte(lines[:len(lines)-1], '\n') + 1
}
