// Package integration tests logfs from outside: it builds the real binary,
// mounts it under temporary directories, and reads the mount with the tools
// that people use. It holds tests only.
//
// The tests assert what the product promises to its users and know nothing of
// its packages. A harness starts one daemon for each case, feeds a service
// through "logfs pipe", so that the test decides when a line is written, and
// learns of its arrival from a blocked reader of follow.
//
// Vocabulary: a feed is a service fed by the test; a watch is the test's own
// blocked reader; a client is the program under test; a numbered line is one
// whose whole text follows from its number, so that any output can be checked
// byte for byte; a peer is another logger, and a seat is where logfs or a peer
// is killed and replaced while its pipe stays; a machine has processes,
// mounts and files of its own, for what has to be installed, or run by an init.
//
// Environment: LOGFS_TEST_RACE=1 builds the binary with the race detector,
// LOGFS_TEST_COVER=DIR builds it with coverage and collects that in DIR,
// LOGFS_REQUIRE_TOOLS=1 turns a missing client tool from a skip into a failure,
// LOGFS_LONG=1 has loggers killed hundreds of times instead of dozens.
package integration
