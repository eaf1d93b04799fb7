// Package capture turns the byte streams of one service into whole lines.
//
// A Splitter cuts one stream into pieces. Pump reads the inputs of one run,
// usually the pipes of its stdout and stderr, and hands the pieces to a Sink
// as soon as the newline that ends them was read. A Fifo makes such an input for
// each time that somebody writes to it.
//
// # Vocabulary
//
//   - input: a descriptor the service writes to and Pump reads: a pipe, a
//     socket, a terminal or a file; of a datagram socket each message is a line;
//   - line: the bytes between two newlines of one stream. Everything but the
//     newline is text: CR, NUL, invalid UTF-8, nothing at all;
//   - limit: the most bytes of one line that are handed on, or kept, together;
//   - piece: a line, or a part of a line longer than the limit. All pieces of a
//     line but its last have More set; so has the last piece of a stream that
//     ended without a newline;
//   - hold: memory that outlives this process, with what was read and is not in
//     the files yet.
//
// # Concurrency
//
// A Splitter belongs to one goroutine. Pump works in the goroutine that calls
// it and calls its Sink from there only. Pumps share nothing but a pool of read
// buffers, and any number may run at the same time. A Pump whose service says
// nothing is a parked goroutine, without thread, timer or read buffer.
//
// # Non-goals
//
// The package does not stamp, number, store or interpret lines. It never waits
// for readers of the log; what the Sink waits for, the service waits for too
// once its pipe is full. The order between two pipes is the order in which they
// became readable, which is not always the order of the writes.
package capture
