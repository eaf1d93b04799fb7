// Package control is how commands talk to a running daemon: requests over a
// unix socket, with the descriptors of a service's pipes.
//
// # Protocol
//
// The socket is SOCK_SEQPACKET, one JSON object a packet, at most 64 KiB. A
// connection carries one request of
//
//	{"do":"rotate","names":["web"]}   {"do":"flush"}   {"do":"status"}   {"do":"limits"}
//	{"do":"leave"}
//
// answered by any number of {"re":"text","text":…} and one {"re":"ok"} or
// {"re":"error","error":…,"status":100}, or it carries one run:
//
//	client                                          daemon
//	{"do":"attach","name":"web","kind":"run"} + 2 descriptors
//	                                                {"re":"ok"}: the name is taken
//	{"do":"start","pid":4242}                       start mark, capture begins
//	{"do":"exit","known":true,"code":1}
//	                                                {"re":"done"}: exit mark is in
//
// A command is started only after the name is taken, so nothing has to be
// undone when it is refused. Of kind "pipe" there is one descriptor, whose end
// of file ends the run without the client; "exit" makes the daemon end it
// sooner, after what is in the pipe already. A client that goes away between
// start and exit leaves a run whose end is that of its pipes.
//
// With "hold":true three descriptors more come with attach: what a capture.Hold
// is made of. The client has them and the streams open too. When the connection
// breaks, or the daemon says {"re":"left"} because it ends, the client attaches
// with all of them to the next daemon, which goes on with the same run.
//
// # Access
//
// The socket has mode 0600, and the daemon serves peers of its own user and
// root only, whatever the mode became.
//
// # Concurrency
//
// A Server serves each connection in a goroutine of its own and calls its
// Handler concurrently. A Client belongs to one goroutine, except that Exit and
// Detach may be called while another one is in Wait.
//
// # Non-goals
//
// The package does not know what a service is; the Handler does.
package control
