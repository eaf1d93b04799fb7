package fs

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the zones of the tests, whatever the machine has

	"logfs/ring/record"
)

func zoneNamed(t testing.TB, name string) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

func moment(t testing.TB, rfc3339 string) time.Time {
	t.Helper()
	m, err := time.Parse(time.RFC3339, rfc3339)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Every form has its own name, and a moment at noon and one second in Berlin.
func TestPoints(t *testing.T) {
	now := moment(t, "2026-11-21T12:00:01+01:00").In(zoneNamed(t, "Europe/Berlin"))
	boot := moment(t, "2026-11-01T00:00:00Z")
	for _, c := range []struct{ name, own, want string }{
		{"now", "now", "2026-11-21T12:00:01+01:00"},
		{"0s", "now", "2026-11-21T12:00:01+01:00"},
		{"1s", "1s", "2026-11-21T12:00:00+01:00"},
		{"90s", "1m30s", "2026-11-21T11:58:31+01:00"},
		{"10m", "10m", "2026-11-21T11:50:01+01:00"},
		{"90m", "1h30m", "2026-11-21T10:30:01+01:00"},
		{"2h", "2h", "2026-11-21T10:00:01+01:00"},
		{"1h30m", "1h30m", "2026-11-21T10:30:01+01:00"},
		{"1h0m1s", "1h1s", "2026-11-21T11:00:00+01:00"},
		{"010m", "10m", "2026-11-21T11:50:01+01:00"},
		{"3d", "3d", "2026-11-18T12:00:01+01:00"},
		{"7d", "1w", "2026-11-14T12:00:01+01:00"},
		{"2w1d", "2w1d", "2026-11-06T12:00:01+01:00"},
		{"03:00", "03:00", "2026-11-21T03:00:00+01:00"},
		{"3:00", "03:00", "2026-11-21T03:00:00+01:00"},
		{"03:00:05", "03:00:05", "2026-11-21T03:00:05+01:00"},
		{"03:00:00", "03:00", "2026-11-21T03:00:00+01:00"},
		{"03:00:05.25", "03:00:05.25", "2026-11-21T03:00:05.25+01:00"},
		{"03:00:05,25", "03:00:05.25", "2026-11-21T03:00:05.25+01:00"},
		{"12:00", "12:00", "2026-11-21T12:00:00+01:00"},
		{"12:00:01", "12:00:01", "2026-11-21T12:00:01+01:00"},
		{"12:00:02", "12:00:02", "2026-11-20T12:00:02+01:00"},
		{"23:59", "23:59", "2026-11-20T23:59:00+01:00"},
		{"00:00", "00:00", "2026-11-21T00:00:00+01:00"},
		{"today", "today", "2026-11-21T00:00:00+01:00"},
		{"yesterday", "yesterday", "2026-11-20T00:00:00+01:00"},
		{"2026-11-20", "2026-11-20", "2026-11-20T00:00:00+01:00"},
		{"2026-07-20", "2026-07-20", "2026-07-20T00:00:00+02:00"},
		{"2024-02-29", "2024-02-29", "2024-02-29T00:00:00+01:00"},
		{"2026-11-20T02:50", "2026-11-20T02:50", "2026-11-20T02:50:00+01:00"},
		{"2026-11-20T00:00:00", "2026-11-20", "2026-11-20T00:00:00+01:00"},
		{"2026-11-20T02:50:07", "2026-11-20T02:50:07", "2026-11-20T02:50:07+01:00"},
		{"2026-11-20T02:50:07.000000001", "2026-11-20T02:50:07.000000001", "2026-11-20T02:50:07.000000001+01:00"},
		{"2026-11-20T02:50Z", "2026-11-20T02:50Z", "2026-11-20T02:50:00Z"},
		{"2026-11-20T00:00+00:00", "2026-11-20T00:00Z", "2026-11-20T00:00:00Z"},
		{"2026-11-20T02:50:07-08:30", "2026-11-20T02:50:07-08:30", "2026-11-20T02:50:07-08:30"},
		{"2026-11-20T02:50:07.5+05:45", "2026-11-20T02:50:07.5+05:45", "2026-11-20T02:50:07.5+05:45"},
		{"2031-01-01", "2031-01-01", "2031-01-01T00:00:00+01:00"},
		{"boot", "boot", "2026-11-01T00:00:00Z"},
		{"@400000006553f10a075bcd15", "@400000006553f10a075bcd15", "2023-11-14T22:13:20.123456789Z"},
	} {
		p, err := parsePoint(c.name)
		if err != nil {
			t.Errorf("%q: %v", c.name, err)
			continue
		}
		if got, want := p.at(now, boot), (origin{at: record.Stamp(moment(t, c.want).UnixNano()), byTime: true}); got != want {
			t.Errorf("%q is %s, want %s", c.name, time.Unix(0, int64(got.at)).In(now.Location()).Format(time.RFC3339Nano), c.want)
		}
		if p.String() != c.own {
			t.Errorf("%q has the name %q of its own, want %q", c.name, p, c.own)
		}
	}
	for name, want := range map[string]origin{
		"start": {}, "1": {seq: 1}, "18441": {seq: 18441}, "20261120": {seq: 20261120}, "18446744073709551615": {seq: 1<<64 - 1},
	} {
		if p, err := parsePoint(name); err != nil || p.at(now, boot) != want || p.String() != name {
			t.Errorf("%q is %+v (%s), %v; want %+v", name, p.at(now, boot), p, err, want)
		}
	}
}

func TestBadPoints(t *testing.T) {
	for _, name := range []string{
		"", " ", "x", "end", "Start", "START", "tomorrow", ".", "..", "current",
		"0", "007", "-1", "+1", "1.5", "1e3", "1_000", "0x10", "18446744073709551616", "12 ", " 12", "１２",
		"s", "M", "10M", "10 m", "m10", "1.5h", "-5m", "+5m", "5m1h", "5m5m", "1hh", "10ms", "10min", "1h30", "1y", "5µs",
		"36501d", "99999999999999999999s", "5300w", "5214w200d",
		"24:00", "12:60", "12:30:60", "1230:", ":30", "12:", "12:3", "012:30", "12:30:5", "12:30Z", "12:30+01:00", "12:30pm", "12:30:00.", "12.30", "-03:00",
		"2026-11", "2026-13-01", "2026-00-10", "2026-11-31", "2025-02-29", "2026-1-2", "26-11-20", "2026/11/20", "20261120T0250",
		"2026-11-20T", "2026-11-20T02", "2026-11-20T0250", "2026-11-20 02:50", "2026-11-20t02:50", "2026-11-20T02:50z", "2026-11-20T24:00", "2026-11-20T02:50+1", "2026-11-20T02:50+0100",
		"2026-11-20T02:50:07.Z", "2026-11-20Z", "T02:50", "1969-12-31", "2262-01-01", "0001-01-01", "12026-01-01", "2026-11-20T02:50 CET", "2026-11-20T02:50T02:50",
		"@", "@4000", "@400000006553f10a075bcd1", "@400000006553f10a075bcd155", "@400000006553F10A075BCD15", "@400000006553f10a3b9aca00", "400000006553f10a075bcd15", "@400000006553f10a075bcd15.s", "@1234567890123",
		"12\x00", "\xff", "10m\n",
	} {
		p, err := parsePoint(name)
		if err == nil {
			t.Errorf("%q is %+v", name, p)
		} else if s := err.Error(); !strings.HasPrefix(s, "cannot begin at ") || !strings.Contains(s, "want a duration such as") || strings.Contains(s, "\n") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// On the days when clocks change, some readings come twice and some never.
func TestPointsWhenClocksChange(t *testing.T) {
	for _, c := range []struct{ zone, now, name, want string }{
		// Berlin goes from 02:00 to 03:00 on 2026-03-29, and from 03:00 to 02:00 on 2026-10-25.
		{"Europe/Berlin", "2026-03-29T12:00:00+02:00", "01:59", "2026-03-29T01:59:00+01:00"},
		{"Europe/Berlin", "2026-03-29T12:00:00+02:00", "02:00", "2026-03-29T03:00:00+02:00"},
		{"Europe/Berlin", "2026-03-29T12:00:00+02:00", "02:30", "2026-03-29T03:00:00+02:00"},
		{"Europe/Berlin", "2026-03-29T12:00:00+02:00", "03:00", "2026-03-29T03:00:00+02:00"},
		{"Europe/Berlin", "2026-03-29T12:00:00+02:00", "03:30", "2026-03-29T03:30:00+02:00"},
		{"Europe/Berlin", "2026-03-29T12:00:00+02:00", "today", "2026-03-29T00:00:00+01:00"},
		{"Europe/Berlin", "2026-03-30T12:00:00+02:00", "yesterday", "2026-03-29T00:00:00+01:00"},
		{"Europe/Berlin", "2026-03-29T12:00:00+02:00", "1d", "2026-03-28T11:00:00+01:00"},
		{"Europe/Berlin", "2026-03-29T12:00:00+02:00", "13:00", "2026-03-28T13:00:00+01:00"},
		{"Europe/Berlin", "2026-10-25T12:00:00+01:00", "02:30", "2026-10-25T02:30:00+02:00"},
		{"Europe/Berlin", "2026-10-25T12:00:00+01:00", "01:59:59", "2026-10-25T01:59:59+02:00"},
		{"Europe/Berlin", "2026-10-25T12:00:00+01:00", "03:00", "2026-10-25T03:00:00+01:00"},
		{"Europe/Berlin", "2026-10-25T02:45:00+01:00", "02:50", "2026-10-25T02:50:00+02:00"},
		{"Europe/Berlin", "2026-10-25T02:45:00+02:00", "02:50", "2026-10-24T02:50:00+02:00"},
		{"Europe/Berlin", "2026-10-25T12:00:00+01:00", "today", "2026-10-25T00:00:00+02:00"},
		{"Europe/Berlin", "2026-10-26T12:00:00+01:00", "2026-10-25T02:30", "2026-10-25T02:30:00+02:00"},
		{"Europe/Berlin", "2026-10-26T12:00:00+01:00", "2026-10-25T02:30+01:00", "2026-10-25T02:30:00+01:00"},
		{"America/New_York", "2026-03-08T12:00:00-04:00", "02:30", "2026-03-08T03:00:00-04:00"},
		{"America/New_York", "2026-11-01T12:00:00-05:00", "01:30", "2026-11-01T01:30:00-04:00"},
		// Half an hour in Lord Howe, and a midnight that there was not in Santiago.
		{"Australia/Lord_Howe", "2026-04-05T12:00:00+10:30", "01:45", "2026-04-05T01:45:00+11:00"},
		{"Australia/Lord_Howe", "2026-10-04T12:00:00+11:00", "02:15", "2026-10-04T02:30:00+11:00"},
		{"America/Santiago", "2026-09-06T12:00:00-03:00", "today", "2026-09-06T01:00:00-03:00"},
		{"America/Santiago", "2026-04-05T12:00:00-04:00", "today", "2026-04-05T00:00:00-04:00"},
		{"America/Santiago", "2026-04-05T12:00:00-04:00", "2026-04-04T23:30", "2026-04-04T23:30:00-03:00"},
		// Samoa had no 30 December in 2011.
		{"Pacific/Apia", "2011-12-31T12:00:00+14:00", "yesterday", "2011-12-31T00:00:00+14:00"},
		{"Pacific/Apia", "2011-12-31T12:00:00+14:00", "2011-12-29", "2011-12-29T00:00:00-10:00"},
		{"UTC", "2026-11-21T00:00:00Z", "00:00", "2026-11-21T00:00:00Z"},
		{"UTC", "2026-11-21T00:00:00Z", "00:01", "2026-11-20T00:01:00Z"},
	} {
		now := moment(t, c.now).In(zoneNamed(t, c.zone))
		p, err := parsePoint(c.name)
		if err != nil {
			t.Fatal(err)
		}
		if got := time.Unix(0, int64(p.at(now, now).at)); !got.Equal(moment(t, c.want)) {
			t.Errorf("%s in %s at %s is %s, want %s", c.name, c.zone, c.now, got.In(now.Location()).Format(time.RFC3339), c.want)
		}
	}
}

// A clock time is never in the future, and shows what was asked for unless no
// clock has shown that.
func TestClockTimesOfAYear(t *testing.T) {
	for _, zone := range []string{"Europe/Berlin", "America/Santiago", "Australia/Lord_Howe", "Asia/Kathmandu"} {
		now := time.Date(2026, 1, 1, 0, 10, 0, 0, zoneNamed(t, zone))
		for end := now.AddDate(1, 0, 0); now.Before(end); now = now.Add(37 * time.Minute) {
			for _, name := range []string{"00:00", "00:30", "01:59", "02:15", "12:00", "23:59"} {
				p, err := parsePoint(name)
				if err != nil {
					t.Fatal(err)
				}
				got := time.Unix(0, int64(p.at(now, now).at)).In(now.Location())
				_, was := got.Add(-1).Zone()
				_, is := got.Zone()
				if got.After(now) || now.Sub(got) > 25*time.Hour || got.Format("15:04") != name && is <= was {
					t.Fatalf("%s in %s at %s is %s", name, zone, now, got)
				}
			}
		}
	}
}

func TestBootTime(t *testing.T) {
	now := time.Now()
	boot, err := bootTime(now)
	if err != nil || !boot.Before(now) {
		t.Errorf("up since %s, %v", boot, err)
	}
}

func FuzzPoint(f *testing.F) {
	for _, name := range []string{"start", "10m", "1h30m", "03:00:05.25", "2026-11-20T02:50:07.5+05:45", "@400000006553f10a075bcd15", "18441", "2026-02-30", "yesterday", "2026-11-20T02:50-24:00"} {
		f.Add(name, int64(1795200000))
	}
	zone := zoneNamed(f, "Europe/Berlin")
	f.Fuzz(func(t *testing.T, name string, at int64) {
		p, err := parsePoint(name)
		if err != nil {
			return
		}
		q, err := parsePoint(p.String())
		if err != nil || q != p {
			t.Errorf("%q is called %q, which is %+v and not %+v: %v", name, p, q, p, err)
		}
		now := time.Unix(at%(1<<33), 0).In(zone)
		if p.at(now, now) != q.at(now, now) {
			t.Errorf("%q at %d is %+v", name, at, p.at(now, now))
		}
	})
}
