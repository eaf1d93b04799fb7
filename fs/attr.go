package fs

import (
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

const (
	statusName = "status"
	ignoreName = ".ignore"
	// ignoreText keeps rg, fd and ag out of files that never end, and out of the
	// past, which has all lines once more. Who names a directory there is let in.
	ignoreText = "follow\n/all/\n/*/run/\n/*/since/\n"
	blockSize  = 4096
	// smallBlock is the block size of a short follow: GNU tail -c does not
	// believe the size of a file of one block, and reads to its end first.
	smallBlock = 512
)

// dirAttr fills in what stat says of a directory. Its time is that of the
// last line in it, so that ls -lt shows who spoke last.
func (r *raw) dirAttr(by caller, d directory, a *fuse.Attr) fuse.Status {
	a.Mode, a.Nlink, a.Blksize = syscall.S_IFDIR|0o755, 2, blockSize
	if d.e == nil {
		a.Ino = rootID
		a.Owner = r.s.owner
		setTime(a, r.s.changed())
		return fuse.OK
	}
	a.Ino = d.e.dirIno(&d.place)
	l := d.e.looks()
	a.Mode = syscall.S_IFDIR | l.Mode&0o777
	a.Owner = fuse.Owner{Uid: l.Uid, Gid: l.Gid}
	setTime(a, d.e.changed())
	if d.kind == dirFiles && d.run > 0 {
		return r.runAttr(by, d, a)
	}
	return fuse.OK
}

// writable says whether n takes what is written: the present does.
func (n *node) writable() bool { return n.kind == current && n.span == nil && n.e.Sink != nil }

// fileAttr fills in what stat says of current, follow and seq. Whoever may
// read the directory may read them, and whoever may write it may write current.
func (r *raw) fileAttr(n *node, size int64, a *fuse.Attr) {
	a.Ino = n.ino
	l, may := n.e.looks(), uint32(0o444)
	if n.writable() {
		may = 0o666
	}
	a.Mode, a.Nlink, a.Blksize = syscall.S_IFREG|l.Mode&may, 1, blockSize
	a.Owner = fuse.Owner{Uid: l.Uid, Gid: l.Gid}
	if n.kind == follow && size <= blockSize {
		a.Blksize = smallBlock
	}
	setSize(a, size)
	setTime(a, n.e.changed())
}

func (r *raw) textAttr(x *text, a *fuse.Attr) {
	a.Ino = x.ino
	a.Mode, a.Nlink, a.Blksize = syscall.S_IFREG|0o444, 1, blockSize
	a.Owner = r.s.owner
	if x.link {
		a.Mode = syscall.S_IFLNK | 0o777
	}
	setSize(a, int64(len(x.data)))
	setTime(a, x.changed)
}

func setSize(a *fuse.Attr, size int64) {
	a.Size, a.Blocks = uint64(size), uint64(size+511)/512
}

func setTime(a *fuse.Attr, t time.Time) {
	a.SetTimes(&t, &t, &t)
}
