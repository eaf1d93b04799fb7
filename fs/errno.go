package fs

import (
	"errors"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// What the tree answers, where go-fuse has no name for it.
const (
	noEntry      = fuse.Status(syscall.ENOENT)
	stale        = fuse.Status(syscall.ESTALE)
	noSuchOffset = fuse.Status(syscall.ENXIO)
	refused      = fuse.EPERM
	again        = fuse.Status(syscall.EAGAIN)
	interrupted  = fuse.Status(syscall.EINTR)
	notConnected = fuse.Status(syscall.ENOTCONN)
	tooManyHis   = fuse.Status(syscall.EMFILE)
	tooManyInAll = fuse.Status(syscall.ENFILE)
)

// statusOf is what the kernel is told of an error of those whom the tree asks:
// the errno in it.
func statusOf(err error) fuse.Status {
	if err == nil {
		return fuse.OK
	}
	if errno := syscall.Errno(0); errors.As(err, &errno) && errno != 0 {
		return fuse.Status(errno)
	}
	return fuse.EIO
}

// What is not in verbs.go cannot be changed through the mount: root, whom
// permissions do not stop, is refused here.

// Mknod refuses.
func (r *raw) Mknod(<-chan struct{}, *fuse.MknodIn, string, *fuse.EntryOut) fuse.Status {
	return refused
}

// Create refuses.
func (r *raw) Create(<-chan struct{}, *fuse.CreateIn, string, *fuse.CreateOut) fuse.Status {
	return refused
}

// Symlink refuses.
func (r *raw) Symlink(<-chan struct{}, *fuse.InHeader, string, string, *fuse.EntryOut) fuse.Status {
	return refused
}

// Link refuses.
func (r *raw) Link(<-chan struct{}, *fuse.LinkIn, string, *fuse.EntryOut) fuse.Status {
	return refused
}

// Unlink refuses: a line that was said cannot be unsaid.
func (r *raw) Unlink(<-chan struct{}, *fuse.InHeader, string) fuse.Status { return refused }

// Rename refuses.
func (r *raw) Rename(<-chan struct{}, *fuse.RenameIn, string, string) fuse.Status { return refused }
