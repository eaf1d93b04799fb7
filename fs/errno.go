package fs

import (
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
	tooManyHis   = fuse.Status(syscall.EMFILE)
	tooManyInAll = fuse.Status(syscall.ENFILE)
)

// The tree cannot be changed through the mount: root, whom permissions do not
// stop, is refused here.

// SetAttr refuses chmod, chown, truncate and touch.
func (r *raw) SetAttr(<-chan struct{}, *fuse.SetAttrIn, *fuse.AttrOut) fuse.Status { return refused }

// Mknod refuses.
func (r *raw) Mknod(<-chan struct{}, *fuse.MknodIn, string, *fuse.EntryOut) fuse.Status {
	return refused
}

// Mkdir refuses.
func (r *raw) Mkdir(<-chan struct{}, *fuse.MkdirIn, string, *fuse.EntryOut) fuse.Status {
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

// Rmdir refuses.
func (r *raw) Rmdir(<-chan struct{}, *fuse.InHeader, string) fuse.Status { return refused }

// Rename refuses.
func (r *raw) Rename(<-chan struct{}, *fuse.RenameIn, string, string) fuse.Status { return refused }
