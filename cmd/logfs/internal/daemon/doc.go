// Package daemon captures the lines of services: it puts them into rings and
// logdirs, starts the services of the configuration, and takes over the runs
// that clients hand to it.
//
// # Vocabulary
//
//   - log: the ring and the logdir of one service, and its numbering;
//   - run: one life of a service, from start mark to exit mark;
//   - input: a FIFO or socket that others write to; intake: who captures one;
//   - holder: a process that outlives the daemon with a command, or a FIFO;
//   - writer: the role of bringing lines to the files, on time or late;
//   - gap: numbers that the ring has given up and the files do not have,
//     because the disk did not take the lines in time;
//   - cut off: a log that a crash has ended, so that lines may be lost;
//   - sink: a service as those see it who write it through the tree, or change it;
//   - tree: the mount that shows the logs as files. Without one, all else works.
//
// # What happens to a batch of lines
//
// It is stamped with one reading of the clock and encoded into the ring,
// invisible; the same bytes are written to the logdir; then the ring publishes
// it and the followers are woken. So nobody reads a line that a crash could take
// back, as long as the disk is on time.
//
// A disk that refuses a write, or does not answer within 10 ms, does not stop
// this: the ring publishes the batch, capture goes on into the ring, and the
// writer follows when the disk lets it. What the ring must give up before that
// is lost, and the files get a mark with the exact numbers in its place; or,
// with Block, the service waits: at once if writes are refused, when the ring is
// full if they only take long. Until the files have them, kill -9 costs these
// lines, and an end of the daemon those that the disk still does not take.
//
// # Writers in the tree
//
// What is written to a file of the tree takes the same way, in the goroutine that
// reads the request: divided into lines when it can be stored, so that the numbers
// have the order of the writes. Who writes is no input of a run: the first begins
// one, the last ends it, and while there is another they write into that.
//
// # What a killed daemon leaves
//
// A client that holds its pipes open hands a capture.Hold over with them. What
// was read and not written stays there, with the numbers it got. The next daemon
// compares these with its files: it stores what is missing, not what is there
// already, and makes a lost mark of numbers whose lines were in the ring only.
//
// The mount is kept by a holder of its own, see mountholder.go, to which a daemon is
// connected. It is left to the service manager, too, if that keeps files. The next
// daemon gets the connection to the kernel and the state of the tree from either,
// see oldmount.go, and goes on when all logs are open. So until then it must not
// look at its mount point: nobody else would answer. A daemon that is asked to leave does
// the same in order, see leave.go.
//
// # Concurrency
//
// A Daemon and a Log are safe for concurrent use. Each service has one lock for
// its log and one for its state, both held over no I/O, because a lookup in the
// tree may ask for the state and capture goes on while a write waits. Each run
// has a goroutine for capture and one for its end. Capture writes to disk
// itself; one that is stuck in a write leaves capture to another goroutine, see
// writer.
//
// A reload, and the start and stop of commands, are one at a time; the lock for
// that is taken before that for opening services, which is taken before those of
// services. A service that is removed takes no run of a client's any more; its
// captures are its own, so that they end before its log is closed.
//
// # Non-goals
//
// The package parses no flags and no files, handles no signals of the daemon,
// and prints nothing but its slog messages: warnings mean that something was
// lost or delayed, with a count.
package daemon
