package fs

import (
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"logfs/ring"
	"logfs/ring/record"
)

// render is what a selection of the records shows from the number from on, as
// far as they belong to run, or to any if it is 0.
func (m *mounted) render(file string, s streams, from, run uint64) string {
	k := current
	if file == "seq" {
		k = seq
	}
	l := m.e.view(s, k).layout
	var b []byte
	var open record.Kind
	for _, stored := range m.files.all() {
		rec := stored.record()
		if rec.Seq < from || run > 0 && rec.Run != run {
			continue
		}
		b = l.write(b, open, &rec)
		if l.sel.takes(rec.Kind) {
			open = l.after(&rec)
		}
	}
	return string(b)
}

// chatter says random lines in random runs.
func (m *mounted) chatter(rnd *rand.Rand, n int) {
	run := m.ring.Run()
	for range n {
		switch rnd.Intn(20) {
		case 0:
			run++
			m.say(fmt.Sprintf("= start run=%d pid=7", run))
		case 1:
			m.say("= exit code=0 after=1s")
		case 2:
			m.say(fmt.Sprintf("= lost lines=%d", 1+rnd.Intn(30)))
		default:
			kind := []string{"o ", "e ", "o+ ", "e+ "}[rnd.Intn(4)]
			m.say(kind + strings.Repeat("x\x00\\y"[rnd.Intn(4):], rnd.Intn(30)) + strconv.Itoa(rnd.Intn(1000)))
		}
		m.stamp += record.Stamp(rnd.Intn(3)) * 1e9
	}
}

// check reads the file from its beginning, at random and backwards.
func (m *mounted) check(name, want string, rnd *rand.Rand) {
	m.t.Helper()
	fd, err := syscall.Open(m.path(name), syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		m.t.Fatalf("%s: %v", name, err)
	}
	defer syscall.Close(fd)
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil || st.Size != int64(len(want)) {
		m.t.Fatalf("%s: size %d, want %d (%v)", name, st.Size, len(want), err)
	}
	b := make([]byte, 1+rnd.Intn(3000))
	at := func(off int64) {
		n, err := syscall.Pread(fd, b, off)
		if end := min(int(off)+len(b), len(want)); err != nil || string(b[:n]) != want[off:end] {
			m.t.Fatalf("%s at %d:\n got %.300q (%v)\nwant %.300q", name, off, b[:max(n, 0)], err, want[off:end])
		}
	}
	for off := len(want); off > 0 && rnd.Intn(2) == 0; off -= min(off, len(b)) {
		at(int64(max(0, off-len(b))))
	}
	for range 10 {
		at(rnd.Int63n(int64(len(want) + 1)))
	}
	var got strings.Builder
	for {
		n, err := syscall.Read(fd, b)
		if n <= 0 || err != nil {
			break
		}
		got.Write(b[:n])
	}
	if got.String() != want {
		at := 0
		for at < min(got.Len(), len(want)) && got.String()[at] == want[at] {
			at++
		}
		from := max(0, at-60)
		m.t.Fatalf("%s, from %d of %d:\n got %.200q\nwant %.200q", name, from, len(want), got.String()[from:], want[from:])
	}
	if err := syscall.Fstat(fd, &st); err != nil || st.Size != int64(len(want)) {
		m.t.Errorf("%s: size %d at its end, want %d (%v)", name, st.Size, len(want), err)
	}
}

// Whatever is chosen, in whatever order, is exactly the records of it, from the
// files and from the ring, with an honest size and at every offset.
func TestSelections(t *testing.T) {
	for seed := range int64(40) {
		rnd := rand.New(rand.NewSource(seed))
		m := mountWith(t, ring.Limits{Lines: 1 + rnd.Intn(300), Bytes: 1 << 20}, &files{})
		m.e.Configure(Looks{Marks: seed%4 != 0, Mode: 0o750})
		m.chatter(rnd, 1+rnd.Intn(600))
		all := m.files.all()
		for range 12 {
			s := streams(rnd.Intn(int(streamKinds)))
			var path []string
			if s != selAll {
				path = append(path, dirNames[s])
			}
			var from, run uint64
			if r := all[rnd.Intn(len(all))].record(); rnd.Intn(2) == 0 && r.Run > 0 {
				run = r.Run
				path = append(path, "run/"+strconv.FormatUint(run, 10))
			}
			switch i := rnd.Intn(len(all)); rnd.Intn(4) {
			case 0:
				path = append(path, "since/start")
			case 1:
				from = all[i].seq
				path = append(path, "since/"+strconv.FormatUint(from, 10))
			case 2:
				rec := all[i].record()
				from = rec.Seq
				path = append(path, "since/"+string(record.AppendStamp(nil, rec.Time())))
			}
			rnd.Shuffle(len(path), func(i, j int) { path[i], path[j] = path[j], path[i] })
			file := []string{"current", "seq"}[rnd.Intn(2)]
			name := filepath.Join(append(path, file)...)
			if run == 0 && from == 0 && !strings.Contains(name, "since") {
				continue // what the ring has
			}
			t.Run(fmt.Sprintf("%d/%s", seed, name), func(t *testing.T) {
				m.t = t
				m.check(name, m.render(file, s, from, run), rnd)
				m.t = nil
			})
		}
	}
}

// What the tree lists can be opened, and what is chosen is not offered again.
func TestListings(t *testing.T) {
	m := mountWith(t, ring.Limits{Lines: 5}, &files{})
	m.say("= start run=3 pid=7", "o one", "= exit code=0 after=1s", "= start run=4 pid=8")
	m.count(1, 20)
	yesterday := time.Now().AddDate(0, 0, -1).Format(time.DateOnly)
	for dir, want := range map[string]string{
		"":                       "current follow run seq since stderr stdout",
		"stderr":                 "current follow seq since",
		"run":                    "3 4 now prev",
		"run/3":                  "current follow seq since",
		"run/now":                "current follow seq since",
		"run/3/stdout":           "current follow seq since",
		"stdout/run":             "3 4 now prev",
		"stdout/run/prev":        "current follow seq since",
		"since":                  "example-03:00 example-10m example-20 example-" + yesterday + "T02:50 example-start",
		"since/10m":              "current follow seq",
		"since/10m/stderr/run/4": "current follow seq",
	} {
		var names []string
		all, err := os.ReadDir(m.path(dir))
		for _, f := range all {
			names = append(names, f.Name())
			if _, err := os.Stat(m.path(dir + "/" + f.Name())); err != nil {
				t.Error(err)
			}
		}
		if got := strings.Join(names, " "); err != nil || got != want {
			t.Errorf("%s: %v, want %v (%v)", dir, got, want, err)
		}
	}
	for _, name := range []string{
		"run/2", "run/5", "run/0", "run/03", "run/x", "run/+3", "run/now/run", "stdout/stdout", "stdout/stderr",
		"since/10m/since", "since/10x", "since/007", "since/example", "run/3/run/3",
	} {
		if _, err := os.Lstat(m.path(name)); !os.IsNotExist(err) {
			t.Errorf("%s: %v, want that it does not exist", name, err)
		}
	}
	for link, want := range map[string]string{"run/now": "4", "run/prev": "3", "since/example-10m": "10m", "since/example-20": "20", "since/example-3": "3"} {
		if got, err := os.Readlink(m.path(link)); err != nil || got != want {
			t.Errorf("%s -> %s, want %s (%v)", link, got, want, err)
		}
	}
}
