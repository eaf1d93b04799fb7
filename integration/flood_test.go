package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A whisper is a service that says a line now and then, and a reader of it that
// measures how long each takes.
type whisper struct {
	name string
	w    *os.File
	said int // lines

	mu    sync.Mutex // guards the following
	times []time.Duration
	err   error
}

// heard returns how long the lines took that were heard, and why there are no more.
func (v *whisper) heard() ([]time.Duration, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.times, v.err
}

// whispers starts n of them, through logfs pipe; they end with the daemon's test.
func (d *daemon) whispers(n int) (all []*whisper) {
	d.t.Helper()
	for i := range n {
		v := &whisper{name: fmt.Sprintf("whisper%d", i)}
		r, w, err := os.Pipe()
		must(d.t, err)
		v.w = w
		cmd := exec.Command(logfsBin, "pipe", "--socket", d.sock, v.name)
		cmd.Stdin = r
		must(d.t, cmd.Start())
		r.Close()
		d.t.Cleanup(func() { w.Close(); _ = cmd.Wait() })
		all = append(all, v)
	}
	for _, v := range all {
		d.awaitState(v.name, "running")
		fd, err := unix.Open(d.path(v.name, "stdout", "follow"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		must(d.t, err)
		go v.listen(fd)
	}
	return all
}

// floor is the same through a plain pipe to ourselves: what the machine takes.
func floor(t *testing.T) *whisper {
	t.Helper()
	var p [2]int
	must(t, unix.Pipe2(p[:], unix.O_CLOEXEC))
	v := &whisper{name: "a plain pipe", w: os.NewFile(uintptr(p[1]), "floor")}
	t.Cleanup(func() { v.w.Close() })
	go v.listen(p[0])
	return v
}

func (v *whisper) say() {
	v.said++
	fmt.Fprintf(v.w, "%d %d\n", v.said, monotonic())
}

// listen reads to the end of follow, all lines once and in order.
func (v *whisper) listen(fd int) {
	defer unix.Close(fd)
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(fd, buf)
		now := monotonic()
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return
		}
		v.hear(buf[:n], now)
	}
}

func (v *whisper) hear(text []byte, now int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for line := range bytes.Lines(text) {
		var number int
		var sent int64
		if _, err := fmt.Sscanf(string(line), "%d %d\n", &number, &sent); err != nil || number != len(v.times)+1 {
			v.err = fmt.Errorf("line %d is %q: %v", len(v.times)+1, line, err)
		}
		v.times = append(v.times, time.Duration(now-sent))
	}
}

// Many services at once start, are heard, and end; the time and the memory are
// printed.
func TestManyServicesAtOnce(t *testing.T) {
	const services = 200
	var conf strings.Builder
	for i := range services {
		fmt.Fprintf(&conf, "[service.s%d]\ncommand = \"echo hello from %d; exec sleep 1000\"\n", i, i)
	}
	d := newDaemon(t, conf.String())
	began := time.Now()
	d.start()
	up := time.Since(began)
	for i := range services {
		d.watch(fmt.Sprintf("s%d", i), "stdout", "follow").await(fmt.Sprintf("hello from %d\n", i))
	}
	heard, memory := time.Since(began), d.memory()
	began = time.Now()
	d.stop()
	t.Logf("%d services: ready after %v, all heard after %v, all ended in %v; daemon with a follower of each: %d KiB",
		services, up.Round(time.Millisecond), heard.Round(time.Millisecond), time.Since(began).Round(time.Millisecond), memory)
	for i := range services {
		stored := strings.Join(readLogdir(t, d.logdir(fmt.Sprintf("s%d", i))), "\n")
		if !strings.Contains(stored, fmt.Sprintf(" o hello from %d", i)) || !strings.Contains(stored, "signal=TERM") {
			t.Errorf("the files of s%d:\n%s", i, stored)
		}
	}
}

// A service that floods takes nothing from those that whisper: no line of theirs
// is lost, and how long they wait is printed.
func TestFloodBesideWhispers(t *testing.T) {
	floods := 3 * time.Second
	if os.Getenv("LOGFS_LONG") == "1" {
		floods = 30 * time.Second
	}
	const services = 50
	conf := "[service.flood]\n"
	for i := range services {
		conf += fmt.Sprintf("[service.whisper%d]\n", i)
	}
	d := startDaemon(t, conf)
	all := d.whispers(services)
	pipe := floor(t)
	measured := func(what string, during time.Duration) {
		t.Helper()
		from, fromPipe := all[0].said, pipe.said
		pace := time.NewTicker(time.Second / 10 / services)
		defer pace.Stop()
		for end, i := time.Now().Add(during), 0; time.Now().Before(end); i++ {
			all[i%services].say()
			if i%5 == 0 {
				pipe.say()
			}
			<-pace.C
		}
		var times []time.Duration
		for _, v := range all {
			var took []time.Duration
			eventually(t, func() string { return fmt.Sprintf("%s to be heard: %d of %d lines", v.name, len(took), v.said) },
				func() bool { took, _ = v.heard(); return len(took) >= v.said })
			times = append(times, took[min(from, len(took)):]...)
		}
		eventually(t, func() string { return "the plain pipe" }, func() bool { took, _ := pipe.heard(); return len(took) == pipe.said })
		least, _ := pipe.heard()
		least = least[fromPipe:]
		t.Logf("%s: %d lines of %d services, from write to read: p50 %v, p99 %v, worst %v; a plain pipe: p50 %v, p99 %v, worst %v",
			what, len(times), services, percentile(times, 50), percentile(times, 99), percentile(times, 100),
			percentile(least, 50), percentile(least, 99), percentile(least, 100))
	}
	measured("alone", time.Second)
	flood := startClient(t, setting{env: []string{"LOGFS_SOCKET=" + d.sock}}, logfsBin, "run", "flood", "--", "yes", strings.Repeat("flood ", 20))
	d.awaitState("flood", "running")
	measured("beside a flood", floods)
	flood.end(unix.SIGTERM)
	t.Logf("the flood had %s lines", d.statusOf("flood")[statusLast])
	for _, v := range all {
		if _, err := v.heard(); err != nil {
			t.Errorf("%s: %v", v.name, err)
		}
		if lost := d.statusNumber(v.name, statusLost); lost != 0 {
			t.Errorf("%s has lost %d lines", v.name, lost)
		}
	}
}

// percentile sorts times and returns the one that p of a hundred do not exceed.
func percentile(times []time.Duration, p int) time.Duration {
	slices.Sort(times)
	return times[min(len(times)-1, len(times)*p/100)]
}
