// Command bench measures logfs as its users have it: the real daemon with its
// mount, in a temporary directory, beside the loggers of the field and plain
// files.
//
//	go run ./integration/bench            all of it, 15 to 20 minutes
//	go run ./integration/bench --quick    the same, short: to see that it works
//	go run ./integration/bench --only 'bulk|latency'
//
// Its job: to say in one run, on one machine, what logfs costs compared with
// others that do the same. So contestants take turns, several rounds of them, and
// what counts is the median of the ratios within the rounds. Times and rates are
// of this machine at that moment, and no verdict.
//
// # Vocabulary
//
//   - scenario: one thing that is measured, with its contestants; a section of the
//     report has those that are measured in the same way;
//   - contestant: who does the same work in a scenario, such as logfs and s6-log;
//   - load: what is written: which lines, and how many of them in one write(2);
//   - sample: what one contestant took in one round;
//   - role: what this program does when it is started by itself, in a process of
//     its own: to write, to read, to listen;
//   - logger: a program that keeps lines in files; in a seat it has its pipes and a
//     directory of its own;
//   - aim: a ratio that the project wants to reach.
//
// # How CPU time is counted
//
// By the kernel's clock of each process: daemon, its holder and each logfs pipe
// together are logfs. What the kernel does for them in its own threads, such as
// writing pages back, is not counted, for nobody. A daemon has to flush before its
// clock is read, so that its fsyncs are in it; the others make none but at
// rotation.
package main
