package fs

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"logfs/ring/record"
)

// A point is what a name says of where a selection begins: a number, or a
// moment that may have to be reckoned from the present. Points that say the same
// are equal.
type point struct {
	kind  pointKind
	seq   uint64
	stamp record.Stamp
	ago   time.Duration
	civil civil
}

type pointKind uint8

const (
	pointStart     pointKind = iota
	pointNumber              // seq
	pointStamp               // stamp
	pointAgo                 // ago before now
	pointBoot                // when the machine went up
	pointToday               // the beginning of the day
	pointYesterday           // and of the day before
	pointClock               // the last time the clock showed civil, without its day
	pointDate                // civil
)

// civil is a reading of a clock on a wall.
type civil struct {
	year           int
	month          time.Month
	day            int
	hour, min, sec int
	nsec           int
	zoned          bool
	east           int // seconds east of UTC, if zoned
}

// An origin is what a point comes to: the first record with the number seq or
// greater, or with the stamp at or later if byTime is set. The zero value is the
// start.
type origin struct {
	seq    uint64
	at     record.Stamp
	byTime bool
}

var pointWords = map[string]point{
	"start":     {kind: pointStart},
	"now":       {kind: pointAgo},
	"boot":      {kind: pointBoot},
	"today":     {kind: pointToday},
	"yesterday": {kind: pointYesterday},
}

const pointForms = "want a duration such as 90s, 10m, 1h30m or 3d, a time such as 03:00 or 2026-11-20T02:50, " +
	"a day such as 2026-11-20, a number, a TAI64N label, start, boot, yesterday, today or now"

// parsePoint reads the name of a point. What it means can depend on when it is
// asked for, see at.
func parsePoint(name string) (p point, err error) {
	p, ok := pointWords[name]
	switch {
	case ok:
		return p, nil
	case name == "":
		err = errPoint
	case name[0] == '@':
		p, err = parseLabel(name)
	case strings.Contains(name, ":") || strings.Contains(name, "-"):
		p, err = parseTime(name)
	case name[len(name)-1] >= 'a':
		p, err = parseAgo(name)
	default:
		p, err = parseNumber(name)
	}
	if errors.Is(err, errPoint) {
		return point{}, fmt.Errorf("cannot begin at %q: %w", name, err)
	}
	if err != nil {
		return point{}, fmt.Errorf("cannot begin at %q: %w; %s", name, err, pointForms)
	}
	return p, nil
}

var errPoint = errors.New(pointForms)

func parseLabel(name string) (point, error) {
	t, ok := record.ParseStamp([]byte(name))
	if !ok || len(name) != record.StampLen {
		return point{}, errors.New("a TAI64N label is @ and 24 hex digits in lower case")
	}
	return point{kind: pointStamp, stamp: t}, nil
}

func parseNumber(name string) (point, error) {
	n, err := strconv.ParseUint(name, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return point{}, errors.New("the number is too great")
	case err != nil:
		return point{}, errPoint
	case name[0] == '0':
		return point{}, errors.New("numbers begin with 1, without a 0 before them")
	}
	return point{kind: pointNumber, seq: n}, nil
}

// agoUnits are the units of durations, in the order in which they come. A day
// has 24 hours here.
const agoUnits = "wdhms"

var agoSizes = [...]time.Duration{7 * 24 * time.Hour, 24 * time.Hour, time.Hour, time.Minute, time.Second}

// maxAgo is further back than any log goes.
const maxAgo = 100 * 365 * 24 * time.Hour

func parseAgo(name string) (point, error) {
	p := point{kind: pointAgo}
	for rest, unit := name, -1; rest != ""; {
		i := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
		if i <= 0 {
			return p, errPoint
		}
		u := strings.IndexByte(agoUnits, rest[i])
		n, err := strconv.ParseInt(rest[:i], 10, 64)
		switch {
		case u < 0:
			return p, errPoint
		case u <= unit:
			return p, errors.New("a duration has w, d, h, m and s in this order, each once")
		case err != nil || n > int64(maxAgo/agoSizes[u]):
			return p, errors.New("the duration is too long")
		}
		p.ago += time.Duration(n) * agoSizes[u]
		rest, unit = rest[i+1:], u
	}
	if p.ago > maxAgo {
		return p, errors.New("the duration is too long")
	}
	return p, nil
}

// parseTime reads what has a time of day or a date in it. time.Parse refuses
// what no calendar and no clock shows; of fractions it takes nine digits, also
// behind a comma.
func parseTime(name string) (point, error) {
	form, clock := timeForm(name)
	t, err := time.Parse(form, name)
	if err != nil {
		return point{}, errPoint
	}
	c := civil{hour: t.Hour(), min: t.Minute(), sec: t.Second(), nsec: t.Nanosecond()}
	if clock {
		return point{kind: pointClock, civil: c}, nil
	}
	c.year, c.month, c.day = t.Date()
	if c.year < 1970 || c.year > 2261 {
		return point{}, errors.New("the year is not one of 1970 to 2261")
	}
	if strings.HasSuffix(form, "Z07:00") {
		_, c.east = t.Zone()
		c.zoned = true
	}
	return point{kind: pointDate, civil: c}, nil
}

// timeForm returns the form of a time that name may have, for time.Parse.
func timeForm(name string) (form string, clock bool) {
	date, rest, dated := strings.Cut(name, "T")
	if !dated && strings.Contains(date, "-") {
		return time.DateOnly, false
	}
	if !dated {
		rest = name
	}
	form = "15:04"
	hours, zone := rest, ""
	if i := strings.IndexAny(rest, "Z+-"); i >= 0 && dated {
		hours, zone = rest[:i], "Z07:00"
	}
	if strings.Count(hours, ":") > 1 {
		form = "15:04:05" // and a fraction, if there is one
	}
	if dated {
		return time.DateOnly + "T" + form + zone, false
	}
	return form, true
}

// String returns the name of p that is its own: parsePoint makes p of it.
func (p point) String() string {
	for name, q := range pointWords {
		if p == q {
			return name
		}
	}
	switch p.kind {
	case pointNumber:
		return strconv.FormatUint(p.seq, 10)
	case pointStamp:
		return string(record.AppendStamp(nil, p.stamp))
	case pointAgo:
		return agoText(p.ago)
	case pointClock:
		return p.civil.clock()
	}
	c := p.civil
	day := fmt.Sprintf("%04d-%02d-%02d", c.year, c.month, c.day)
	if c == (civil{year: c.year, month: c.month, day: c.day}) {
		return day
	}
	return day + "T" + c.clock() + c.zone()
}

func agoText(d time.Duration) string {
	var b []byte
	for i, size := range agoSizes {
		if n := d / size; n > 0 {
			b = append(strconv.AppendInt(b, int64(n), 10), agoUnits[i])
			d %= size
		}
	}
	return string(b)
}

func (c *civil) clock() string {
	t := time.Date(1, 1, 1, c.hour, c.min, c.sec, c.nsec, time.UTC)
	if c.sec == 0 && c.nsec == 0 {
		return t.Format("15:04")
	}
	return t.Format("15:04:05.999999999")
}

func (c *civil) zone() string {
	if !c.zoned {
		return ""
	}
	return time.Unix(0, 0).In(time.FixedZone("", c.east)).Format("Z07:00")
}

// at returns what p comes to at the moment now, in whose zone clocks are read.
// The machine went up at boot.
func (p point) at(now, boot time.Time) origin {
	zone := now.Location()
	y, m, d := now.Date()
	var t time.Time
	switch p.kind {
	case pointNumber:
		return origin{seq: p.seq}
	case pointStamp:
		return origin{at: p.stamp, byTime: true}
	case pointAgo:
		t = now.Add(-p.ago)
	case pointBoot:
		t = boot
	case pointToday:
		t = p.civil.on(y, m, d, zone)
	case pointYesterday:
		t = p.civil.on(y, m, d-1, zone)
	case pointClock:
		if t = p.civil.on(y, m, d, zone); t.After(now) {
			t = p.civil.on(y, m, d-1, zone)
		}
	case pointDate:
		if p.civil.zoned {
			zone = time.FixedZone("", p.civil.east)
		}
		t = p.civil.on(p.civil.year, p.civil.month, p.civil.day, zone)
	default:
		return origin{}
	}
	return origin{at: record.Stamp(t.UnixNano()), byTime: true}
}

// on returns the moment at which clocks in zone show c on a day. Of two such
// moments, when clocks were put back, it is the earlier one; where there is
// none, because they were put on, it is the moment when that was done.
func (c *civil) on(year int, month time.Month, day int, zone *time.Location) time.Time {
	wall := time.Date(year, month, day, c.hour, c.min, c.sec, c.nsec, time.UTC)
	first := time.Date(year, month, day, c.hour, c.min, c.sec, c.nsec, zone)
	before, after := offsets(first)
	early, late := wall.Add(-before).In(zone), wall.Add(-after).In(zone)
	switch {
	case sameWall(early, wall):
		return early
	case sameWall(late, wall):
		return late
	}
	change, _ := early.ZoneBounds() // it shows more than c, after the change
	return change
}

// offsets returns by how much clocks are ahead of UTC before and after the
// change of them that is nearest to t, if one is near.
func offsets(t time.Time) (before, after time.Duration) {
	const near = 25 * time.Hour
	ahead := func(t time.Time) time.Duration {
		_, s := t.Zone()
		return time.Duration(s) * time.Second
	}
	start, end := t.ZoneBounds()
	switch {
	case !start.IsZero() && t.Sub(start) < near && (end.IsZero() || t.Sub(start) <= end.Sub(t)):
		return ahead(start.Add(-1)), ahead(t)
	case !end.IsZero() && end.Sub(t) <= near:
		return ahead(t), ahead(end)
	}
	return ahead(t), ahead(t)
}

// sameWall says whether clocks show wall at t.
func sameWall(t, wall time.Time) bool {
	_, s := t.Zone()
	return t.Add(time.Duration(s) * time.Second).Equal(wall)
}

// bootTime returns when the machine went up, by the clock of now.
func bootTime(now time.Time) (time.Time, error) {
	b, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return time.Time{}, fmt.Errorf("cannot find out when the machine went up: %w", err)
	}
	up, _, _ := strings.Cut(string(b), " ")
	s, err := strconv.ParseFloat(up, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("cannot find out when the machine went up: %w", err)
	}
	return now.Add(-time.Duration(s * float64(time.Second))), nil
}
