// Package daemon captures the lines of services: it puts them into rings and
// logdirs, starts the services of the configuration, and takes over the runs
// that clients hand to it.
//
// # Vocabulary
//
//   - log: the ring and the logdir of one service, and its numbering;
//   - run: one life of a service, from start mark to exit mark;
//   - gap: numbers that the ring has given out and the files do not have,
//     because the disk refused them;
//   - tree: the mount that shows the logs as files. Without one, all else works.
//
// # What happens to a batch of lines
//
// It is stamped with one reading of the clock and encoded into the ring,
// invisible; the same bytes are written to the logdir; then the ring publishes
// it and the followers are woken. So nobody reads a line that a crash could take
// back. A disk that refuses the write does not stop this: ring and followers go
// on, and the files get a mark with the exact numbers when they take writes
// again.
//
// # Concurrency
//
// A Daemon and a Log are safe for concurrent use. Each service has one lock for
// its log, held over the write to disk, and one for its state, held over no
// I/O at all, because a lookup in the tree may ask for it. Each run has a
// goroutine for capture and one for its end.
//
// # Non-goals
//
// The package parses no flags and no files, handles no signals of the daemon,
// and prints nothing but its slog messages: warnings mean that something was
// lost or delayed, with a count.
package daemon
