package integration

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// chorus are services whose lines the test writes through FIFOs.
type chorus struct {
	d     *daemon
	names []string
	w     []*os.File
	n     int // lines of each
}

func startChorus(t testing.TB, services int, conf string) *chorus {
	c := &chorus{}
	for i := range services {
		name := fmt.Sprintf("s%0*d", 1+i%9, i)
		c.names = append(c.names, name)
		conf += fmt.Sprintf("[service.%s]\nfifo = \"$D/run/%[1]s\"\n", name)
	}
	c.d = startInputs(t, conf)
	for _, name := range c.names {
		f, err := os.OpenFile(filepath.Join(c.d.dir, "run", name), os.O_WRONLY, 0)
		must(t, err)
		c.w = append(c.w, f)
	}
	return c
}

// round has every service say a line, some a second one at once.
func (c *chorus) round() {
	c.n++
	for i, f := range c.w {
		if _, err := fmt.Fprintf(f, "line %d sent %d\n", c.n, monotonic()); err != nil {
			c.d.t.Fatalf("%s: %v", c.names[i], err)
		}
	}
}

func (c *chorus) close() {
	for _, f := range c.w {
		f.Close()
	}
}

// A heard is a line that a reader of all has got.
type heard struct {
	service string
	n       int
	late    time.Duration
}

// parseAll reads what the helper that reads all/follow prints.
func parseHeard(t testing.TB, line string) (h heard) {
	f := strings.Fields(line)
	if len(f) != 3 {
		t.Fatalf("the reader printed %q", line)
	}
	n, err1 := strconv.Atoi(f[1])
	late, err2 := strconv.ParseInt(f[2], 10, 64)
	if err1 != nil || err2 != nil {
		t.Fatalf("the reader printed %q", line)
	}
	return heard{f[0], n, time.Duration(late)}
}

// hear lets the chorus speak, that many rounds, and checks that a reader of
// all/follow gets every line once, in order within each service. It returns how
// long after the write each came.
func (c *chorus) hear(t testing.TB, rounds int, pace time.Duration) (late []time.Duration) {
	reader := exec.Command(os.Args[0], c.d.path("all", "follow"))
	reader.Env = append(os.Environ(), "LOGFS_TEST_HELPER=all")
	out, err := reader.StdoutPipe()
	must(t, err)
	must(t, reader.Start())
	defer func() { _ = reader.Process.Kill(); _ = reader.Wait() }()
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for range rounds {
			<-tick.C
			c.round()
		}
	}()
	next := map[string]int{}
	in := bufio.NewScanner(out)
	for len(late) < rounds*len(c.names) && in.Scan() {
		h := parseHeard(t, in.Text())
		if next[h.service]++; h.n != next[h.service] {
			t.Fatalf("%s: line %d, want %d", h.service, h.n, next[h.service])
		}
		late = append(late, h.late)
	}
	<-done
	return late
}

// All lines of many services come by all/follow once, in order.
func TestAllFollow(t *testing.T) {
	t.Parallel()
	c := startChorus(t, 20, "")
	defer c.close()
	if late := c.hear(t, 200, 5*time.Millisecond); len(late) != 200*20 {
		t.Fatalf("%d lines, want %d", len(late), 200*20)
	}
	all := c.d.read("all", "current")
	if n := strings.Count(all, " sent "); n != 200*20 {
		t.Errorf("all/current has %d lines, want %d", n, 200*20)
	}
	c.d.sh(`test $(cat m/all/current | wc -c) = $(stat -c %s m/all/current)`)
	c.d.sh(`cut -d, -f1 m/all/seq | LC_ALL=C sort -c`)
	c.d.sh(`cat m/s*/seq | LC_ALL=C sort >each; LC_ALL=C sort m/all/seq | cmp - each`)
	c.d.sh(`cat m/all/since/5m/current | cmp - m/all/current; tac m/all/current | tac | cmp - m/all/current`)
	c.d.sh(`tail -n 7 m/all/current >tail; tail -n 7 m/all/follow | cmp - tail`)
	c.d.sh(`grep -m1 -n "line 200 " m/all/follow | grep "^[0-9]*:s[0-9]* *| line 200 sent "`)
	c.d.sh(`awk -F ' *[|] ' '{ n[$1]++ } END { for (s in n) print n[s], s }' m/all/stdout/current | grep -c '^200 s' | grep -x 20`)
}

// Two who look at all services on a screen, and one with grep.
func TestAllOnAScreen(t *testing.T) {
	t.Parallel()
	if lookTool("less") == "" || lookTool("tmux") == "" {
		cases.add("less and tmux are not installed")
		return
	}
	c := startChorus(t, 3, "")
	defer c.close()
	for range 400 {
		c.round()
	}
	c.d.sh(`grep -qm1 "^s002 | line 400 sent" m/all/follow; grep -qm1 "^s01  | line 400 sent" m/all/follow`)
	less := c.d.terminal(t, "exec less "+c.d.path("all", "current"))
	less.shows(" run 1 started")
	less.keys("G")
	less.shows("| line 400 sent")
	less.keys("g")
	less.shows("| line 1 sent")
	less.keys("/line 200 sent", "Enter")
	less.shows("| line 201 sent")
	less.keys("F")
	grep := c.d.shell(t, setting{}, `cat m/all/follow | grep --line-buffered -o "^s01  | line 401"`)
	c.round()
	less.shows("| line 401 sent")
	grep.awaitText("s01  | line 401")
}

// BenchmarkAllFollow has 50 services say 200 lines a second each, for 20 s, and
// tells how long after the write a reader of all/follow has them.
func BenchmarkAllFollow(b *testing.B) {
	for range b.N {
		c := startChorus(b, 50, "")
		began, ticks := time.Now(), c.d.ticks()
		late := c.hear(b, 20*200, 5*time.Millisecond)
		took := time.Since(began)
		if len(late) != 20*200*50 {
			b.Fatalf("%d lines, want %d", len(late), 20*200*50)
		}
		slices.Sort(late)
		b.ReportMetric(float64(percentile(late, 50))/1e6, "p50-ms")
		b.ReportMetric(float64(percentile(late, 99))/1e6, "p99-ms")
		b.ReportMetric(float64(late[len(late)-1])/1e6, "max-ms")
		b.ReportMetric(float64(len(late))/took.Seconds(), "lines/s")
		b.ReportMetric(float64(c.d.ticks()-ticks)/100/took.Seconds(), "cores")
		c.close()
	}
}

// The daemon is killed, or replaced, while services speak without pause. Readers
// of all services do not notice.
func TestReadersOfAllOutliveTheDaemon(t *testing.T) {
	t.Parallel()
	for _, by := range takeovers {
		t.Run(by.name, func(t *testing.T) {
			t.Parallel()
			const services, rounds = 5, 60
			c := startChorus(t, services, "[defaults]\n"+keepAll+"\n")
			defer c.close()
			readers := map[string]*process{}
			for name, script := range map[string]string{
				"cat":            `exec cat m/all/follow`,
				"dd":             `exec dd if=m/all/follow bs=100 status=none`,
				"grep":           `exec grep --line-buffered sent m/all/follow`,
				"tail -f":        `exec tail -n 99999 -s 0.05 -f m/all/follow`,
				"tail -F":        `exec tail -n 99999 -s 0.05 -F m/all/follow`,
				"python asyncio": `exec python3 "$C/loop.py" m/all/follow`,
			} {
				readers[name] = c.d.shell(t, setting{}, script)
			}
			c.round()
			for _, p := range readers {
				p.awaitText("line 1 sent")
			}
			for n := range rounds - 1 {
				c.round()
				if n%10 == 5 {
					for _, s := range c.names {
						c.d.awaitState(s, "running")
					}
					by.run(c.d)
				}
			}
			c.d.watch("all", "follow").await(fmt.Sprintf("line %d sent", rounds))
			for name, p := range readers {
				for _, s := range c.names {
					p.awaitText(fmt.Sprintf("\n%-6s | line %d sent", s, rounds))
				}
				_ = unix.Kill(-p.pid(), unix.SIGTERM)
				p.wait()
				c.check(t, name, p.output(), rounds)
			}
		})
	}
}

// check wants every line once, in order within its service.
func (c *chorus) check(t *testing.T, name, output string, rounds int) {
	next := map[string]int{}
	for line := range strings.Lines(output) {
		f := strings.Fields(line)
		if len(f) != 6 || f[2] != "line" {
			continue
		}
		if next[f[0]]++; f[3] != strconv.Itoa(next[f[0]]) {
			t.Errorf("%s: %q, want line %d", name, line, next[f[0]])
			next[f[0]], _ = strconv.Atoi(f[3])
		}
	}
	for _, s := range c.names {
		if next[s] != rounds {
			t.Errorf("%s: %d lines of %s, want %d", name, next[s], s, rounds)
		}
	}
}

// What the rings have dropped comes from disk, and sizes are right there, too.
func TestAllOfThePast(t *testing.T) {
	t.Parallel()
	const services, rounds = 4, 3000
	c := startChorus(t, services, "[defaults]\n"+keepAll+"\nring-lines = 300\ncompress = \"zstd\"\n")
	defer c.close()
	c.round()
	c.d.sh(`cat m/all/follow >slow & echo $! >pid; until grep -q "line 1 sent" slow; do sleep 0.05; done; kill -STOP $!`)
	for range rounds - 1 {
		c.round()
	}
	for _, s := range c.names {
		c.d.sh(fmt.Sprintf(`grep -qm1 "^%s *| line %d sent" m/all/follow`, s, rounds))
	}
	c.check(t, "since/start", c.d.read("all", "since", "start", "current"), rounds)
	c.d.sh(`test $(stat -c %s m/all/since/start/current) = $(wc -c <m/all/since/start/current)`)
	c.d.sh(`test $(stat -c %s m/all/since/start/seq) = $(cat m/all/since/start/seq | wc -c)`)
	c.d.sh(`tac m/all/since/start/current | tac | cmp - m/all/since/start/current`)
	c.d.sh(`tail -n 50 m/all/since/1h/stdout/current >tail; tail -n 50 m/all/stdout/since/1h/current | cmp - tail`)
	c.d.sh(`head -n 9999 m/all/since/start/follow >head; head -n 9999 m/all/since/start/current | cmp - head`)
	c.d.sh(`tail -n +1 m/all/since/start/current >whole; timeout 1 cat m/all/since/start/follow | cmp - whole`)
	c.d.sh(`cut -d, -f1 m/all/since/start/seq | LC_ALL=C sort -c`)
	c.d.sh(`for s in m/s*; do cat $s/since/start/seq; done | LC_ALL=C sort >each; LC_ALL=C sort m/all/since/start/seq | cmp - each`)
	c.d.sh(`test ! -e m/all/since/17; test ! -e m/all/run; test ! -e m/all/since/run; test -d m/all/since/03:00/stderr`)
	c.d.sh(`ls m/all/since | grep -q example-10m; test -e m/all/since/example-start/current`)
	c.d.sh(fmt.Sprintf(`kill -CONT $(cat pid); until [ $(grep -c "line %d sent" slow) = %d ]; do sleep 0.05; done; kill $(cat pid)`, rounds, services))
	slow, err := os.ReadFile(filepath.Join(c.d.dir, "slow"))
	must(t, err)
	c.check(t, "a reader who was stopped", string(slow), rounds)
}
