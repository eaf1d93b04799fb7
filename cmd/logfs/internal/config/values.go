package config

import (
	"fmt"
	"maps"
	"math"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// rule is how the value of a key is taken: the type and the accepted values
// for the reader, and the function that takes or refuses one.
type rule struct {
	kind     string
	accepted string
	set      func(to target, value any) *refusal
	none     func(to target) *refusal // sets the zero value
}

// parsed is the rule of a TOML value of type V that becomes a T.
func parsed[V, T any](kind, accepted string, parse func(V) (T, bool), field func(target) *T) rule {
	return rule{kind, accepted, func(to target, value any) *refusal {
		v, ok := value.(V)
		if !ok {
			return &refusal{value: value}
		}
		out, ok := parse(v)
		if !ok {
			return &refusal{value: value}
		}
		*field(to) = out
		return nil
	}, func(to target) *refusal {
		var zero T
		*field(to) = zero
		return nil
	}}
}

func boolean(field func(target) *bool) rule {
	return parsed("boolean", "true or false", func(v bool) (bool, bool) { return v, true }, field)
}

func integer(least, most int, field func(target) *int) rule {
	return parsed("integer", fmt.Sprintf("a whole number from %d to %d", least, most),
		func(v int64) (int, bool) { return int(v), int64(least) <= v && v <= int64(most) }, field)
}

func size[T int | int64](least, most T, field func(target) *T) rule {
	return parsed("size", fmt.Sprintf(`a number of bytes or a string such as "64KiB" or "64KB", from %s to %s`,
		sizeText(int64(least)), sizeText(int64(most))),
		func(v any) (T, bool) {
			n, ok := sizeOf(v)
			return T(n), ok && int64(least) <= n && n <= int64(most)
		}, field)
}

func duration(least, most time.Duration, field func(target) *time.Duration) rule {
	return parsed("duration", fmt.Sprintf(`a duration from %s to %s, such as "250ms", "1s" or "1m30s"`,
		durationText(least), durationText(most)),
		func(v string) (time.Duration, bool) {
			d, err := time.ParseDuration(v)
			return d, err == nil && least <= d && d <= most
		}, field)
}

// days is a duration that may have days.
func days(least time.Duration, most int, field func(target) *time.Duration) rule {
	return parsed("duration", fmt.Sprintf(`a duration from %s to %dd, such as "12h", "7d" or "1d12h"`,
		durationText(least), most),
		func(v string) (time.Duration, bool) {
			d, ok := daysOf(v)
			return d, ok && least <= d && d <= time.Duration(most)*day
		}, field)
}

const day = 24 * time.Hour

// daysOf takes whole days, then what time.ParseDuration takes, or one of both.
func daysOf(v string) (time.Duration, bool) {
	before, rest, ok := strings.Cut(v, "d")
	if !ok {
		rest = v
	}
	var sum time.Duration
	if ok {
		n, err := strconv.ParseUint(before, 10, 16)
		if err != nil {
			return 0, false
		}
		sum = time.Duration(n) * day
		if rest == "" {
			return sum, true
		}
	}
	d, err := time.ParseDuration(rest)
	return sum + d, err == nil && 0 <= d && d <= math.MaxInt64-sum
}

// unlimited also takes 0, for no limit.
func unlimited(r rule) rule {
	return rule{r.kind, "0 for no limit, or " + r.accepted, func(to target, value any) *refusal {
		if value == int64(0) {
			return r.none(to)
		}
		return r.set(to, value)
	}, nil}
}

// path is an absolute path, taken in its clean form.
func path(longest int, field func(target) *string) rule {
	return parsed("path", fmt.Sprintf("an absolute path of at most %d bytes", longest),
		func(v string) (string, bool) {
			p := filepath.Clean(v)
			return p, filepath.IsAbs(p) && len(p) <= longest && !strings.Contains(p, "\x00")
		}, field)
}

// account is a user a command can run as.
func account(field func(target) *string) rule {
	return parsed("string", "the name or number of a user known here, as a string",
		func(v string) (string, bool) { return v, plainName(v) && knownUser(v) }, field)
}

// owning is a user or group, which need not be known if it is given by its number:
// a container may have users of its own.
func owning(what string, known func(string) bool, field func(target) *string) rule {
	return parsed("string", fmt.Sprintf("the name of a %s known here, or a number, as a string", what),
		func(v string) (string, bool) { return v, accountNumber(v) || plainName(v) && known(v) }, field)
}

func mode(field func(target) *uint32) rule {
	return parsed("mode", `a mode as a string of octal digits, such as "0750", without special bits`,
		func(v string) (uint32, bool) {
			n, err := strconv.ParseUint(v, 8, 32)
			return directoryMode(uint32(n)), err == nil && len(v) >= 3 && len(v) <= 4 && n <= 0o777
		}, field)
}

func choice[T ~string](field func(target) *T, among ...T) rule {
	names := make([]string, len(among))
	for i, c := range among {
		names[i] = strconv.Quote(string(c))
	}
	last := len(names) - 1
	return parsed("string", strings.Join(names[:last], ", ")+" or "+names[last],
		func(v string) (T, bool) { return T(v), slices.Contains(among, T(v)) }, field)
}

func command(field func(target) *[]string) rule {
	return parsed("string or array of strings", "a command line for /bin/sh, or an array of a program and its arguments",
		commandOf, field)
}

// environment adds to what the field holds already: a service's own variables
// go over those of [defaults].
func environment(field func(target) *[]string) rule {
	const accepted = `a table of strings, such as { PORT = "8080" }, without "=" in a name`
	return rule{"table of strings", accepted, func(to target, value any) *refusal {
		table, ok := value.(map[string]any)
		if !ok {
			return &refusal{value: value}
		}
		merged := map[string]string{}
		for _, set := range *field(to) {
			name, v, _ := strings.Cut(set, "=")
			merged[name] = v
		}
		for _, name := range slices.Sorted(maps.Keys(table)) {
			v, ok := table[name].(string)
			if !ok || name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(v, "\x00") {
				return &refusal{value: table[name], under: name}
			}
			merged[name] = v
		}
		*field(to) = joined(merged)
		return nil
	}, nil}
}

func joined(vars map[string]string) []string {
	env := make([]string, 0, len(vars))
	for name, v := range vars {
		env = append(env, name+"="+v)
	}
	slices.Sort(env)
	return env
}

func commandOf(v any) ([]string, bool) {
	switch v := v.(type) {
	case string:
		return shell(v), strings.TrimSpace(v) != "" && !strings.Contains(v, "\x00")
	case []any:
		argv := make([]string, len(v))
		for i := range v {
			arg, ok := v[i].(string)
			if !ok || strings.Contains(arg, "\x00") {
				return nil, false
			}
			argv[i] = arg
		}
		return argv, len(argv) > 0 && argv[0] != ""
	}
	return nil, false
}

// shell is a command line as it is run. No exec is put before it, because that
// would break "cd src && make" and "PORT=1 web"; shells replace themselves by
// the last command of a line as far as they can.
func shell(line string) []string { return []string{"/bin/sh", "-c", line} }

var units = []struct {
	suffix string
	bytes  int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12},
	{"B", 1}, {"", 1},
}

// sizeOf takes a whole number, or digits and a unit without a blank between.
func sizeOf(v any) (int64, bool) {
	s, ok := v.(string)
	if !ok {
		n, ok := v.(int64)
		return n, ok
	}
	for _, u := range units {
		if digits, ok := strings.CutSuffix(s, u.suffix); ok {
			n, err := strconv.ParseUint(digits, 10, 63)
			return int64(n) * u.bytes, err == nil && int64(n) <= math.MaxInt64/u.bytes
		}
	}
	return 0, false
}

// sizeText is the shortest of the binary units that is exact.
func sizeText(n int64) string {
	for _, u := range slices.Backward(units[:4]) {
		if n%u.bytes == 0 {
			return fmt.Sprintf("%d%s", n/u.bytes, u.suffix)
		}
	}
	return strconv.FormatInt(n, 10)
}

// durationText leaves out the zero units that String puts at the end.
func durationText(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// directoryMode is m for a directory, which may be given as its files have it, such
// as 0640: who may read or write them has to enter it.
func directoryMode(m uint32) uint32 { return m | (m>>1|m>>2)&0o111 }

// accountNumber reports whether s is a uid or gid; the highest means "none"
// to the kernel.
func accountNumber(s string) bool {
	n, err := strconv.ParseUint(s, 10, 32)
	return err == nil && n < math.MaxUint32
}

func plainName(s string) bool { return s != "" && !strings.ContainsAny(s, "\x00\n:/") }

func knownUser(name string) bool {
	_, err := user.Lookup(name)
	if err != nil && accountNumber(name) {
		_, err = user.LookupId(name)
	}
	return err == nil
}

func knownGroup(name string) bool {
	_, err := user.LookupGroup(name)
	return err == nil
}

func ringTooSmall(s *Service) string {
	if least := 4 * int64(s.LineLimit); s.RingBytes < least {
		return fmt.Sprintf("ring-bytes %d cannot hold 4 lines of line-limit %d: want ring-bytes of at least %d",
			s.RingBytes, s.LineLimit, least)
	}
	return ""
}

func totalTooSmall(s *Service) string {
	if s.Total > 0 && s.Total < s.Size {
		return fmt.Sprintf("total %d cannot hold an archive of size %d: want total of at least size, or 0 for no limit",
			s.Total, s.Size)
	}
	return ""
}

func keepTooFew(s *Service) string {
	if s.Min > s.Keep {
		return fmt.Sprintf("min %d is more than keep %d: want min of at most keep", s.Min, s.Keep)
	}
	return ""
}

func backoffTooLong(s *Service) string {
	if s.Backoff > s.BackoffMax {
		return fmt.Sprintf("backoff %s is longer than backoff-max %s: want backoff of at most backoff-max",
			durationText(s.Backoff), durationText(s.BackoffMax))
	}
	return ""
}

// shown is a refused value in an error text.
func shown(v any) string {
	switch v := v.(type) {
	case string:
		return quoted(v)
	case int64, float64, bool:
		return fmt.Sprint(v)
	case time.Time:
		return "a date or time"
	case map[string]any:
		return "a table"
	}
	return "an array"
}

// quoted keeps an error text on one line of bearable length.
func quoted(s string) string {
	if len(s) > 120 {
		return strconv.Quote(s[:120]) + "..."
	}
	return strconv.Quote(s)
}
