package rotate

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
)

// The child's directory; at which call it kills itself, if it does; how it
// keeps its logdir.
const (
	childEnv  = "ROTATE_TEST_CHILD"
	killAtEnv = "ROTATE_TEST_KILL_AT"
	keepEnv   = "ROTATE_TEST_KEEP"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if at := os.Getenv(killAtEnv); at != "" {
			killedMain(dir, at)
		}
		childMain(dir)
	}
	os.Exit(m.Run())
}

// childMain appends numbered lines for ever and tells what has been written.
func childMain(dir string) {
	d, err := Open(childOptions(dir))
	for next := d.State().Next; err == nil; fmt.Println(next) {
		next, err = d.Append([]byte(lines(next, next+23)), next, next+23, 0)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// childOptions are made of keepEnv: archives to keep, and their compression.
func childOptions(dir string) Options {
	o := Options{Dir: dir, Service: "web", Size: 4000, Keep: 1 << 30}
	if s := os.Getenv(keepEnv); s != "" {
		fmt.Sscan(s, &o.Keep, &o.Compress)
	}
	return o
}

// killedMain writes 25 lines into files of ten and kills itself at a file call.
func killedMain(dir, at string) {
	o := childOptions(dir)
	fs := newFaultFS(0, 1)
	fs.kill = true
	fs.from, _ = strconv.Atoi(at)
	o.FS, o.Size, o.Now = fs, 700, options(dir).Now
	d, err := Open(o)
	for next := d.State().Next; err == nil && next < 26; fmt.Println(next) {
		next, err = d.Append([]byte(lines(next, next+4)), next, next+4, 0)
	}
	waitPacked(d)
	if err == nil {
		err = d.Close()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(0)
}

// No test that runs a child is parallel: between fork and exec it holds the
// locks of all logdirs that are open here.

// TestKillAtEveryCall has a child that kills itself at each call to the file
// system in turn: while it opens a logdir that was killed before, rotates
// twice, compresses, fsyncs and closes. Nothing it has told of is lost, of the
// batch in between whole lines are there or not, and no file is torn.
func TestKillAtEveryCall(t *testing.T) {
	for _, keep := range []string{"1000 0", "1000 1", "2 2"} {
		t.Run(keep, func(t *testing.T) {
			calls := 1
			for killAt(t, keep, calls) {
				calls++
			}
			if calls < 30 {
				t.Errorf("only %d calls", calls)
			}
		})
	}
}

func killAt(t *testing.T, keep string, call int) (killed bool) {
	t.Helper()
	dir := t.TempDir()
	o := options(dir)
	d := mustOpen(t, o)
	mustAppend(t, d, lines(1, 6), 1, 6, 0)
	crash(d)
	told := max(runChild(t, dir, nil, keepEnv+"="+keep, killAtEnv+"="+strconv.Itoa(call)), 6)
	fmt.Sscan(keep, &o.Keep, &o.Compress)
	d = mustOpen(t, o)
	waitPacked(d)
	s := d.State()
	if s.Next < told || s.Next > told+4 || s.Missing > 0 {
		t.Errorf("opened as %+v, but lines to %d had been written", s, told-1)
	}
	mustClose(t, d)
	oldest := uint64(1)
	if o.Keep < 1000 {
		oldest = retained(t, dir)[0]
	}
	checkFiles(t, dir, lines(oldest, s.Next))
	checkFindings(t, "afterwards", dir, nil)
	if t.Failed() {
		t.Fatalf("killed at call %d", call)
	}
	return !s.Clean
}

// TestKillAtRandom kills children at 300 random moments; 30 if each is slow.
func TestKillAtRandom(t *testing.T) {
	if testing.Short() {
		t.Skip("hundreds of kills")
	}
	kills := 150
	if raced {
		kills = 15
	}
	for i, keep := range []string{"20 1", "20 2"} {
		dir := t.TempDir()
		rnd := rand.New(rand.NewPCG(uint64(i), 7))
		for range kills {
			batches := rnd.IntN(40)
			told := runChild(t, dir, &batches, keepEnv+"="+keep)
			o := childOptions(dir)
			fmt.Sscan(keep, &o.Keep, &o.Compress)
			d := mustOpen(t, o)
			next := d.State().Next
			if next < told {
				t.Errorf("next number %d, but lines to %d had been written", next, told-1)
			}
			waitPacked(d)
			crash(d)
			checkFiles(t, dir, lines(retained(t, dir)[0], next))
		}
	}
}

// TestKill kills a writing process again and again. Every line it has told
// of is there, the rest is a continuation of them, and the lock is free.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	for i := range 10 {
		batches := 5 + 37*i
		told := runChild(t, dir, &batches)
		d := mustOpen(t, options(dir))
		next := d.State().Next
		if next < told {
			t.Errorf("next number %d, but lines to %d had been written", next, told-1)
		}
		if d.State().Clean {
			t.Error("a killed process has closed cleanly")
		}
		crash(d)
		checkFiles(t, dir, lines(1, next))
	}
}

// runChild runs a child and returns the last number it told. If batches is not
// nil, the child is killed after it has told of so many.
func runChild(t *testing.T, dir string, batches *int, env ...string) (told uint64) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(append(os.Environ(), childEnv+"="+dir), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for s := bufio.NewScanner(out); s.Scan(); {
		if told, err = strconv.ParseUint(s.Text(), 10, 64); err != nil {
			t.Error(err)
		}
		if batches == nil {
			continue
		}
		if *batches == 0 {
			cmd.Process.Kill()
		}
		*batches--
	}
	cmd.Wait()
	return told
}
