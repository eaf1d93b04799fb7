package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A machine is what the figures are of, and what else it did meanwhile.
type machine struct {
	kernel, disk   string
	cores          int
	mib            int64
	began          time.Time
	worked, stolen float64 // seconds of its processors before the run
	others, taken  float64 // shares of them during the run: other processes, other machines
}

func newMachine(dir string) *machine {
	m := &machine{cores: runtime.NumCPU(), disk: fileSystem(dir), began: time.Now()}
	var u unix.Utsname
	if err := unix.Uname(&u); err == nil {
		m.kernel = strings.Join(strings.SplitN(unix.ByteSliceToString(u.Release[:]), ".", 3)[:2], ".")
	}
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		kib, _ := field(text, "MemTotal") // 0 says that it is not known
		m.mib = kib >> 10
	}
	m.worked, m.stolen = m.now()
	return m
}

func (m *machine) now() (worked, stolen float64) {
	text, _ := os.ReadFile("/proc/stat")
	worked, stolen, _ = busy(text) // 0 on a machine that does not say
	return worked, stolen
}

// end notes how much of the work since the beginning was not that of this run: the
// threads of the kernel that write files back are among the others.
func (m *machine) end() {
	worked, stolen := m.now()
	var own float64
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var r syscall.Rusage
		if syscall.Getrusage(who, &r) == nil {
			own += time.Duration(r.Utime.Nano() + r.Stime.Nano()).Seconds()
		}
	}
	whole := time.Since(m.began).Seconds() * float64(m.cores)
	m.others, m.taken = max(worked-m.worked-own, 0)/whole, (stolen-m.stolen)/whole
}

func (m *machine) String() string {
	return fmt.Sprintf("%d cores, %d MiB, Linux %s, files on %s, %s; other processes and the kernel's own threads used %.0f%% of it meanwhile, and %.0f%% was stolen by other machines.",
		m.cores, m.mib, m.kernel, m.disk, runtime.Version(), 100*m.others, 100*m.taken)
}

func fileSystem(dir string) string {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "an unknown file system"
	}
	names := map[int64]string{
		unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs",
		unix.TMPFS_MAGIC: "tmpfs", unix.OVERLAYFS_SUPER_MAGIC: "overlay",
	}
	if name, ok := names[int64(st.Type)]; ok {
		return name
	}
	return fmt.Sprintf("a file system of type %#x", st.Type)
}
