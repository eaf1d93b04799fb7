// Package config turns TOML files and Procfiles into checked settings, and
// every mistake in them into one line that names the file, the line, the key,
// what was wrong and what is accepted.
//
// A configuration is one main file and, beside it, the fragments
// conf.d/*.toml, read in the order of their names (names beginning with a dot
// are passed over). The main file holds the top-level keys, [defaults] and
// [service.NAME] tables; a fragment holds [service.NAME] tables only, so that
// what a fragment means never depends on which other fragments are there. A
// service is defined in one place: there is no merging of two tables of the
// same name. A service starts from the built-in defaults, then [defaults],
// then its own table; env is merged name by name.
//
// A Procfile holds lines of the form NAME: COMMAND. No .env file is read and
// no PORT is invented: the commands get the environment of the daemon.
//
// Keys is the one table of settings: parsing, defaults, error texts and the
// documentation are made from it.
//
// Non-goals: the package starts nothing, creates nothing, resolves no symbolic
// links and does not look whether directories exist. Of the machine it asks
// only whether the users and groups it is told of are known.
//
// Everything here is safe for concurrent use; Keys must not be changed.
package config
