package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"
)

// logfsBin is the binary under test, built once by TestMain.
var logfsBin string

var raceBuild = os.Getenv("LOGFS_TEST_RACE") == "1"

func TestMain(m *testing.M) {
	if helper, ok := helpers[os.Getenv("LOGFS_TEST_HELPER")]; ok {
		os.Exit(helper(os.Args[1:]))
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "logfs-bin")
	if err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	logfsBin = filepath.Join(dir, "logfs")
	if err := build(logfsBin); err != nil {
		fmt.Fprintln(os.Stderr, "integration: cannot build the binary under test:", err)
		return 1
	}
	status := m.Run()
	if n := leftOver(); n != "" {
		fmt.Println("integration: mounts left behind:", n)
		status = 1
	}
	fmt.Println(cases.String())
	return status
}

func build(out string) error {
	args := []string{"build", "-o", out}
	if raceBuild {
		args = append(args, "-race")
	}
	if cover := os.Getenv("LOGFS_TEST_COVER"); cover != "" {
		args = append(args, "-cover")
		os.Setenv("GOCOVERDIR", cover)
	}
	cmd := exec.Command("go", append(args, "../cmd/logfs")...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return cmd.Run()
}

// leftOver names the mounts that daemons of this run left.
func leftOver() string {
	info, _ := os.ReadFile("/proc/self/mountinfo")
	var left []string
	for line := range strings.Lines(string(info)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], testRoot()) {
			left = append(left, f[4])
		}
	}
	return strings.Join(left, " ")
}

// testRoot is the beginning of every directory the daemons of this run use.
func testRoot() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("logfs-it-%d-", os.Getpid()))
}

// cases counts the client cases for the closing line.
var cases tally

type tally struct {
	mu      sync.Mutex
	ran     int
	skipped map[string]int // reason -> cases
}

func (c *tally) add(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if reason == "" {
		c.ran++
		return
	}
	if c.skipped == nil {
		c.skipped = map[string]int{}
	}
	c.skipped[reason]++
}

func (c *tally) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var why []string
	total := 0
	for reason, n := range c.skipped {
		total += n
		why = append(why, fmt.Sprintf("%s (%d)", reason, n))
	}
	sort.Strings(why)
	line := fmt.Sprintf("client cases: %d ran, %d skipped", c.ran, total)
	if total > 0 {
		line += " (" + strings.Join(why, ", ") + ")"
	}
	return line
}

// needTools skips the test when a tool is missing, loudly, and fails it where
// the environment promises all tools.
func needTools(t testing.TB, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if lookTool(tool) != "" {
			continue
		}
		if os.Getenv("LOGFS_REQUIRE_TOOLS") == "1" {
			t.Fatalf("%s is not installed and LOGFS_REQUIRE_TOOLS=1", tool)
		}
		t.Skipf("SKIPPED: %s is not installed", tool)
	}
}

// lookTool finds a tool in the system's own directories first: a version
// manager's wrapper in PATH would be the process that the test signals.
func lookTool(name string) string {
	for _, dir := range []string{"/usr/bin", "/bin", "/usr/sbin", "/sbin"} {
		path := filepath.Join(dir, name)
		if fi, err := os.Stat(path); err == nil && fi.Mode()&0o111 != 0 && !fi.IsDir() {
			return path
		}
	}
	path, _ := exec.LookPath(name)
	return path
}

// needFUSE skips on a machine that cannot mount at all. Where it can, a test
// that needs the mount never skips.
func needFUSE(t testing.TB) {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("SKIPPED: no /dev/fuse")
	}
	if os.Geteuid() != 0 && lookTool("fusermount3") == "" {
		t.Skip("SKIPPED: not root and no fusermount3")
	}
}
