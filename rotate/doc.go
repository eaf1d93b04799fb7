// Package rotate keeps the log of one service on disk: a logdir.
//
//	web/
//	├── @400000006b00911a00c1f2a8.s.zst  archive: complete, compressed
//	├── @400000006b00928d1908bac4.s      archive: complete
//	├── @400000006b0092a11d3c0f08.u      archive: recovered after a crash
//	├── current                          being written
//	└── lock                             held by the owner, with its boot id
//
// Every file begins with a header, which says from which number its records
// are counted and which run is in force at the first of them:
//
//	@400000006b00928d1908bac4 = logfs format=1 service=web run=42 first=18441
//	@400000006b00928d1908bac4 o GET /health 200
//	@400000006b00928d19649e34 e Traceback (most recent call last):
//
// The first record here is 18441, the second 18442. The header takes no
// number; a lost mark takes as many as it says; a start mark begins a run. The
// stamp of the header is that of the line before it. If that is not the greatest
// of its file, because the clock has stepped back, the header also says
// top=@4000…, which is.
//
// # Words
//
// A logdir is the directory. current is the file being written; its mode has
// the owner's execute bit while it is closed cleanly. An archive is a file no
// longer written. Its label is a TAI64N instant at or after the stamp of its
// last line, greater than every earlier label of the logdir even when the
// clock steps back, so the order of names is the order of lines. Rotation
// makes current an archive and begins a new one. Retention deletes the oldest
// archives. A torn line is one that a crash or a full disk has cut short.
//
// # What is known of files without reading them
//
// Find, Runs and Measure answer for the whole log and open few files. Of a
// plain archive the headers say its numbers, the run at its beginning and its
// greatest stamp. The runs in it and its sizes are found out by reading it once,
// when somebody asks, and remembered for as long as it is there; so are those of
// current, of which only what is new is read. A compressed archive says all of
// it in front of its data, so the log is known after a restart, too. Append does
// nothing for this but to compare the stamps of the first and the last line.
//
// What is said there is believed until a reader finds the archive damaged.
//
// # Files of other loggers
//
// A directory of multilog, svlogd or s6-log is taken over as it stands. Its
// current becomes an archive; its archives count for retention by their names,
// are not compressed, and are not read, because their lines have no numbers.
// They can take over a logdir in turn, and add to a current that was closed
// cleanly. The lines added have numbers, because they are in a file of ours, but
// readers are told that they are not to be had: the file has them.
// Labels and stamps are taken for what multilog means by them: those of s6-log
// are 27 s later, and nothing in a name tells, so they are that much younger to
// Age. Whatever has another name is left alone.
//
// # What is promised
//
//   - Every line that Append has reported written is in exactly one file, in
//     order, until retention deletes that file. This survives the death of
//     the process at any point, and an error of any file call.
//   - A line is in the files wholly or not at all once Open or the next
//     successful Append has returned.
//   - No number is used twice, unless power loss has taken the line it had.
//   - Power loss costs what was written since the last fsync: at most
//     Options.Sync or Options.SyncBytes before it, and the time fsync takes.
//   - After a failed fsync the file is written again, so it costs nothing, if
//     the page cache or Options.Again still has the lines.
//   - If somebody deletes current or the directory, what is written after that
//     is in the files again after the next fsync, rotation or error that finds it.
//
// # What is assumed of the system
//
//  1. link, rename and unlink are atomic, and what a process has written
//     outlives it in the page cache.
//  2. An append that fails has written a prefix of what it was given.
//  3. After a successful fsync of a file its content survives power loss, and
//     after one of the directory so do its names. Without, either may be old,
//     short, empty, or end in NULs; what lies before stays as it was.
//  4. Whoever else writes into the directory takes the lock first. He may
//     delete files, and the directory.
//
// # Not its job
//
// It does not number or stamp lines, decide what to do about a full disk, wait
// for one. Append does no fsync and never waits for one that the kernel does
// not make it wait for.
//
// # Concurrency
//
// All methods of Logdir may be called from any goroutine. Append, Rotate and
// Close exclude each other. Tail, Readers, Find, Runs and Measure read while they
// go on, and wait for none of them; of the latter two wait for each other if
// they need the same file read. The fsyncs are done by one goroutine, which exists only
// while something is dirty, or by the callers of Sync and Close. Archives are
// compressed by another, which exists only while there is one to compress: one
// at a time in the whole process, and with the lowest priority.
package rotate
