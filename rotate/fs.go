package rotate

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// FS is the seam between a logdir and the file system: the few calls it
// makes, so that a test can fail each of them.
type FS interface {
	// OpenDir opens the directory at path, made with mode 0750 if missing. A
	// symbolic link is refused.
	OpenDir(path string) (Dir, error)
}

// Dir is an open directory. Names are names in it, never paths, and symbolic
// links are not followed. Errors are bare: the caller knows the name.
type Dir interface {
	Open(name string, flags int, mode uint32) (File, error)
	Stat(name string) (Info, error)
	Names() ([]string, error)
	// Link gives a file a second name. It never overwrites: an error that is
	// fs.ErrExist says that the name is taken.
	Link(name, second string) error
	// Rename replaces a file of the new name, if there is one.
	Rename(from, to string) error
	Remove(name string) error
	Sync() error
	// Here returns nil if the path that OpenDir was called with still leads to
	// the directory.
	Here() error
	Close() error
}

// File is an open file. Close may be called while another call runs.
type File interface {
	io.Writer
	io.ReaderAt
	Stat() (Info, error)
	// Gone says that the file has no name any more, in no directory.
	Gone() bool
	Truncate(size int64) error
	Chmod(mode uint32) error
	// Lock locks the file until it is closed, or returns ErrLocked at once.
	Lock() error
	Sync() error
	Close() error
}

// Info is what a logdir wants to know of a file.
type Info struct {
	Mode     uint32 // permission bits
	Regular  bool
	Size     int64
	Dev, Ino uint64
	Links    uint64 // names it has, wherever; 0 if that is not known
}

// sameFile says whether both are names of one file.
func (i Info) sameFile(j Info) bool { return i.Dev == j.Dev && i.Ino == j.Ino }

const (
	dirMode   = 0o750
	fileMode  = 0o640
	cleanBit  = 0o100
	cleanMode = fileMode | cleanBit
)

// osFS is the file system of the machine.
type osFS struct{}

func (osFS) OpenDir(path string) (Dir, error) {
	d, err := openDir(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return d, err
	}
	parent := filepath.Dir(path)
	if err := os.MkdirAll(parent, dirMode); err != nil {
		return nil, bare(err)
	}
	if err := os.Mkdir(path, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, bare(err)
	}
	if d, err = openDir(path); err != nil {
		return nil, err
	}
	if err := settleDir(d.(osDir), parent); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func openDir(path string) (Dir, error) {
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	return osDir{os.NewFile(uintptr(fd), path)}, nil
}

// settleDir gives a directory just made its mode, whatever the umask, and
// writes its name to disk.
func settleDir(d osDir, parent string) error {
	if err := d.f.Chmod(dirMode); err != nil {
		return bare(err)
	}
	p, err := os.Open(parent)
	if err != nil {
		return bare(err)
	}
	defer p.Close()
	return osDir{p}.Sync()
}

type osDir struct{ f *os.File }

// at runs call with the descriptor, which stays open for as long as it runs
// even if the directory is closed meanwhile.
func (d osDir) at(call func(fd int) error) error {
	conn, err := d.f.SyscallConn()
	if err != nil {
		return bare(err)
	}
	var callErr error
	err = conn.Control(func(fd uintptr) {
		callErr = retry(func() error { return call(int(fd)) })
	})
	if err != nil {
		return bare(err)
	}
	return callErr
}

func (d osDir) Open(name string, flags int, mode uint32) (File, error) {
	var fd int
	err := d.at(func(dir int) (err error) {
		fd, err = unix.Openat(dir, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
		return err
	})
	if err != nil {
		return nil, err
	}
	return osFile{os.NewFile(uintptr(fd), name)}, nil
}

func (d osDir) Stat(name string) (Info, error) {
	var st unix.Stat_t
	err := d.at(func(dir int) error {
		return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	})
	return info(&st), err
}

func (d osDir) Names() ([]string, error) {
	if _, err := d.f.Seek(0, io.SeekStart); err != nil {
		return nil, bare(err)
	}
	names, err := d.f.Readdirnames(-1)
	return names, bare(err)
}

func (d osDir) Link(name, second string) error {
	return d.at(func(dir int) error { return unix.Linkat(dir, name, dir, second, 0) })
}

func (d osDir) Rename(from, to string) error {
	return d.at(func(dir int) error { return unix.Renameat(dir, from, dir, to) })
}

func (d osDir) Remove(name string) error {
	return d.at(func(dir int) error { return unix.Unlinkat(dir, name, 0) })
}

// Sync writes the names to disk. A file system that cannot do that for
// directories does it on its own, or not at all: there is nothing to report.
func (d osDir) Sync() error {
	err := d.f.Sync()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	return bare(err)
}

// What may be at the path of a directory in its place.
var (
	errReplaced = errors.New("another directory is there")
	errLink     = errors.New("a symbolic link is there, which is not followed")
)

func (d osDir) Here() error {
	var there, here unix.Stat_t
	err := retry(func() error { return unix.Lstat(d.f.Name(), &there) })
	if err == nil && there.Mode&unix.S_IFMT == unix.S_IFLNK {
		err = errLink
	}
	if err == nil {
		err = d.at(func(fd int) error { return unix.Fstat(fd, &here) })
	}
	if err == nil && !info(&here).sameFile(info(&there)) {
		err = errReplaced
	}
	return err
}

func (d osDir) Close() error { return bare(d.f.Close()) }

// osFile takes the descriptor's life time from os.File: a Close during
// another call takes effect after it.
type osFile struct{ *os.File }

func (f osFile) Write(b []byte) (int, error) {
	n, err := f.File.Write(b)
	return n, bare(err)
}

func (f osFile) Stat() (Info, error) {
	var st unix.Stat_t
	err := retry(func() error { return unix.Fstat(int(f.File.Fd()), &st) })
	return info(&st), err
}

func (f osFile) Gone() bool {
	var st unix.Stat_t
	err := osDir{f.File}.at(func(fd int) error { return unix.Fstat(fd, &st) })
	return err == nil && st.Nlink == 0
}

func (f osFile) ReadAt(b []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(b, off)
	return n, bare(err)
}

func (f osFile) Truncate(size int64) error { return bare(f.File.Truncate(size)) }
func (f osFile) Sync() error               { return bare(f.File.Sync()) }
func (f osFile) Close() error              { return bare(f.File.Close()) }

func (f osFile) Chmod(mode uint32) error {
	return bare(f.File.Chmod(fs.FileMode(mode)))
}

func info(st *unix.Stat_t) Info {
	return Info{
		Mode:    st.Mode & 0o7777,
		Regular: st.Mode&unix.S_IFMT == unix.S_IFREG,
		Size:    st.Size,
		Dev:     st.Dev,
		Ino:     st.Ino,
		Links:   uint64(st.Nlink),
	}
}

// bare takes the operation and name off an error of package os.
func bare(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
