package rotate

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"logfs/ring/record"
)

func at(t testing.TB, when string, zone *time.Location) record.Stamp {
	t.Helper()
	v, err := time.ParseInLocation(time.DateTime, when, zone)
	if err == nil {
		return record.Stamp(v.UnixNano())
	}
	if v, err = time.Parse(time.RFC3339, when); err != nil {
		t.Fatal(err)
	}
	return record.Stamp(v.UnixNano())
}

func line(t record.Stamp, s string) string {
	return string(record.Append(nil, t, record.Out, false, []byte(s)))
}

// TestPeriod appends a line at each time of a row. A "|" stands where a new
// file must begin.
func TestPeriod(t *testing.T) {
	for _, c := range []struct {
		name, zone string
		period     Period
		times      string
	}{
		{"hourly", "UTC", Hourly, "2026-11-20 10:00:00,2026-11-20 10:59:59|2026-11-20 11:00:00,2026-11-20 11:00:01"},
		{"hourly, a day later at the same hour", "UTC", Hourly, "2026-11-20 10:00:00|2026-11-21 10:00:00"},
		{"hourly in Kolkata", "Asia/Kolkata", Hourly, "2026-11-20 10:29:59,2026-11-20 10:30:00,2026-11-20 10:59:59|2026-11-20 11:00:00"},
		{"hourly, hour twice", "Europe/Berlin", Hourly, "2026-10-25T02:59:59+02:00|2026-10-25T02:00:00+01:00,2026-10-25T02:59:59+01:00|2026-10-25 03:00:00"},
		{"hourly, clock steps back", "UTC", Hourly, "2026-11-20 10:00:00,2026-11-20 10:30:00|2026-11-20 09:59:00|2026-11-20 10:00:00"},
		{"hourly, before 1970", "UTC", Hourly, "1969-12-31 22:59:59|1969-12-31 23:00:00,1969-12-31 23:59:59|1970-01-01 00:00:00"},
		{"daily", "UTC", Daily, "2026-11-20 00:00:00,2026-11-20 23:59:59|2026-11-21 00:00:00,2026-11-21 10:00:00"},
		{"daily in New York", "America/New_York", Daily, "2026-11-20 20:00:00,2026-11-20 23:59:59|2026-11-21 00:00:00"},
		{"daily, 25 hours", "Europe/Berlin", Daily, "2026-10-25 00:00:00,2026-10-25T02:30:00+02:00,2026-10-25T02:30:00+01:00,2026-10-25 23:59:59|2026-10-26 00:00:00"},
		{"daily, 23 hours", "Europe/Berlin", Daily, "2026-03-28 23:59:59|2026-03-29 00:00:00,2026-03-29 23:59:59|2026-03-30 00:00:00"},
		{"daily, no midnight", "America/Sao_Paulo", Daily, "2018-11-03 23:59:59|2018-11-04 01:00:00,2018-11-04 23:59:59|2018-11-05 00:00:00"},
		{"daily, midnight twice", "America/Sao_Paulo", Daily, "2018-02-17T22:30:00-02:00,2018-02-17T23:30:00-02:00,2018-02-17T23:30:00-03:00|2018-02-18 00:00:00"},
		{"daily, clock steps back", "UTC", Daily, "2026-11-20 10:00:00|2026-11-19 10:00:00,2026-11-19 10:00:01|2026-11-20 10:00:02"},
		{"none", "UTC", None, "2026-11-20 10:00:00,2027-11-20 10:00:00"},
	} {
		zone, err := time.LoadLocation(c.zone)
		if err != nil {
			t.Fatal(err)
		}
		var want []string // the lines of each file
		for group := range strings.SplitSeq(c.times, "|") {
			var lines string
			for when := range strings.SplitSeq(group, ",") {
				lines += line(at(t, when, zone), when)
			}
			want = append(want, lines)
		}
		for _, whole := range []bool{false, true} {
			if whole && strings.Contains(c.name, "steps back") {
				continue // a batch has one reading of the clock
			}
			dir := t.TempDir()
			o := options(dir)
			o.Size, o.Period, o.Zone = 1<<20, c.period, zone
			o.Now = func() record.Stamp { return base }
			d := mustOpen(t, o)
			all := strings.Join(want, "")
			if n := uint64(strings.Count(all, "\n")); whole {
				mustAppend(t, d, all, 1, n+1, 0)
			} else {
				next := uint64(1)
				for line := range strings.Lines(all) {
					mustAppend(t, d, line, next, next+1, 0)
					next++
				}
			}
			mustClose(t, d)
			names, content := files(t, dir)
			var got []string
			for _, name := range names {
				_, body, _ := strings.Cut(content[name], "\n")
				got = append(got, body)
			}
			if strings.Join(got, "|") != strings.Join(want, "|") {
				t.Errorf("%s, one batch %v: files hold\n%s\nwant\n%s", c.name, whole, strings.Join(got, "|"), strings.Join(want, "|"))
			}
		}
	}
}

// TestPeriodAcrossRestart: the hour of the last line counts, also when it was
// written by an earlier owner.
func TestPeriodAcrossRestart(t *testing.T) {
	dir := t.TempDir()
	o := options(dir)
	o.Period, o.Zone = Hourly, time.UTC
	d := mustOpen(t, o)
	mustAppend(t, d, line(at(t, "2026-11-20 10:59:00", time.UTC), "a"), 1, 2, 0)
	mustClose(t, d)
	d = mustOpen(t, o)
	mustAppend(t, d, line(at(t, "2026-11-20 10:59:30", time.UTC), "b"), 2, 3, 0)
	mustClose(t, d)
	d = mustOpen(t, o)
	mustAppend(t, d, line(at(t, "2026-11-20 11:00:00", time.UTC), "c"), 3, 4, 0)
	mustClose(t, d)
	if names, _ := files(t, dir); len(names) != 2 {
		t.Errorf("%d files, want 2", len(names))
	}
}

// retained returns the first numbers of the files there are.
func retained(t *testing.T, dir string) (first []uint64) {
	t.Helper()
	names, content := files(t, dir)
	for _, name := range names {
		h, _, _ := readHeader(strings.NewReader(content[name]))
		first = append(first, h.First)
	}
	return first
}

// TestRetention has ten lines in each archive, and the clock at the last line.
func TestRetention(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(o *Options)
		want uint64 // the oldest number kept of 1 to 100
	}{
		{"keep", func(o *Options) { o.Keep = 4 }, 51},
		{"total", func(o *Options) { o.Total = 4 * 670 }, 51},
		{"total, exactly", func(o *Options) { o.Total = int64(2 * len(header(0, 71)+lines(71, 81))) }, 71},
		{"total, a byte less", func(o *Options) { o.Total = int64(2*len(header(0, 71)+lines(71, 81)) - 1) }, 81},
		{"total less than one", func(o *Options) { o.Total = 100 }, 91},
		{"keep before total", func(o *Options) { o.Keep, o.Total = 3, 4*670 }, 61},
		{"total before keep", func(o *Options) { o.Keep, o.Total = 5, 2*670+600 }, 71},
		{"age", func(o *Options) { o.Age = 30 * time.Microsecond }, 61},
		{"age, one younger", func(o *Options) { o.Age = 31 * time.Microsecond }, 61},
		{"age before keep", func(o *Options) { o.Keep, o.Age = 5, 15*time.Microsecond }, 81},
	} {
		for _, how := range []string{"written", "configured", "opened"} {
			dir := t.TempDir()
			var clock record.Stamp
			o := options(dir)
			o.Now = func() record.Stamp { return clock }
			limited := o
			c.set(&limited)
			if how == "written" {
				o = limited
			}
			d := mustOpen(t, o)
			for n := uint64(1); n <= 100; n++ {
				clock = stamp(n)
				mustAppend(t, d, text(n), n, n+1, 0)
			}
			switch how {
			case "configured":
				if err := d.Configure(limited); err != nil {
					t.Fatal(err)
				}
			case "opened":
				mustClose(t, d)
				d = mustOpen(t, limited)
			}
			if got := retained(t, dir); got[0] != c.want {
				t.Errorf("%s, %s: files from %d, want from %d", c.name, how, got, c.want)
			}
			var bytes int64
			_, content := files(t, dir)
			for _, s := range content {
				bytes += int64(len(s))
			}
			if d.DiskBytes() != bytes {
				t.Errorf("%s, %s: DiskBytes %d, want %d", c.name, how, d.DiskBytes(), bytes)
			}
			mustClose(t, d)
		}
	}
}

// TestAgeWithoutRotation: a line written long after an archive ended shows
// that it is too old.
func TestAgeWithoutRotation(t *testing.T) {
	o := options(t.TempDir())
	clock := stamp(30)
	o.Age, o.Now = time.Hour, func() record.Stamp { return clock }
	d := mustOpen(t, o)
	defer d.Close()
	mustAppend(t, d, lines(1, 15), 1, 15, 0)
	if got := retained(t, o.Dir); len(got) != 2 {
		t.Fatalf("files from %d, want two", got)
	}
	clock += record.Stamp(time.Hour) + 1
	mustAppend(t, d, line(clock, "later"), 15, 16, 0)
	if got := retained(t, o.Dir); len(got) != 1 || got[0] != 11 {
		t.Errorf("files from %d, want the one from 11", got)
	}
}

// TestClockStepsBackADay keeps the newest five files' worth of lines.
func TestClockStepsBackADay(t *testing.T) {
	dir := t.TempDir()
	o := options(dir)
	step := record.Stamp(0)
	o.Keep, o.Now = 5, func() record.Stamp { return noon + step }
	d := mustOpen(t, o)
	var all string
	for n := uint64(1); n <= 200; n++ {
		if n == 171 {
			step = -record.Stamp(24 * time.Hour)
		}
		s := line(stamp(n)+step, strings.Repeat("x", 31))
		mustAppend(t, d, s, n, n+1, 0)
		if n > 140 {
			all += s
		}
	}
	mustClose(t, d)
	checkFiles(t, dir, all)
}

func TestConfigure(t *testing.T) {
	o := options(t.TempDir())
	d := mustOpen(t, o)
	mustAppend(t, d, lines(1, 8), 1, 8, 0)
	o.Size = 200
	if err := d.Configure(o); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, d, lines(8, 12), 8, 12, 0)
	if got := retained(t, o.Dir); len(got) != 3 || got[1] != 8 || got[2] != 10 {
		t.Errorf("files from %d, want from 1, 8 and 10", got)
	}
	for _, wrong := range []Options{{Dir: "/elsewhere"}, {Service: "db"}, {Period: 3}, {Period: -1}} {
		if err := d.Configure(wrong); err == nil {
			t.Errorf("%+v accepted", wrong)
		}
	}
	mustClose(t, d)
	if err := d.Configure(o); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	o.Period = 7
	if _, err := Open(o); err == nil {
		t.Error("opened with period 7")
	}
}

// TestUnreadableArchives are said once and left alone.
func TestUnreadableArchives(t *testing.T) {
	dir := t.TempDir()
	lay(t, dir, file{archiveName(stamp(1), complete), header(1, 1) + lines(1, 4), false})
	if err := os.Symlink("/nonexistent", filepath.Join(dir, archiveName(stamp(2), complete))); err != nil {
		t.Fatal(err)
	}
	d := mustOpen(t, options(dir))
	if s := d.State(); s.Next != 4 {
		t.Errorf("opened as %+v", s)
	}
	mustClose(t, d)
}
