// Package ring keeps the newest records of one service in bounded memory.
//
// Its job: take whole records in batches, number them, drop the oldest when
// a limit is passed, and let any number of readers read what is held without
// the writer ever waiting for one of them. It does no I/O, calls nobody back,
// and does not know how records are shown.
//
// Vocabulary. A record is one stored line (package record). Its number is
// dense and never reused: where lines are missing there is a lost mark, which
// takes their numbers. A block is a piece of memory that holds records one
// behind the other; blocks have ids that only grow. A cursor is a position
// between two records. A chunk is the published part of a block, pinned by
// its reader: its bytes do not change and are not used for anything else
// before the reader releases it, also when the ring has long dropped them.
//
// Concurrency. There is one writer at a time: the calls from Begin to Commit
// must not overlap. Everything else may be called from anywhere at any time.
// The lock is held for a few assignments, or while Commit, Keep or Resize walk
// over the records they drop; never while bytes are copied.
//
// At every moment, in lines and in bytes: appended = held + evicted.
package ring
