package fs

import (
	"bytes"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// raw answers what go-fuse's ProtocolServer hands on. None of its methods
// blocks. Attributes and names are valid for no time at all: sizes and times
// change with every line, and every lookup of a file is to find a fresh node.
type raw struct {
	fuse.RawFileSystem // answers ENOSYS
	s                  *Server
}

func (r *raw) lookupRoot(name string, out *fuse.EntryOut) fuse.Status {
	switch name {
	case statusName:
		return r.lookupText(r.s.text(statusIno), out)
	case ignoreName:
		return r.lookupText(r.s.text(ignoreIno), out)
	}
	e := r.s.tree.entry(name)
	if name == allName {
		e = r.s.all
	}
	if e == nil {
		return noEntry
	}
	return r.lookupDir(caller{}, directory{e: e}, out)
}

// text is the content that the file has now.
func (s *Server) text(ino uint64) *text {
	if ino == ignoreIno {
		return &text{ino: ino, data: []byte(ignoreText), changed: s.born}
	}
	var b bytes.Buffer
	s.opts.Status(&b)
	return &text{ino: ino, data: b.Bytes(), changed: s.changed()}
}

func (r *raw) lookupText(x *text, out *fuse.EntryOut) fuse.Status {
	r.s.tree.addText(x)
	out.NodeId = x.id
	r.textAttr(x, &out.Attr)
	return fuse.OK
}

// Forget takes lookups off a node.
func (r *raw) Forget(id, lookups uint64) { r.s.tree.forget(id, lookups) }

// GetAttr tells size and time of a node as they are now. With a handle it is
// SEEK_END that asks, for the end as that handle sees it.
func (r *raw) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	if d, ok := r.s.tree.dir(in.NodeId); ok {
		return r.dirAttr(caller{cancel, in.Pid}, d, &out.Attr)
	}
	n, x := r.s.tree.node(in.NodeId)
	switch {
	case x != nil:
		r.textAttr(x, &out.Attr)
	case n == nil:
		return stale
	default:
		size := n.size()
		if h, ok := r.s.tree.handle(in.Fh()).(*handle); ok && in.Flags()&fuse.FUSE_GETATTR_FH != 0 {
			size = h.seekToEnd(size, in.Pid)
		}
		r.fileAttr(n, size, &out.Attr)
	}
	return fuse.OK
}

// Open makes a handle. The files are read directly, never through the page
// cache, which would show old sizes; without flush, so that a reader that is
// killed does not wait for us.
func (r *raw) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_DIRECT_IO | fuse.FOPEN_NOFLUSH
	r.s.openedBefore(in.Unique)
	n, x := r.s.tree.node(in.NodeId)
	switch {
	case in.Flags&syscall.O_ACCMODE != syscall.O_RDONLY:
		return r.openWriter(n, in, out)
	case x != nil:
		out.Fh = r.s.tree.addHandle(x, in.Unique)
	case n == nil:
		return stale
	default:
		return r.openNode(n, in, out)
	}
	return fuse.OK
}

// openNode makes a handle of current, follow or seq. Who reads a follow too many
// is told what open(2) tells of limits: of his own EMFILE, of all together ENFILE.
func (r *raw) openNode(n *node, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	var at seat
	if n.kind == follow {
		var st fuse.Status
		if at, st = r.s.seat(n.e, in.Uid); st != fuse.OK {
			return st
		}
	}
	if n.order != nil && r.s.mayReadAll(in.Uid) {
		n.order.openToAll()
	}
	h := newHandle(n)
	h.seat = at
	out.Fh = r.s.tree.addHandle(h, in.Unique)
	return fuse.OK
}

// Release drops a handle.
func (r *raw) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	r.s.writers.drop(in.Fh)
	if h, ok := r.s.tree.dropHandle(in.Fh).(*handle); ok {
		h.close()
	}
}

// Read reads status and .ignore; follow.go has the other files.
func (r *raw) Read(_ <-chan struct{}, in *fuse.ReadIn, dst []byte) (fuse.ReadResult, fuse.Status) {
	off := int64(in.Offset)
	if off < 0 {
		return nil, fuse.EINVAL
	}
	x, ok := r.s.tree.handle(in.Fh).(*text)
	if !ok {
		return r.s.readLeft()
	}
	n := copy(dst, x.data[min(off, int64(len(x.data))):])
	return fuse.ReadResultData(dst[:n]), fuse.OK
}

// Lseek answers SEEK_DATA and SEEK_HOLE: there are no holes.
func (r *raw) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	var attr fuse.AttrOut
	get := fuse.GetAttrIn{InHeader: in.InHeader}
	if st := r.GetAttr(nil, &get, &attr); st != fuse.OK {
		return st
	}
	const seekData = 3
	if in.Offset >= attr.Size {
		return noSuchOffset
	}
	out.Offset = attr.Size
	if in.Whence == seekData {
		out.Offset = in.Offset
	}
	return fuse.OK
}

// OpenDir takes the names as they are now.
func (r *raw) OpenDir(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	d, ok := r.s.tree.dir(in.NodeId)
	if !ok {
		return stale
	}
	l, st := r.list(caller{cancel, in.Pid}, d)
	if st == fuse.OK {
		out.Fh = r.s.tree.addHandle(l, in.Unique)
	}
	return st
}

// ReadDir lists from the offset on: the index of the next name.
func (r *raw) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	l, ok := r.s.tree.handle(in.Fh).(listing)
	if !ok {
		if l, ok = r.listAnew(caller{cancel, in.Pid}, in.NodeId, in.Fh); !ok {
			return fuse.EBADF
		}
	}
	for i := in.Offset; i < uint64(len(l)); i++ {
		e := l[i]
		e.Off = i + 1
		if !out.AddDirEntry(e) {
			break
		}
	}
	return fuse.OK
}

// ReleaseDir drops a listing.
func (r *raw) ReleaseDir(in *fuse.ReleaseIn) { r.s.tree.dropHandle(in.Fh) }

// StatFs tells the longest name.
func (r *raw) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	out.NameLen, out.Bsize, out.Frsize = 255, blockSize, blockSize
	return fuse.OK
}

func (r *raw) String() string { return "logfs" }
