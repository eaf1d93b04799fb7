package integration

// The clients of follow. They are started by /bin/sh and replace it, so that
// the process the test signals is the client.
var followers = []follower{
	{name: "tail -f", sh: `exec tail -f "$F"`, shows: lastLines(10)},
	{name: "tail -F", sh: `exec tail -F "$F"`, shows: lastLines(10)},
	{name: "tail -n 3 -f", sh: `exec tail -n 3 -s 0.1 -f "$F"`, shows: lastLines(3)},
	{name: "tail -n +1 -f", sh: `exec tail -n +1 -s 0.1 -f "$F"`, shows: everything, tty: true},
	{name: "tail -n 0 -f", sh: `exec tail -n 0 -s 0.1 -f "$F"`, shows: onlyNew, late: true},
	// tail -c reads a file of less than a block (4 KiB) to its end, for that
	// may be one of /proc, before it shows any of it: follow has no end.
	{name: "tail -c 250 -f", sh: `exec tail -c 250 -s 0.1 -f "$F"`, shows: lastBytes(250), least: 60},
	{name: "tail -s 0.1 -f", sh: `exec tail -s 0.1 -f "$F"`, shows: lastLines(10)},
	{name: "tail -f stdin", sh: `exec tail -s 0.1 -f <"$F"`, shows: lastLines(10)},

	{name: "cat", sh: `exec cat "$F"`, shows: everything},
	{name: "cat until shutdown", sh: `exec cat "$F"`, shows: everything, end: byShutdown},
	{name: "cat into grep", sh: `cat "$F" | grep --line-buffered n=`, shows: onlyNumbered, end: byShutdown},
	{name: "cat into while read", tools: []string{"dash"}, sh: `cat "$F" | dash "$C/lines.sh"`, shows: everything, end: byShutdown},
	{name: "head", sh: `exec head -n "$N" "$F"`, shows: everything, end: bySelf},
	{name: "dd", sh: `exec dd if="$F" bs=64k status=none`, shows: everything},
	{name: "dd bs=100", sh: `exec dd if="$F" bs=100 status=none`, shows: everything},
	{name: "tee", sh: `exec tee "$W/copy" <"$F"`, shows: everything},
	{name: "cut", sh: `exec cut -d " " -f 1 "$F"`, shows: firstField, tty: true},
	{name: "sed -u", sh: `exec sed -u -n p "$F"`, shows: everything},
	{name: "sed", sh: `exec sed -n p "$F"`, shows: everything, end: byShutdown, mute: true},

	{name: "grep", sh: `exec grep n= "$F"`, shows: onlyNumbered, tty: true},
	{name: "grep --line-buffered", sh: `exec grep --line-buffered n= "$F"`, shows: onlyNumbered},
	{name: "grep -m1", sh: `exec grep -m1 "n=$L" "$F"`, shows: lastLine, end: bySelf},
	{name: "grep -q", sh: `exec grep -q "n=$L" "$F"`, shows: nothing, end: bySelf},
	{name: "grep -c until shutdown", sh: `exec grep -c "" "$F"`, shows: lineCount, end: byShutdown, mute: true},

	{name: "gawk", tools: []string{"gawk"}, sh: `exec gawk '{ print; fflush() }' "$F"`, shows: everything},
	{name: "gawk fields", tools: []string{"gawk"}, sh: `exec gawk '{ print $1 }' "$F"`, shows: firstField, tty: true},
	{name: "mawk", tools: []string{"mawk"}, sh: `exec mawk '{ print }' "$F"`, shows: everything, end: byShutdown, mute: true},
	{name: "mawk -W interactive", tools: []string{"mawk"}, sh: `exec mawk -W interactive '{ print }' <"$F"`, shows: everything},

	{name: "while read dash", tools: []string{"dash"}, sh: `exec dash "$C/lines.sh" <"$F"`, shows: everything},
	{name: "while read bash", tools: []string{"bash"}, sh: `exec bash "$C/lines.sh" <"$F"`, shows: everything},
	{name: "read -t bash", tools: []string{"bash"}, sh: `exec bash "$C/timed.sh" <"$F"`, shows: everything},

	{name: "python readline", tools: []string{"python3"}, sh: `exec python3 "$C/readline.py" "$F"`, shows: everything},
	{name: "python os.read", tools: []string{"python3"}, sh: `exec python3 "$C/osread.py" "$F"`, shows: everything},
	{name: "python select", tools: []string{"python3"}, sh: `exec python3 "$C/ready.py" select "$F"`, shows: everything},
	{name: "python poll", tools: []string{"python3"}, sh: `exec python3 "$C/ready.py" poll "$F"`, shows: everything},
	{name: "python epoll", tools: []string{"python3"}, sh: `exec python3 "$C/ready.py" epoll "$F"`, shows: everything},
	{name: "python asyncio", tools: []string{"python3"}, sh: `exec python3 "$C/loop.py" "$F"`, shows: everything},
	{name: "perl", tools: []string{"perl"}, sh: `exec perl -ne 'BEGIN { $| = 1 } print' "$F"`, shows: everything},
	{name: "node", tools: []string{"node"}, sh: `exec node "$C/stream.js" "$F"`, shows: everything},
	{name: "go", sh: `LOGFS_TEST_HELPER=read exec "$T" "$F"`, shows: everything},
	{name: "go deadlines", sh: `LOGFS_TEST_HELPER=deadlines exec "$T" "$F"`, shows: everything},

	// current is at its end where the data is, and grows.
	{name: "tail -F current", sh: `exec tail -s 0.1 -F "$F"`, shows: lastLines(10), file: "current"},
	{name: "tail -f current", sh: `exec tail -s 0.1 -f "$F"`, shows: lastLines(10), file: "current"},
	{name: "busybox tail -f current", tools: []string{"busybox"}, sh: `exec busybox tail -f "$F"`, shows: lastLines(10), file: "current"},
}

func lastLine(old, new string) string { return lastLines(1)(old+new, "") }

func nothing(_, _ string) string { return "" }
