package record

// A Stamp is a moment in nanoseconds since the Unix epoch. Its external form
// is TAI64N, see https://cr.yp.to/libtai/tai64.html, with the constant offset
// of 10 seconds that multilog, svlogd and tai64nlocal use.
type Stamp int64

// StampLen is the length of a TAI64N label: "@" and 24 lower-case hex digits.
const StampLen = 25

const (
	taiEpoch = 1<<62 + 10
	second   = 1_000_000_000
	hexits   = "0123456789abcdef"
)

// AppendStamp appends the label of t, for example @400000006b00928d1908bac4.
func AppendStamp(dst []byte, t Stamp) []byte {
	sec, ns := int64(t)/second, int64(t)%second
	if ns < 0 {
		sec, ns = sec-1, ns+second
	}
	dst = append(dst, '@')
	dst = appendHex(dst, uint64(sec)+taiEpoch, 16)
	return appendHex(dst, uint64(ns), 8)
}

func appendHex(dst []byte, v uint64, digits int) []byte {
	for shift := 4 * (digits - 1); shift >= 0; shift -= 4 {
		dst = append(dst, hexits[v>>uint(shift)&15])
	}
	return dst
}

// ParseStamp reads the label at the start of b. It accepts only what
// AppendStamp can have written: lower case, 24 digits, fewer than 10^9
// nanoseconds, and a second that a Stamp can hold.
func ParseStamp(b []byte) (Stamp, bool) {
	if len(b) < StampLen || b[0] != '@' {
		return 0, false
	}
	tai, ok := parseHex(b[1:17])
	ns, ok2 := parseHex(b[17:25])
	sec := int64(tai - taiEpoch)
	const limit = (1<<63 - 1) / second
	if !ok || !ok2 || ns >= second || sec >= limit || sec <= -limit {
		return 0, false
	}
	return Stamp(sec*second + int64(ns)), true
}

func parseHex(b []byte) (v uint64, ok bool) {
	for _, c := range b {
		switch {
		case '0' <= c && c <= '9':
			v = v<<4 | uint64(c-'0')
		case 'a' <= c && c <= 'f':
			v = v<<4 | uint64(c-'a'+10)
		default:
			return 0, false
		}
	}
	return v, true
}
