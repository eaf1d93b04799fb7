package main

import "fmt"

// The metrics.
const (
	perGiB   metric = "CPU s/GiB"
	perLine  metric = "CPU ns/line"
	writer   metric = "writer CPU s/GiB"
	speed    metric = "MB/s"
	lineRate metric = "klines/s"
	peakMem  metric = "peak RSS MiB"
	allMem   metric = "memory MiB"
	switches metric = "switches/MiB"
	perSec   metric = "CPU ms/s"
	wakes    metric = "switches/s"
	mainMem  metric = "RSS MiB"
	p50      metric = "p50 µs"
	p99      metric = "p99 µs"
	p999     metric = "p99.9 µs"
	got      metric = "delivered %"
	perRead  metric = "CPU µs/line/reader"
	readerMS metric = "readers' CPU ms/s"
	atStart  metric = "ms until it shows what is there"
	perCall  metric = "µs/fstat"
	daemonUS metric = "daemon µs/fstat"
	before   metric = "RSS MiB, none"
	extra    metric = "MiB more"
	burst    metric = "MiB more after a burst"
	perByte  metric = "RSS/bytes held"
)

// A scenario is one thing that is measured.
type scenario struct {
	name string
	run  func(b *bench, name string) error
}

// A section is scenarios that are measured in the same way.
type section struct {
	title, about string
	columns      []metric // the first is the one whose ratios are shown
	plotted      bool     // that one
	scenarios    []scenario
}

var everybody = []logger{logfs, s6log, multilog, svlogd, cat}

// sections is all that is measured, in this order.
var sections = []section{
	{
		title:   "Capture",
		about:   "A service writes as fast as the logger takes it, 64 KiB or one line with each write(2). `writer` is the service's own CPU time.",
		columns: []metric{perGiB, writer, speed, lineRate, peakMem, allMem, switches},
		plotted: true,
		scenarios: []scenario{
			capture(load{Kind: short}), capture(load{Kind: plain}), capture(load{Kind: mixed}), capture(load{Kind: long}),
			capture(load{Kind: short, Each: true}), capture(load{Kind: plain, Each: true}),
			capture(load{Kind: mixed, Each: true}), capture(load{Kind: long, Each: true}),
		},
	},
	{
		title:     "Long lines and empty ones",
		about:     "logfs alone, the same bytes in lines of 10 MiB and of 100 bytes, and as many empty lines as lines of 20 bytes, in bulk.",
		columns:   []metric{perGiB, perLine, speed, lineRate, peakMem},
		scenarios: []scenario{{"line path", linePath}},
	},
	{
		title:   "Many services",
		about:   "Each service writes at its rate, a write(2) for each line of 100 bytes, none at the same time as another. A logger for each service, but one daemon of logfs, with a `logfs pipe` for each. `memory` is of all processes, with what they share counted once.",
		columns: []metric{perSec, allMem, mainMem, wakes},
		plotted: true,
		scenarios: []scenario{
			fleet(100, 10), fleet(100, 100), fleet(200, 50), fleet(1, 10_000), fleet(100, 0), fleet(1000, 0),
		},
	},
	{
		title:     "From write to read",
		about:     "The time from the service's write(2) to the return of a blocked read(2), for logfs and for a plain pipe between the same two processes at the same time.",
		columns:   []metric{p50, p99, p999},
		plotted:   true,
		scenarios: []scenario{latency(500, 1), latency(1000, 100)},
	},
	{
		title:   "Live followers",
		about:   "Mixed lines with readers that block in `follow`: as fast as they are taken, and at 10,000 lines/s with a write(2) for each. What was not delivered was deleted before the reader came to it.",
		columns: []metric{perGiB, perSec, perRead, readerMS, got, speed},
		plotted: true,
		scenarios: []scenario{
			{"bulk", liveBulk}, followers(1), followers(4), followers(100), followers(1000),
		},
	},
	{
		title:     "Reading the past",
		about:     "A file is read from start to end again and again, 128 KiB at once as cat does: lines of 100 bytes, 4 MiB of them in the ring, 10 MiB in archives that are not compressed.",
		columns:   []metric{speed, perGiB},
		scenarios: []scenario{{"read", readPast}},
	},
	{
		title:     "tail -f",
		about:     "Ten times GNU `tail -f`, each of a silent service, into a pipe: how long the first line takes after one to two seconds, and how long tail takes at its start to show what is there, beside tail on the files of multilog; and what the questions of ten tails cost, and one question of a program that asks all the time.",
		columns:   []metric{p50, p99, atStart, perSec, perCall, daemonUS},
		scenarios: []scenario{{"first line", firstLine}, {"polling", polling}},
	},
	{
		title:     "Memory",
		about:     "Of the daemon: with readers that are blocked in a read of 128 KiB, before and after a burst of 1 MiB to all of them, and with full rings.",
		columns:   []metric{mainMem, before, extra, burst, perByte},
		scenarios: []scenario{blocked(1000), blocked(10_000), {"100 full rings", fullRings}},
	},
}

func capture(l load) scenario {
	return scenario{l.String(), func(b *bench, name string) error { return b.capture(name, l) }}
}

func fleet(services, rate int) scenario {
	name := fmt.Sprintf("%d × %d lines/s", services, rate)
	if rate == 0 {
		name = fmt.Sprintf("%d idle", services)
	}
	return scenario{name, func(b *bench, name string) error { return b.fleet(name, services, rate) }}
}

func latency(rate, readers int) scenario {
	return scenario{fmt.Sprintf("%d lines/s, %s", rate, readersName(readers)),
		func(b *bench, name string) error { return b.latency(name, rate, readers) }}
}

func followers(n int) scenario {
	return scenario{"10,000 lines/s, " + readersName(n),
		func(b *bench, name string) error { return b.followers(name, n) }}
}

func blocked(n int) scenario {
	return scenario{fmt.Sprintf("%d blocked readers", n),
		func(b *bench, name string) error { return b.blocked(name, n) }}
}
