package main

// A figure is the metric of one contestant in a scenario.
type figure struct {
	scenario, contestant string
	metric               metric
}

// An aim is a ratio of two figures of the same run, or one figure, that is to be
// at most, or at least, a number.
type aim struct {
	what    string
	a, b    figure // b is empty if it is a alone
	atLeast bool
	number  float64
}

const (
	plainPipe = "plain pipe"
	sinceFile = "since/start/current"
)

func against(m metric, scenario, contestant, other string, number float64) aim {
	return aim{
		what: scenario + ": " + string(m) + ", " + contestant + " / " + other,
		a:    figure{scenario, contestant, m}, b: figure{scenario, other, m}, number: number,
	}
}

// peer is an aim of logfs against another.
func peer(m metric, scenario, other string, number float64) aim {
	return against(m, scenario, logfs.name, other, number)
}

func alone(m metric, scenario, contestant string, number float64) aim {
	return aim{what: scenario + ": " + string(m) + ", " + contestant, a: figure{scenario, contestant, m}, number: number}
}

func (a aim) least() aim { a.atLeast = true; return a }

// aims is what the project wants to reach.
var aims = []aim{
	peer(perGiB, "Capture/100 B, bulk", s6log.name, 0.25),
	peer(perGiB, "Capture/100 B, bulk", multilog.name, 0.15),
	peer(perGiB, "Capture/100 B, bulk", cat.name, 4),
	peer(perGiB, "Capture/mixed 180 B, bulk", s6log.name, 0.22),
	peer(perGiB, "Capture/mixed 180 B, bulk", cat.name, 3),
	peer(perGiB, "Capture/20 B, bulk", s6log.name, 0.22),
	peer(speed, "Capture/100 B, bulk", s6log.name, 4).least(),
	peer(speed, "Capture/mixed 180 B, bulk", s6log.name, 4).least(),
	peer(perGiB, "Capture/100 B, a write a line", cat.name, 0.9),
	peer(perGiB, "Capture/mixed 180 B, a write a line", cat.name, 0.9),
	peer(perGiB, "Capture/20 B, a write a line", cat.name, 0.3),
	peer(writer, "Capture/100 B, a write a line", cat.name, 1),
	peer(writer, "Capture/mixed 180 B, a write a line", cat.name, 1),
	peer(writer, "Capture/20 B, a write a line", cat.name, 1),
	peer(speed, "Capture/100 B, a write a line", cat.name, 1).least(),
	peer(speed, "Capture/mixed 180 B, a write a line", cat.name, 1).least(),
	peer(speed, "Capture/20 B, a write a line", cat.name, 1).least(),
	against(perGiB, "Long lines and empty ones/line path", "10 MiB", "100 B", 1),
	against(perLine, "Long lines and empty ones/line path", "empty", "20 B", 1),
	peer(perSec, "Many services/100 × 10 lines/s", multilog.name, 0.65),
	peer(perSec, "Many services/100 × 100 lines/s", multilog.name, 0.45),
	peer(perSec, "Many services/1 × 10000 lines/s", multilog.name, 0.65),
	peer(perSec, "Many services/200 × 50 lines/s", s6log.name, 0.5),
	alone(perSec, "Many services/1000 idle", logfs.name, 0),
	alone(mainMem, "Many services/1000 idle", logfs.name, 120),
	peer(p50, "From write to read/500 lines/s, 1 reader", plainPipe, 3),
	peer(p99, "From write to read/500 lines/s, 1 reader", plainPipe, 3),
	alone(p99, "From write to read/500 lines/s, 1 reader", logfs.name, 1000),
	alone(p99, "From write to read/1000 lines/s, 100 readers", logfs.name, 5000),
	against(perGiB, "Live followers/bulk", "4 readers", "0 readers", 1.5),
	against(perSec, "Live followers/10,000 lines/s, 4 readers", "4 readers", "0 readers", 1.5),
	alone(speed, "Reading the past/read", "current", 1500).least(),
	alone(perGiB, "Reading the past/read", "current", 0.4),
	alone(speed, "Reading the past/read", sinceFile, 1500).least(),
	alone(perGiB, "Reading the past/read", sinceFile, 0.4),
	alone(p99, "tail -f/first line", logfs.name, 10_000),
	alone(extra, "Memory/1000 blocked readers", logfs.name, 10),
	alone(burst, "Memory/1000 blocked readers", logfs.name, 10),
	alone(extra, "Memory/10000 blocked readers", logfs.name, 48),
	alone(burst, "Memory/10000 blocked readers", logfs.name, 48),
	alone(perByte, "Memory/100 full rings", logfs.name, 1.6),
}

// reached is what an aim came to in each round.
func (b *bench) reached(a aim) []float64 {
	values := b.values(a.a.scenario, a.a.contestant, a.a.metric)
	if a.b == (figure{}) {
		return values
	}
	return ratios(values, b.values(a.b.scenario, a.b.contestant, a.b.metric))
}
