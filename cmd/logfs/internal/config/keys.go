package config

import "time"

// Place is where a key may stand.
type Place uint8

const (
	Top         Place = iota // before the first table of the main file
	Table                    // in [defaults] and in [service.NAME]
	ServiceOnly              // in [service.NAME]
)

// Key describes one setting.
type Key struct {
	Name     string
	Place    Place
	Type     string
	Default  string // as TOML writes it; empty: none
	Meaning  string // one line
	Accepted string // completes "want …"
	Process  bool   // says how a command is run: in [service.NAME] only beside one
	Input    bool   // says who may write to a fifo or syslog: likewise

	set func(to target, value any) *refusal
}

// target is what a key sets: a top-level key the Config, any other the Service.
type target struct {
	*Config
	*Service
}

// refusal is a value that a key does not take. A value inside a table says
// under which name it stands there.
type refusal struct {
	value any
	under string
}

// Keys is every setting, in the order of the documentation.
var Keys = []Key{
	key("mount", Top, `"/mnt/logs"`, "directory to mount on; for a plain user $XDG_RUNTIME_DIR/logfs",
		path(4095, func(t target) *string { return &t.Config.Mount })),
	key("store", Top, `"/var/log/logfs"`, "directory of the files; for a plain user $XDG_STATE_HOME/logfs",
		path(4095, func(t target) *string { return &t.Config.Store })),
	key("socket", Top, `"/run/logfs/control"`, "control socket; for a plain user $XDG_RUNTIME_DIR/logfs.control",
		path(107, func(t target) *string { return &t.Config.Socket })),
	key("list-follow", Top, "true", "whether follow is shown in listings; it opens in any case",
		boolean(func(t target) *bool { return &t.Config.ListFollow })),
	key("max-services", Top, "2048", "most services, configured and brought by run, pipe and mkdir",
		unlimited(integer(1, 1_000_000, func(t target) *int { return &t.Config.Limits.Services }))),
	key("ring-total", Top, `"4GiB"`, "most bytes that the rings of all services may hold together, at least the sum of ring-bytes of those configured",
		unlimited(size(64<<10, 1<<50, func(t target) *int64 { return &t.Config.Limits.RingTotal }))),
	key("max-followers", Top, "32768", "most readers of follow; an eighth is for root and the user of the daemon alone",
		unlimited(integer(8, 10_000_000, func(t target) *int { return &t.Config.Limits.Followers }))),
	key("max-followers-per-service", Top, "16384", "most readers of follow of one service; an eighth is for root and the user of the daemon alone",
		unlimited(integer(8, 10_000_000, func(t target) *int { return &t.Config.Limits.FollowersService }))),
	key("max-followers-per-user", Top, "1024", "most readers of follow of one user other than root and the user of the daemon",
		unlimited(integer(1, 10_000_000, func(t target) *int { return &t.Config.Limits.FollowersUser }))),

	key("ring-lines", Table, "10000", "most lines kept in memory",
		integer(1, 100_000_000, func(t target) *int { return &t.Service.RingLines })),
	key("ring-bytes", Table, `"4MiB"`, "most bytes kept in memory, at least 4 times line-limit",
		size(4<<10, 64<<30, func(t target) *int64 { return &t.Service.RingBytes })),
	key("size", Table, `"1MiB"`, "size at which current is rotated",
		size(4<<10, 1<<40, func(t target) *int64 { return &t.Service.Size })),
	key("rotate", Table, `"none"`, "when time rotates current, in local hours and days",
		choice(func(t target) *Period { return &t.Service.Rotate }, None, Hourly, Daily)),
	key("keep", Table, "10", "most archives kept",
		integer(1, 100_000, func(t target) *int { return &t.Service.Keep })),
	key("total", Table, "0", "most bytes of archives kept, at least size",
		unlimited(size(4<<10, 1<<50, func(t target) *int64 { return &t.Service.Total }))),
	key("age", Table, "0", "time after its last line at which an archive is deleted",
		unlimited(days(time.Second, 10_000, func(t target) *time.Duration { return &t.Service.Age }))),
	key("min", Table, "2", "newest archives that are not given up for room on a full disk, at most keep",
		integer(0, 100_000, func(t target) *int { return &t.Service.Min })),
	key("compress", Table, `"none"`, "how archives are compressed, in the background",
		choice(func(t target) *Compression { return &t.Service.Compress }, None, Gzip, Zstd)),
	key("full", Table, `"drop"`, "whether lines that a full disk does not take are lost, the oldest first, or the service waits",
		choice(func(t target) *Full { return &t.Service.Full }, Drop, Block)),
	key("line-limit", Table, "10000", "length above which a line is stored in pieces",
		size(128, 64<<10, func(t target) *int { return &t.Service.LineLimit })),
	key("sync", Table, `"1s"`, "longest time that written lines wait for fsync",
		duration(time.Millisecond, time.Hour, func(t target) *time.Duration { return &t.Service.Sync })),
	key("marks", Table, "true", "whether the text views show the marks",
		boolean(func(t target) *bool { return &t.Service.Marks })),
	key("owner", Table, "", "owner of the service's directory",
		owning("user", knownUser, func(t target) *string { return &t.Service.Owner })),
	key("group", Table, "", "group of the service's directory",
		owning("group", knownGroup, func(t target) *string { return &t.Service.Group })),
	key("mode", Table, `"0750"`, "permissions of the service's directory; files have them without x, so \"0640\" is the same as \"0750\"",
		mode(func(t target) *uint32 { t.Service.ModeSet = true; return &t.Service.Mode })),

	key("command", ServiceOnly, "", "what the daemon runs: a string goes to /bin/sh -c, an array is run as it is",
		command(func(t target) *[]string { return &t.Service.Command })),
	key("fifo", ServiceOnly, "", "FIFO that others write lines to; it is made if it is missing",
		path(4095, func(t target) *string { return &t.Service.Fifo })),
	key("syslog", ServiceOnly, "", "datagram socket, as /dev/log is, that others send messages to",
		path(107, func(t target) *string { return &t.Service.Syslog })),
	input("input-owner", "owner of the FIFO or socket",
		owning("user", knownUser, func(t target) *string { return &t.Service.InputOwner })),
	input("input-group", "group of the FIFO or socket",
		owning("group", knownGroup, func(t target) *string { return &t.Service.InputGroup })),
	input("input-mode", "permissions of the FIFO or socket; 0600 for one that is made",
		fileMode(func(t target) *uint32 { return &t.Service.InputMode })),
	process("dir", "", "directory the command starts in",
		path(4095, func(t target) *string { return &t.Service.Dir })),
	process("env", "", "variables added to the environment of the command",
		environment(func(t target) *[]string { return &t.Service.Env })),
	process("user", "", "user the command runs as",
		account(func(t target) *string { return &t.Service.User })),
	process("restart", `"always"`, "when a command that has ended is started again",
		choice(func(t target) *Restart { return &t.Service.Restart }, Always, OnFailure, Never)),
	process("backoff", `"1s"`, "wait before the first restart; doubled each time the command ends soon",
		duration(time.Millisecond, 24*time.Hour, func(t target) *time.Duration { return &t.Service.Backoff })),
	process("backoff-max", `"1m"`, "longest wait before a restart",
		duration(time.Millisecond, 24*time.Hour, func(t target) *time.Duration { return &t.Service.BackoffMax })),
}

func key(name string, place Place, def, meaning string, r rule) Key {
	return Key{Name: name, Place: place, Type: r.kind, Default: def,
		Meaning: meaning, Accepted: r.accepted, set: r.set}
}

func process(name, def, meaning string, r rule) Key {
	k := key(name, Table, def, meaning, r)
	k.Process = true
	return k
}

func lookup(name string, places ...Place) (Key, bool) {
	for _, k := range keysAt(places...) {
		if k.Name == name {
			return k, true
		}
	}
	return Key{}, false
}

func keysAt(places ...Place) []Key {
	var found []Key
	for _, k := range Keys {
		for _, p := range places {
			if k.Place == p {
				found = append(found, k)
			}
		}
	}
	return found
}

// combinations are the settings that restrict each other. wrong says how, or
// nothing; it is asked only about values that passed their own check, and only
// if a file sets the key chosen.
var combinations = []struct {
	keys   []string
	chosen string
	wrong  func(s *Service) string
}{
	{[]string{"ring-bytes", "line-limit"}, "", ringTooSmall},
	{[]string{"total", "size"}, "", totalTooSmall},
	{[]string{"min", "keep"}, "min", keepTooFew},
	{[]string{"backoff", "backoff-max"}, "", backoffTooLong},
	{waysIn, "", tooManyWays},
}
