package daemon

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"logfs/cmd/logfs/internal/config"
	"logfs/cmd/logfs/internal/exit"
)

// checkPlaces looks whether mount, store, socket and the files of the
// configuration can be where they are. It changes nothing.
func checkPlaces(c config.Config, mayMakeMount bool) error {
	if err := checkPaths(c, resolve); err != nil {
		return err
	}
	return checkMountPoint(c.Mount, mayMakeMount)
}

// checkPaths is checkPlaces without a look at the mount point, but for what
// resolve does.
func checkPaths(c config.Config, resolveMount func(string) string) error {
	resolved := c
	resolved.Mount, resolved.Store = resolveMount(c.Mount), resolve(c.Store)
	if c.Socket != "" {
		resolved.Socket = resolve(c.Socket)
	} else {
		resolved.Socket = filepath.Join(resolved.Store, lockName)
	}
	resolved = resolved.ResolveInputs(resolve)
	for _, paths := range []config.Config{c, resolved} {
		if paths.Socket == "" {
			continue
		}
		if err := paths.CheckPaths(); err != nil {
			return exit.With(exit.Misuse, err)
		}
	}
	for _, file := range c.Files {
		if within(resolve(file), resolved.Mount) {
			return exit.Misusef("configuration %q is inside the mount point %q: want it outside", file, c.Mount)
		}
	}
	return nil
}

func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// resolve follows the symbolic links of path as far as it exists. The last
// component may be a dead mount, which cannot be looked at.
func resolve(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	dir, name := filepath.Split(filepath.Clean(path))
	if dir == path || name == "" {
		return path
	}
	return filepath.Join(resolve(filepath.Clean(dir)), name)
}

// beside is resolve without a look at the last component.
func beside(path string) string {
	dir, name := filepath.Split(filepath.Clean(path))
	return filepath.Join(resolve(filepath.Clean(dir)), name)
}

// checkMountPoint accepts an empty directory, what a killed daemon left of its
// mount, and a missing one that may be made.
func checkMountPoint(dir string, mayMake bool) error {
	fi, err := os.Stat(dir)
	switch {
	case errors.Is(err, unix.ENOTCONN):
		return nil
	case errors.Is(err, os.ErrNotExist) && mayMake:
		return nil
	case errors.Is(err, os.ErrNotExist):
		return exit.Misusef("mount point %q does not exist: want an empty directory", dir)
	case err != nil:
		return exit.Refusedf("cannot look at the mount point: %w", err)
	case !fi.IsDir():
		return exit.Misusef("mount point %q is no directory: want an empty directory", dir)
	case mounted(dir):
		return exit.Refusedf("mount point %q is in use: a file system is mounted there", dir)
	}
	return checkEmpty(dir)
}

func checkEmpty(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return exit.Refusedf("cannot look into the mount point: %w", err)
	}
	defer f.Close()
	switch names, err := f.Readdirnames(1); {
	case err != nil && err != io.EOF:
		return exit.Refusedf("cannot look into the mount point: %w", err)
	case len(names) > 0:
		return exit.Misusef("mount point %q is not empty: want an empty directory", dir)
	}
	return nil
}

// mounted says whether dir is where a FUSE file system begins. Another kind of
// file system, if it is empty, is as good a mount point as a directory.
func mounted(dir string) bool {
	const fuseMagic = 0x65735546
	var fs unix.Statfs_t
	if unix.Statfs(dir, &fs) != nil || fs.Type != fuseMagic {
		return false
	}
	var here, above unix.Stat_t
	return unix.Stat(dir, &here) == nil && unix.Stat(dir+"/..", &above) == nil && here.Dev != above.Dev
}

// lockName is in the store, where no service can have it: names of services
// begin with a letter or digit.
const lockName = ".lock"

// checkLock says who owns the store, if somebody does. It changes nothing.
func checkLock(store string) error {
	f, err := os.OpenFile(filepath.Join(store, lockName), os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil // nobody has made it, or lockStore will say why not
	}
	defer f.Close()
	return flock(f, store)
}

// lockStore makes this process the only daemon of the store, until the file
// returned is closed.
func lockStore(store string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(store, lockName), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o640)
	if err != nil {
		return nil, exit.Refusedf("cannot lock the store: %w", err)
	}
	if err := errors.Join(plainFile(f), flock(f, store)); err != nil {
		f.Close()
		return nil, err
	}
	// For those who find the store locked; the lock itself is flock's.
	err = errors.Join(f.Truncate(0), writeAt(f, fmt.Sprintf("%d\n", os.Getpid())))
	if err != nil {
		f.Close()
		return nil, exit.Refusedf("cannot write the lock of the store: %w", err)
	}
	return f, nil
}

// plainFile refuses a lock that is something else, too: its content is replaced.
func plainFile(f *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return exit.Refusedf("cannot look at the lock of the store: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink > 1 {
		return exit.Refusedf("cannot lock the store: %q is not a plain file with one name", f.Name())
	}
	return nil
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

func flock(f *os.File, store string) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return nil
	}
	if err != unix.EWOULDBLOCK {
		return exit.Refusedf("cannot lock the store %q: %w", store, err)
	}
	buf := make([]byte, 20)
	n, _ := f.ReadAt(buf, 0)
	owner := strings.TrimSpace(string(buf[:n]))
	if owner == "" {
		return exit.Refusedf("store %q is in use by another daemon", store)
	}
	pid, err := strconv.Atoi(owner)
	if err == nil && unix.Kill(pid, 0) == unix.ESRCH && againLocked(func() bool {
		return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
	}) {
		return nil
	}
	return exit.Refusedf("store %q is in use by another daemon: pid %s", store, owner)
}

// lockPatience is how long the locks of a killed daemon are waited for: a command
// that it was about to start has them too, until it is one.
const lockPatience = time.Second

// awaitLock waits until nobody has the lock of a store, or patience ends.
func awaitLock(store string, patience time.Duration) {
	f, err := os.OpenFile(filepath.Join(store, lockName), os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return
	}
	defer f.Close()
	for began := time.Now(); time.Since(began) < patience; time.Sleep(2 * time.Millisecond) {
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			return
		}
	}
}

// againLocked tries a lock until it is taken, or patience ends.
func againLocked(try func() bool) bool {
	for began := time.Now(); time.Since(began) < lockPatience; time.Sleep(10 * time.Millisecond) {
		if try() {
			return true
		}
	}
	return false
}
