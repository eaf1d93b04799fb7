package config

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Each row is a file with mistakes and what is said about it after its name.
func TestLoadErrors(t *testing.T) {
	const (
		svc = "[service.web]\n"
		run = "[service.web]\ncommand = \"x\"\n"
	)
	for _, tt := range []struct{ name, text, want string }{
		{"syntax", svc + "keep 3\n",
			"2: cannot parse: expected '.' or '=', but got '3' instead"},
		{"unclosed string", "mount = \"/x\n",
			"1: cannot parse: strings cannot contain newlines"},
		{"unclosed header", "[service.web\nkeep = 1\n",
			`1: cannot parse: expected '.' or ']' to end table name, but got '\n' instead`},
		{"unclosed array", "\n" + svc + "command = [\"x\",\n\n",
			"4: cannot parse: unexpected EOF; expected value"},
		{"unclosed multi-line string", svc + "size = \"\"\"\n1\n",
			`3: cannot parse: unexpected EOF; expected '"""'`},
		{"no value at the end", "mount =",
			"1: cannot parse: unexpected EOF; expected value"},
		{"no value", svc + "\nkeep =\n",
			`3: cannot parse: expected value but found '\n' instead`},
		{"end of file in a number", "keep = 0x",
			`1: cannot parse: not a hexadecimal number: '0x\x00'`},
		{"line feed in a key", "\"a\\n\" = 1\n",
			`1: "a\n": unknown key: want one of mount, store, socket, list-follow, max-services, ring-total, max-followers, max-followers-per-service, max-followers-per-user, [defaults], [service.NAME]`},
		{"key twice", svc + "keep = 1\nkeep = 2\n",
			"3: cannot parse: key 'service.web.keep' has already been defined"},
		{"table twice", svc + "keep = 1\n" + svc,
			"3: cannot parse: key 'service.web' has already been defined"},
		{"control character", "mount = \"/\x01\"\n",
			"1: cannot parse: TOML files cannot contain control characters: '0x01'"},
		{"NUL bytes", "\x00\x00",
			"1: cannot parse: files cannot contain NULL bytes; probably using UTF-16; TOML files must be UTF-8"},
		{"number too large for TOML", svc + "keep = 99999999999999999999\n",
			"2: cannot parse: 99999999999999999999 is out of range for int64"},
		{"mode without quotes", svc + "mode = 0750\n",
			`2: cannot parse: invalid integer "0750": cannot have leading zeroes`},

		{"unknown top-level key", "# x\ncolour = 1\n",
			"2: colour: unknown key: want one of mount, store, socket, list-follow, max-services, ring-total, max-followers, max-followers-per-service, max-followers-per-user, [defaults], [service.NAME]"},
		{"unknown top-level table", "[web]\nkeep = 1\n",
			"1: web: unknown key: want one of mount, store, socket, list-follow, max-services, ring-total, max-followers, max-followers-per-service, max-followers-per-user, [defaults], [service.NAME]"},
		{"unknown key", "\n" + svc + "colour = 1\n",
			"3: service.web.colour: unknown key: want one of ring-lines, ring-bytes, size, rotate, keep, total, age, min, compress, full, line-limit, sync, marks, owner, group, mode, command, fifo, syslog, input-owner, input-group, input-mode, dir, env, user, restart, backoff, backoff-max"},
		{"unknown key in defaults", "[defaults]\ncolour = 1\n",
			"2: defaults.colour: unknown key: want one of ring-lines, ring-bytes, size, rotate, keep, total, age, min, compress, full, line-limit, sync, marks, owner, group, mode, input-owner, input-group, input-mode, dir, env, user, restart, backoff, backoff-max"},
		{"underscore", svc + "ring_lines = 1\n",
			"2: service.web.ring_lines: unknown key: did you mean ring-lines?"},
		{"capital", svc + "Keep = 1\n",
			"2: service.web.Keep: unknown key: did you mean keep?"},
		{"letter too many", svc + "keeps = 1\n",
			"2: service.web.keeps: unknown key: did you mean keep?"},
		{"letter missing", svc + "lin-limit = 1\n",
			"2: service.web.lin-limit: unknown key: did you mean line-limit?"},
		{"letter exchanged", svc + "lime-limit = 1\n",
			"2: service.web.lime-limit: unknown key: did you mean line-limit?"},
		{"list_follow", "list_follow = true\n",
			"1: list_follow: unknown key: did you mean list-follow?"},
		{"service key at the top", "keep = 1\n",
			"1: keep: cannot be used outside a table: want it in [defaults] or [service.NAME]"},
		{"command at the top", "command = \"x\"\n",
			"1: command: cannot be used here: want it in [service.NAME]"},
		{"command in defaults", "[defaults]\ncommand = \"x\"\n",
			"2: defaults.command: cannot be used here: want it in [service.NAME]"},
		{"mount in a service", svc + "mount = \"/x\"\n",
			"2: service.web.mount: cannot be used in a table: want it before the first table of the main file"},
		{"mount in defaults", "[defaults]\nmount = \"/x\"\n",
			"2: defaults.mount: cannot be used in a table: want it before the first table of the main file"},
		{"name with a dot, not quoted", "[service.web-1.2]\nkeep = 1\n",
			`1: service.web-1.2: unknown key: a service name with a dot is quoted, [service."web-1.2"]`},

		{"defaults is no table", "defaults = 1\n",
			"1: defaults: want a table: [defaults]"},
		{"defaults is an array", "[[defaults]]\n",
			"1: defaults: want a table: [defaults]"},
		{"service is no table", "service = \"web\"\n",
			"1: service: want tables: [service.NAME]"},
		{"service is an array", "\n[[service]]\nname = \"web\"\n",
			"2: service: want tables: [service.NAME]"},
		{"services in no table", "[service]\nkeep = 1\n",
			"2: service.keep: want a table: [service.NAME]"},
		{"service NAME is an array", "[[service.web]]\n",
			"1: service.web: want a table: [service.NAME]"},
		{"reserved name", "[service.all]\n",
			`1: service.all: cannot use name "all": it is reserved; want a letter or digit, then up to 99 of letters, digits and "._@:-"`},
		{"bad name", "[service.\"a/b\"]\n",
			`1: service."a/b": cannot use name "a/b": want a letter or digit, then up to 99 of letters, digits and "._@:-"`},
		{"bad name of an implied table", "\nservice.\"-\".keep = 1\n",
			`2: service.-: cannot use name "-": want a letter or digit, then up to 99 of letters, digits and "._@:-"`},
		{"empty name", "[service.\"\"]\n",
			`1: service."": cannot use name "": want a letter or digit, then up to 99 of letters, digits and "._@:-"`},

		{"ring-lines zero", svc + "ring-lines = 0\n",
			"2: service.web.ring-lines: cannot use 0: want a whole number from 1 to 100000000"},
		{"ring-lines too many", svc + "ring-lines = 100_000_001\n",
			"2: service.web.ring-lines: cannot use 100000001: want a whole number from 1 to 100000000"},
		{"ring-lines string", svc + "ring-lines = \"10\"\n",
			`2: service.web.ring-lines: cannot use "10": want a whole number from 1 to 100000000`},
		{"ring-lines float", svc + "ring-lines = 1.5\n",
			"2: service.web.ring-lines: cannot use 1.5: want a whole number from 1 to 100000000"},
		{"ring-bytes too small", svc + "ring-bytes = 1\n",
			`2: service.web.ring-bytes: cannot use 1: want a number of bytes or a string such as "64KiB" or "64KB", from 4KiB to 64GiB`},
		{"ring-bytes negative", svc + "ring-bytes = -1\n",
			`2: service.web.ring-bytes: cannot use -1: want a number of bytes or a string such as "64KiB" or "64KB", from 4KiB to 64GiB`},
		{"ring-bytes bool", svc + "ring-bytes = true\n",
			`2: service.web.ring-bytes: cannot use true: want a number of bytes or a string such as "64KiB" or "64KB", from 4KiB to 64GiB`},
		{"age without unit", svc + "age = \"7\"\n",
			`2: service.web.age: cannot use "7": want 0 for no limit, or a duration from 1s to 10000d, such as "12h", "7d" or "1d12h"`},
		{"age of nothing", svc + "age = \"d\"\n",
			`2: service.web.age: cannot use "d": want 0 for no limit, or a duration from 1s to 10000d, such as "12h", "7d" or "1d12h"`},
		{"age below", svc + "age = \"1d-1h\"\n",
			`2: service.web.age: cannot use "1d-1h": want 0 for no limit, or a duration from 1s to 10000d, such as "12h", "7d" or "1d12h"`},
		{"age above", svc + "age = \"10000d1s\"\n",
			`2: service.web.age: cannot use "10000d1s": want 0 for no limit, or a duration from 1s to 10000d, such as "12h", "7d" or "1d12h"`},
		{"age of weeks", svc + "age = \"1w\"\n",
			`2: service.web.age: cannot use "1w": want 0 for no limit, or a duration from 1s to 10000d, such as "12h", "7d" or "1d12h"`},
		{"age number", svc + "age = 7\n",
			`2: service.web.age: cannot use 7: want 0 for no limit, or a duration from 1s to 10000d, such as "12h", "7d" or "1d12h"`},
		{"rotate", svc + "rotate = \"weekly\"\n",
			`2: service.web.rotate: cannot use "weekly": want "none", "hourly" or "daily"`},
		{"compress", svc + "compress = true\n",
			`2: service.web.compress: cannot use true: want "none", "gzip" or "zstd"`},
		{"full", svc + "full = \"wait\"\n",
			`2: service.web.full: cannot use "wait": want "drop" or "block"`},
		{"total below", svc + "total = 1\n",
			`2: service.web.total: cannot use 1: want 0 for no limit, or a number of bytes or a string such as "64KiB" or "64KB", from 4KiB to 1024TiB`},
		{"total less than size", svc + "size = \"2MiB\"\ntotal = \"1MiB\"\n",
			"3: service.web.total: total 1048576 cannot hold an archive of size 2097152: want total of at least size, or 0 for no limit"},
		{"size unit", svc + "size = \"64K\"\n",
			`2: service.web.size: cannot use "64K": want a number of bytes or a string such as "64KiB" or "64KB", from 4KiB to 1TiB`},
		{"size blank", svc + "size = \"64 KiB\"\n",
			`2: service.web.size: cannot use "64 KiB": want a number of bytes or a string such as "64KiB" or "64KB", from 4KiB to 1TiB`},
		{"size unit alone", svc + "size = \"KiB\"\n",
			`2: service.web.size: cannot use "KiB": want a number of bytes or a string such as "64KiB" or "64KB", from 4KiB to 1TiB`},
		{"size overflow", svc + "size = \"9999999999TiB\"\n",
			`2: service.web.size: cannot use "9999999999TiB": want a number of bytes or a string such as "64KiB" or "64KB", from 4KiB to 1TiB`},
		{"size too large", svc + "size = \"2TiB\"\n",
			`2: service.web.size: cannot use "2TiB": want a number of bytes or a string such as "64KiB" or "64KB", from 4KiB to 1TiB`},
		{"size date", svc + "size = 2026-11-20\n",
			`2: service.web.size: cannot use a date or time: want a number of bytes or a string such as "64KiB" or "64KB", from 4KiB to 1TiB`},
		{"keep", svc + "keep = 0\n",
			"2: service.web.keep: cannot use 0: want a whole number from 1 to 100000"},
		{"line-limit low", svc + "line-limit = 127\n",
			`2: service.web.line-limit: cannot use 127: want a number of bytes or a string such as "64KiB" or "64KB", from 128 to 64KiB`},
		{"line-limit high", svc + "line-limit = \"65KiB\"\n",
			`2: service.web.line-limit: cannot use "65KiB": want a number of bytes or a string such as "64KiB" or "64KB", from 128 to 64KiB`},
		{"sync number", svc + "sync = 1\n",
			`2: service.web.sync: cannot use 1: want a duration from 1ms to 1h, such as "250ms", "1s" or "1m30s"`},
		{"sync zero", svc + "sync = \"0s\"\n",
			`2: service.web.sync: cannot use "0s": want a duration from 1ms to 1h, such as "250ms", "1s" or "1m30s"`},
		{"sync day", svc + "sync = \"1d\"\n",
			`2: service.web.sync: cannot use "1d": want a duration from 1ms to 1h, such as "250ms", "1s" or "1m30s"`},
		{"marks", svc + "marks = \"no\"\n",
			`2: service.web.marks: cannot use "no": want true or false`},
		{"owner", svc + "owner = \"no-such-account\"\n",
			`2: service.web.owner: cannot use "no-such-account": want the name of a user known here, or a number, as a string`},
		{"owner as a number", svc + "owner = 0\n",
			"2: service.web.owner: cannot use 0: want the name of a user known here, or a number, as a string"},
		{"owner too high", svc + "owner = \"4294967295\"\n",
			`2: service.web.owner: cannot use "4294967295": want the name of a user known here, or a number, as a string`},
		{"group", svc + "group = \"no-such-account\"\n",
			`2: service.web.group: cannot use "no-such-account": want the name of a group known here, or a number, as a string`},
		{"mode integer", svc + "mode = 0o750\n",
			`2: service.web.mode: cannot use 488: want a mode as a string of octal digits, such as "0750", without special bits`},
		{"mode special bits", svc + "mode = \"2750\"\n",
			`2: service.web.mode: cannot use "2750": want a mode as a string of octal digits, such as "0750", without special bits`},
		{"mode not octal", svc + "mode = \"0780\"\n",
			`2: service.web.mode: cannot use "0780": want a mode as a string of octal digits, such as "0750", without special bits`},
		{"mode symbolic", svc + "mode = \"u=rwx\"\n",
			`2: service.web.mode: cannot use "u=rwx": want a mode as a string of octal digits, such as "0750", without special bits`},
		{"mode short", svc + "mode = \"50\"\n",
			`2: service.web.mode: cannot use "50": want a mode as a string of octal digits, such as "0750", without special bits`},
		{"command empty", svc + "command = \"\"\n",
			`2: service.web.command: cannot use "": want a command line for /bin/sh, or an array of a program and its arguments`},
		{"command blank", svc + "command = \" \\t\"\n",
			`2: service.web.command: cannot use " \t": want a command line for /bin/sh, or an array of a program and its arguments`},
		{"command NUL", svc + "command = \"a\\u0000b\"\n",
			`2: service.web.command: cannot use "a\x00b": want a command line for /bin/sh, or an array of a program and its arguments`},
		{"command no arguments", svc + "command = []\n",
			"2: service.web.command: cannot use an array: want a command line for /bin/sh, or an array of a program and its arguments"},
		{"command empty program", svc + "command = [\"\", \"x\"]\n",
			"2: service.web.command: cannot use an array: want a command line for /bin/sh, or an array of a program and its arguments"},
		{"command number in array", svc + "command = [\"sleep\", 3]\n",
			"2: service.web.command: cannot use an array: want a command line for /bin/sh, or an array of a program and its arguments"},
		{"command of several lines", svc + "command = [\n  \"sleep\",\n  3,\n]\n",
			"2: service.web.command: cannot use an array: want a command line for /bin/sh, or an array of a program and its arguments"},
		{"multi-line string", svc + "size = '''\n1\n2\n'''\n",
			`2: service.web.size: cannot use "1\n2\n": want a number of bytes or a string such as "64KiB" or "64KB", from 4KiB to 1TiB`},
		{"dir relative", run + "dir = \"srv\"\n",
			`3: service.web.dir: cannot use "srv": want an absolute path of at most 4095 bytes`},
		{"dir home", run + "dir = \"~/srv\"\n",
			`3: service.web.dir: cannot use "~/srv": want an absolute path of at most 4095 bytes`},
		{"env string", run + "env = \"A=1\"\n",
			`3: service.web.env: cannot use "A=1": want a table of strings, such as { PORT = "8080" }, without "=" in a name`},
		{"env number", run + "[service.web.env]\nA = \"1\"\nPORT = 8080\n",
			`5: service.web.env.PORT: cannot use 8080: want a table of strings, such as { PORT = "8080" }, without "=" in a name`},
		{"env inline number", run + "env = { A = \"1\", PORT = 8080 }\n",
			`3: service.web.env.PORT: cannot use 8080: want a table of strings, such as { PORT = "8080" }, without "=" in a name`},
		{"env name", run + "env = { \"A=B\" = \"1\" }\n",
			`3: service.web.env."A=B": cannot use "1": want a table of strings, such as { PORT = "8080" }, without "=" in a name`},
		{"env dotted", run + "env.a.b = \"1\"\n",
			`3: service.web.env.a: cannot use a table: want a table of strings, such as { PORT = "8080" }, without "=" in a name`},
		{"env NUL", run + "env.A = \"\\u0000\"\n",
			`3: service.web.env.A: cannot use "\x00": want a table of strings, such as { PORT = "8080" }, without "=" in a name`},
		{"user", run + "user = \"no-such-account\"\n",
			`3: service.web.user: cannot use "no-such-account": want the name or number of a user known here, as a string`},
		{"restart", run + "restart = \"sometimes\"\n",
			`3: service.web.restart: cannot use "sometimes": want "always", "on-failure" or "never"`},
		{"restart bool", run + "restart = true\n",
			`3: service.web.restart: cannot use true: want "always", "on-failure" or "never"`},
		{"backoff", run + "backoff = \"-1s\"\n",
			`3: service.web.backoff: cannot use "-1s": want a duration from 1ms to 24h, such as "250ms", "1s" or "1m30s"`},
		{"backoff-max", run + "backoff-max = \"25h\"\n",
			`3: service.web.backoff-max: cannot use "25h": want a duration from 1ms to 24h, such as "250ms", "1s" or "1m30s"`},
		{"a long value", svc + "size = \"" + strings.Repeat("x", 200) + "\"\n",
			`2: service.web.size: cannot use "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"...: want a number of bytes or a string such as "64KiB" or "64KB", from 4KiB to 1TiB`},
		{"a value of several lines", svc + "size = \"a\\nb\"\n",
			`2: service.web.size: cannot use "a\nb": want a number of bytes or a string such as "64KiB" or "64KB", from 4KiB to 1TiB`},

		{"ring-bytes under line-limit", svc + "line-limit = 20000\nring-bytes = 79999\n",
			"3: service.web.ring-bytes: ring-bytes 79999 cannot hold 4 lines of line-limit 20000: want ring-bytes of at least 80000"},
		{"line-limit over default ring-bytes", "[defaults]\nring-bytes = 40000\n" + svc + "line-limit = 10001\n",
			"4: service.web.line-limit: ring-bytes 40000 cannot hold 4 lines of line-limit 10001: want ring-bytes of at least 40004"},
		{"ring-bytes in defaults", "[defaults]\nring-bytes = 39999\n" + svc,
			"2: defaults.ring-bytes: ring-bytes 39999 cannot hold 4 lines of line-limit 10000: want ring-bytes of at least 40000"},
		{"backoff over backoff-max", run + "backoff-max = \"2m\"\nbackoff = \"3m\"\n",
			"4: service.web.backoff: backoff 3m is longer than backoff-max 2m: want backoff of at most backoff-max"},
		{"backoff over the default", run + "backoff = \"1m1s\"\n",
			"3: service.web.backoff: backoff 1m1s is longer than backoff-max 1m: want backoff of at most backoff-max"},
		{"backoff-max under the default", run + "backoff-max = \"500ms\"\n",
			"3: service.web.backoff-max: backoff 1s is longer than backoff-max 500ms: want backoff of at most backoff-max"},
		{"dir without command", svc + "dir = \"/\"\n",
			"2: service.web.dir: cannot be used without command: want command in the same table"},
		{"input-mode without input", svc + "input-mode = \"0622\"\n",
			"2: service.web.input-mode: cannot be used without fifo or syslog: want one of them in the same table"},
		{"input-owner beside command", run + "input-owner = \"root\"\n",
			"3: service.web.input-owner: cannot be used without fifo or syslog: want one of them in the same table"},
		{"dir beside fifo", svc + "fifo = \"/x\"\ndir = \"/\"\n",
			"3: service.web.dir: cannot be used without command: want command in the same table"},
		{"fifo and command", run + "fifo = \"/x\"\n",
			"2: service.web.command: command, fifo and syslog exclude each other: want one of them, and another service for another"},
		{"fifo and syslog", svc + "syslog = \"/y\"\nfifo = \"/x\"\n",
			"3: service.web.fifo: command, fifo and syslog exclude each other: want one of them, and another service for another"},
		{"fifo in defaults", "[defaults]\nfifo = \"/x\"\n",
			"2: defaults.fifo: cannot be used here: want it in [service.NAME]"},
		{"fifo relative", svc + "fifo = \"x\"\n",
			`2: service.web.fifo: cannot use "x": want an absolute path of at most 4095 bytes`},
		{"syslog too long", svc + "syslog = \"/" + strings.Repeat("x", 107) + "\"\n",
			`2: service.web.syslog: cannot use "/` + strings.Repeat("x", 107) + `": want an absolute path of at most 107 bytes`},
		{"input-mode executable", svc + "fifo = \"/x\"\ninput-mode = \"0755\"\n",
			`3: service.web.input-mode: cannot use "0755": want a file mode as a string of octal digits, such as "0622", that lets somebody write, without x and special bits`},
		{"input-mode for readers", svc + "fifo = \"/x\"\ninput-mode = \"0444\"\n",
			`3: service.web.input-mode: cannot use "0444": want a file mode as a string of octal digits, such as "0622", that lets somebody write, without x and special bits`},
		{"input-group unknown", svc + "fifo = \"/x\"\ninput-group = \"no-such-group\"\n",
			`3: service.web.input-group: cannot use "no-such-group": want the name of a group known here, or a number, as a string`},
		{"fifo in the mount", "mount = \"/mnt/x\"\n" + svc + "fifo = \"/mnt/x/web/current\"\n",
			`3: service.web.fifo: "/mnt/x/web/current" and mount "/mnt/x" overlap: want a path outside`},
		{"syslog in the store", "store = \"/var/x\"\n" + svc + "syslog = \"/var/x/log\"\n",
			`3: service.web.syslog: "/var/x/log" and store "/var/x" overlap: want a path outside`},
		{"syslog is the control socket", "socket = \"/run/x\"\n" + svc + "syslog = \"/run/x\"\n",
			`3: service.web.syslog: "/run/x" and socket "/run/x" overlap: want a path outside`},
		{"one path twice", svc + "fifo = \"/x\"\n[service.a]\nfifo = \"/y/../x\"\n",
			`2: service.web.fifo: "/x" is that of service "a" already: want a path for each`},
		{"env without command", svc + "[service.web.env]\n",
			"2: service.web.env: cannot be used without command: want command in the same table"},
		{"user without command", svc + "user = \"root\"\n",
			"2: service.web.user: cannot be used without command: want command in the same table"},
		{"restart without command", svc + "keep = 1\nrestart = \"never\"\n",
			"3: service.web.restart: cannot be used without command: want command in the same table"},
		{"backoff without command", svc + "backoff = \"1s\"\n",
			"2: service.web.backoff: cannot be used without command: want command in the same table"},
		{"mount is store", "store = \"/x\"\nmount = \"/x/\"\n",
			`2: mount: mount "/x" and store "/x" overlap: want two directories, neither inside the other`},
		{"mount in store", "mount = \"/x/y\"\nstore = \"/x\"\n",
			`1: mount: mount "/x/y" and store "/x" overlap: want two directories, neither inside the other`},
		{"store in mount", "\nstore = \"/mnt/logs/.store\"\nmount = \"/mnt/logs\"\n",
			`3: mount: mount "/mnt/logs" and store "/mnt/logs/.store" overlap: want two directories, neither inside the other`},
		{"socket in mount", "mount = \"/x\"\nsocket = \"/x/control\"\n",
			`2: socket: socket "/x/control" and mount "/x" overlap: want a socket outside the mount`},
		{"socket is store", "socket = \"/x\"\nstore = \"/x\"\n",
			`1: socket: socket "/x" is in the place of store "/x": want a file`},
		{"socket too long", "socket = \"/" + strings.Repeat("s", 107) + "\"\n",
			`1: socket: cannot use "/sssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss": want an absolute path of at most 107 bytes`},
		{"mount relative", "mount = \"logs\"\n",
			`1: mount: cannot use "logs": want an absolute path of at most 4095 bytes`},
		{"store number", "store = 1\n",
			"1: store: cannot use 1: want an absolute path of at most 4095 bytes"},
		{"list-follow", "list-follow = 1\n",
			"1: list-follow: cannot use 1: want true or false"},

		{"by line, last table first", "[service.z]\nkeep = 0\n[service.a]\nkeep = 0\n[defaults]\nkeep = 0\n",
			"2: service.z.keep: cannot use 0: want a whole number from 1 to 100000\n" +
				"4: service.a.keep: cannot use 0: want a whole number from 1 to 100000\n" +
				"6: defaults.keep: cannot use 0: want a whole number from 1 to 100000"},
		{"by line, within a table", svc + "size = 1\nring-lines = 0\nkepp = 1\nkeep = 0\n",
			`2: service.web.size: cannot use 1: want a number of bytes or a string such as "64KiB" or "64KB", from 4KiB to 1TiB` + "\n" +
				"3: service.web.ring-lines: cannot use 0: want a whole number from 1 to 100000000\n" +
				"4: service.web.kepp: unknown key: did you mean keep?\n" +
				"5: service.web.keep: cannot use 0: want a whole number from 1 to 100000"},
		{"a bad value is no bad pair", run + "backoff = \"3m\"\nbackoff-max = \"5mn\"\n",
			`4: service.web.backoff-max: cannot use "5mn": want a duration from 1ms to 24h, such as "250ms", "1s" or "1m30s"`},
		{"a bad default is no bad pair", "[defaults]\nline-limit = \"1MiB\"\n" + svc + "ring-bytes = 20000\n",
			`2: defaults.line-limit: cannot use "1MiB": want a number of bytes or a string such as "64KiB" or "64KB", from 128 to 64KiB`},
		{"a bad value beside a bad pair", run + "backoff = \"3m\"\nmin = 11\nkeep = 10\nsize = 0\n",
			"3: service.web.backoff: backoff 3m is longer than backoff-max 1m: want backoff of at most backoff-max\n" +
				"4: service.web.min: min 11 is more than keep 10: want min of at most keep\n" +
				`6: service.web.size: cannot use 0: want a number of bytes or a string such as "64KiB" or "64KB", from 4KiB to 1TiB`},
		{"min over the default keep", svc + "min = 11\n",
			"2: service.web.min: min 11 is more than keep 10: want min of at most keep"},
		{"keep under the min of defaults", "[defaults]\nmin = 5\n" + svc + "keep = 4\n",
			"4: service.web.keep: min 5 is more than keep 4: want min of at most keep"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, dir, err := load(t, tt.text, nil)
			if err == nil {
				t.Fatal("no error")
			}
			if got := strings.ReplaceAll(err.Error(), dir+"/logfs.toml:", ""); got != tt.want {
				t.Errorf("\ngot  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestFragmentErrors(t *testing.T) {
	tests := []struct {
		name, text string
		fragments  map[string]string
		want       string
	}{
		{"defaults", "", map[string]string{"conf.d/a.toml": "\n[defaults]\n"},
			"conf.d/a.toml:2: defaults: cannot be used in conf.d: want [service.NAME] tables only"},
		{"top-level key", "", map[string]string{"conf.d/a.toml": "mount = \"/x\"\n"},
			"conf.d/a.toml:1: mount: cannot be used in conf.d: want [service.NAME] tables only"},
		{"unknown key", "", map[string]string{"conf.d/a.toml": "[service.a]\n[web]\n"},
			"conf.d/a.toml:2: web: cannot be used in conf.d: want [service.NAME] tables only"},
		{"service in main file and fragment", "\n[service.a]\n", map[string]string{"conf.d/a.toml": "[service.b]\n[service.a]\n"},
			"conf.d/a.toml:2: service.a: already defined at DIR/logfs.toml:2: want each service in one place"},
		{"service in two fragments", "", map[string]string{"conf.d/a.toml": "service.a.keep = 1\n", "conf.d/b.toml": "[service.a]\n"},
			"conf.d/b.toml:1: service.a: already defined at DIR/conf.d/a.toml:1: want each service in one place"},
		{"services too many", "max-services = 2\n[service.b]\n", map[string]string{"conf.d/a.toml": "[service.a]\n\n[service.z]\n"},
			"conf.d/a.toml:3: service.z: 3 services are more than max-services 2: want fewer, or max-services of at least 3"},
		{"rings too large together", "ring-total = \"10MiB\"\n[service.b]\nring-bytes = \"8MiB\"\n", map[string]string{"conf.d/a.toml": "[service.a]\n[service.z]\n"},
			"conf.d/a.toml:1: service.a: ring-bytes of all services are 16MiB, more than ring-total 10MiB: want less ring-bytes, or ring-total of at least 16MiB"},
		{"the main file first", "x = 1\n", map[string]string{"conf.d/a.toml": "="},
			"logfs.toml:1: x: unknown key: want one of mount, store, socket, list-follow, max-services, ring-total, max-followers, max-followers-per-service, max-followers-per-user, [defaults], [service.NAME]\n" +
				"DIR/conf.d/a.toml:1: cannot parse: unexpected '=': key name appears blank"},
		{"fragments in order of name", "", map[string]string{"conf.d/b.toml": "=", "conf.d/a.toml": "[service.a]\nkeep = 0\n"},
			"conf.d/a.toml:2: service.a.keep: cannot use 0: want a whole number from 1 to 100000\n" +
				"DIR/conf.d/b.toml:1: cannot parse: unexpected '=': key name appears blank"},
		{"a main file without form leaves the defaults unknown", "=", map[string]string{"conf.d/a.toml": "[service.a]\nring-bytes = 4096\nkeep = 0\n"},
			"logfs.toml:1: cannot parse: unexpected '=': key name appears blank\n" +
				"DIR/conf.d/a.toml:3: service.a.keep: cannot use 0: want a whole number from 1 to 100000"},
		{"value of the defaults against one of a fragment", "[defaults]\nline-limit = \"64KiB\"\n", map[string]string{"conf.d/a.toml": "[service.a]\nring-bytes = \"128KiB\"\n"},
			"conf.d/a.toml:2: service.a.ring-bytes: ring-bytes 131072 cannot hold 4 lines of line-limit 65536: want ring-bytes of at least 262144"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, dir, err := load(t, tt.text, tt.fragments)
			if err == nil {
				t.Fatal("no error")
			}
			got := strings.TrimPrefix(err.Error(), dir+"/")
			if got = strings.ReplaceAll(got, dir, "DIR"); got != tt.want {
				t.Errorf("\ngot  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestUnreadable(t *testing.T) {
	dir := files(t, map[string]string{
		"a/logfs.toml": "", "a/conf.d/x.toml/file": "",
		"b/logfs.toml": "", "b/conf.d": "",
		"c/logfs.toml": strings.Repeat("\n", maxFile+1),
		"d/logfs.toml": strings.Repeat("\n", maxFile),
	})
	tests := []struct {
		path, want string
		is         error
	}{
		{"none.toml", "none.toml: cannot read: no such file or directory", fs.ErrNotExist},
		{"a", "a: cannot read: is a directory", syscall.EISDIR},
		{"a/logfs.toml", "a/conf.d/x.toml: cannot read: is a directory", syscall.EISDIR},
		{"b/logfs.toml", "b/conf.d: cannot read: not a directory", syscall.ENOTDIR},
		{"c/logfs.toml", "c/logfs.toml: file is too large: want at most 4MiB", nil},
		{"d/logfs.toml", "", nil},
	}
	for _, tt := range tests {
		_, err := Load(filepath.Join(dir, tt.path), false)
		got := ""
		if err != nil {
			got = strings.TrimPrefix(err.Error(), dir+"/")
		}
		if got != tt.want || tt.is != nil && !errors.Is(err, tt.is) {
			t.Errorf("%s: got %q (%v), want %q", tt.path, got, errors.Unwrap(err), tt.want)
		}
	}
}

// The default of min is no mistake of who wants to keep less.
func TestKeepLessThanMinByDefault(t *testing.T) {
	if _, _, err := load(t, "[service.web]\nkeep = 1\n", nil); err != nil {
		t.Error(err)
	}
}

func TestCheckFixed(t *testing.T) {
	running, _, err := load(t, "mount = \"/m\"\nstore = \"/s\"\n", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := running.CheckFixed(running); err != nil {
		t.Errorf("nothing has changed: %v", err)
	}
	c, dir, err := load(t, "list-follow = false\nmount = \"/n\"\n[defaults]\nkeep = 3\n", nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Socket = running.Socket // as by a flag
	want := dir + `/logfs.toml:2: mount: cannot change from "/m" to "/n" while the daemon runs: want "/m", or restart the daemon` + "\n" +
		dir + `/logfs.toml: store: cannot change from "/s" to "` + c.Store + `" while the daemon runs: want "/s", or restart the daemon`
	if err := c.CheckFixed(running); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// What a caller can take apart.
func TestErrorFields(t *testing.T) {
	_, dir, err := load(t, "[service.web]\nkeep = 0\n", nil)
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("%T", err)
	}
	want := Error{File: dir + "/logfs.toml", Line: 2, Key: "service.web.keep", Msg: "cannot use 0: want a whole number from 1 to 100000"}
	if *e != want || errors.Unwrap(e) != nil {
		t.Errorf("got %+v, want %+v", *e, want)
	}
}
