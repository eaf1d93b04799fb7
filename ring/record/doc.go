// Package record is the form of one log record: its TAI64N stamp, its kind,
// the stored line it becomes in the ring and on disk, the marks the daemon
// makes, and the text and seq forms that readers see.
//
// A stored line is one record:
//
//	@400000006b00928d1908bac4 o GET /health 200
//	└─ stamp ───────────────┘ │ └─ text
//	                          └─ kind: o stdout, e stderr, = mark; with + when
//	                             the service had not ended its line here
//
// The text is what the service wrote, byte for byte, without its newline. It
// can hold anything else, NUL included, and cannot be taken for a stamp or a
// kind, because those are at fixed places at the start of the line.
//
// Numbers and runs are not stored with each line. A reader counts them from a
// known beginning, see Scanner: every record takes one number, a lost mark
// takes as many as it says were lost, a start mark begins the run it names.
//
// The package does no I/O, keeps no state, and is safe for concurrent use.
package record
