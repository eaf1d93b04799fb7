// Package fs shows rings as files: a directory for each service, and in every
// directory the same three files, current, follow and seq.
//
// Its job: the FUSE tree, and the behaviour of its files that lets unmodified
// programs read and write them. It reads rings, and what it is handed as their
// History, hands what is written to a Sink, stores nothing, and starts no service. All that it knows of errno values is in errno.go.
//
// Vocabulary. An entry is one service in the tree. A view is one way to show
// a ring as bytes: of which streams (all, stdout, stderr), and in which form
// (text, bytes or seq). A selection is what is chosen on the way to a directory:
// streams, a run, a point to begin at; a place is the directory itself. Each byte of a view has an absolute
// position that only grows. A node is what one lookup of a file found: its
// byte 0 is the oldest byte of the view at that moment (its base), so every
// lookup makes a fresh node, with the same inode number. A handle is one open
// of a node. A pass is one way through the offsets of a handle: one reader has
// one, and a second only while he reads again what he has read before; threads
// that read at the same time have one each. A stretch is a run of offsets of a
// pass that belong to records that follow each other. A parked read is a READ
// request that waits for news: a few dozen bytes, no goroutine and no buffer.
//
// The directory all shows every service. A node in it has an order, which says in
// which order the records of the services come, and a handle a merger, which goes
// through the views of the services in that order; see merge.go. It is woken by
// all services, and reads on goroutines that are not theirs.
//
// The way of a request. device.go reads requests from /dev/fuse. READ and
// POLL of current, follow and seq, and INTERRUPT, are answered by follow.go;
// everything else goes through go-fuse's ProtocolServer to raw.go. No handler
// blocks: lines that have to come from disk come on goroutines of their own,
// see past.go and load.go, and the read is parked until then, or refused with
// EAGAIN if its reader polls, who is told when they are there. Everything that
// waits for a file or a log happens on these goroutines, without a lock.
//
// GETATTR of those who read by asking for the size, as tail -f does, is parked when
// they ask again: patient.go.
//
// WRITE is answered by write.go, in the loop that has read it. When the disk
// takes its time there, another loop takes its place. A write that has to wait
// for room does so on a goroutine, and so do all requests of verbs.go.
//
// The past. A node of a selection that reaches beyond the ring has a span: its byte
// 0 is found when it is looked up, on a goroutine, from the sizes that the History
// tells (meter.go), and is before all that the view has measured. Its readers are
// fed from disk like one who has been overtaken. A landmark is a record whose offset
// is known, one for each file on disk: from there the way to an offset is walked
// (way.go), and what lies before it kept as a piece for who reads backwards.
//
// The next process. A mount outlives the process that serves it if another one
// keeps the connection and the state, which is memory: see state.go for what is
// in it, note.go for when it is written, and takeover.go for how a process goes on.
// Who adds what the kernel knows by a number, or what a reader's place depends on,
// has to note it there.
//
// Concurrency. The writer of a service calls Entry.Wake after each commit; it
// costs an atomic load while nobody waits. Locks are taken in this order:
// waiting.waking, handle.mu, node.mu, waiting.mu, order.mu, view.mu, the ring's. tree.mu,
// waits.mu, writers.mu, pollers.mu and jobs.mu are taken last and hold nothing else. Where two
// nodes meet, and where the writer of a service meets a reader, it is TryLock.
package fs
