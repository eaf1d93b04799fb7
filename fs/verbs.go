package fs

import (
	"syscall"
	"time"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Access is a change of a service's owner, group and permissions. What is nil
// stays.
type Access struct{ Uid, Gid, Mode *uint32 }

// mayWait says which requests are answered by those whom the tree asks, who may
// have to wait for a disk.
func (s *Server) mayWait(hdr *fuse.InHeader, in []byte) bool {
	switch hdr.Opcode {
	case opSetAttr, opMkdir, opRmdir, opFsync:
		return true
	case opLookup, opGetAttr, opOpenDir:
		return s.asksOf(hdr.NodeId)
	case opOpen:
		if len(in) < int(unsafe.Sizeof(fuse.OpenIn{})) {
			return false
		}
		return (*fuse.OpenIn)(unsafe.Pointer(&in[0])).Flags&syscall.O_ACCMODE != syscall.O_RDONLY
	case opRelease:
		if len(in) < int(unsafe.Sizeof(fuse.ReleaseIn{})) {
			return false
		}
		return s.writers.find((*fuse.ReleaseIn)(unsafe.Pointer(&in[0])).Fh) != nil
	}
	return false
}

// verbPatience is how long a change of the tree may take. The kernel lets nobody
// look a name up in a directory that is being changed.
const verbPatience = 2 * time.Second

// await returns when do does. Who is interrupted, or has waited for as long as
// patience, leaves it to itself.
func await(cancel <-chan struct{}, patience time.Duration, do func() error) fuse.Status {
	done := make(chan error, 1)
	go func() { done <- do() }()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case err := <-done:
		return statusOf(err)
	case <-late.C:
		return fuse.Status(syscall.ETIMEDOUT)
	case <-cancel:
		return interrupted
	}
}

// Mkdir adds a service.
func (r *raw) Mkdir(cancel <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	if in.NodeId != rootID || r.s.opts.Make == nil {
		return refused
	}
	if st := await(cancel, verbPatience, func() error { return r.s.opts.Make(name, in.Mode&0o777) }); st != fuse.OK {
		return st
	}
	return r.lookupRoot(name, out)
}

// Rmdir removes a service.
func (r *raw) Rmdir(cancel <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	if in.NodeId != rootID || name == allName || r.s.opts.Remove == nil {
		return refused
	}
	return await(cancel, verbPatience, func() error { return r.s.opts.Remove(name) })
}

// Fsync brings to stable storage what was written through a file.
func (r *raw) Fsync(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	n, _ := r.s.tree.node(in.NodeId)
	if n == nil || r.s.writers.find(in.Fh) == nil {
		return fuse.OK
	}
	return await(cancel, diskPatience, n.e.Sink.Sync)
}

// diskPatience is for who waits for the disk and holds up nobody.
const diskPatience = time.Minute

const (
	setOwner = fuse.FATTR_MODE | fuse.FATTR_UID | fuse.FATTR_GID
	setTimes = fuse.FATTR_ATIME | fuse.FATTR_MTIME | fuse.FATTR_CTIME | fuse.FATTR_ATIME_NOW | fuse.FATTR_MTIME_NOW
)

// SetAttr is chmod and chown of a service's directory, and truncation of its
// current. Touching current is well, and changes nothing: many a script does so
// before it writes.
func (r *raw) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	var st fuse.Status
	if d, ok := r.s.tree.dir(in.NodeId); ok {
		st = r.setAccess(cancel, d, in)
	} else {
		st = r.truncate(cancel, in)
	}
	if st != fuse.OK {
		return st
	}
	return r.GetAttr(nil, &fuse.GetAttrIn{InHeader: in.InHeader}, out)
}

func (r *raw) setAccess(cancel <-chan struct{}, d directory, in *fuse.SetAttrIn) fuse.Status {
	if d.e == nil || d.path != "" || d.e.Sink == nil || in.Valid&setOwner == 0 || in.Valid&setTimes&^fuse.FATTR_CTIME != 0 {
		return refused
	}
	var a Access
	if in.Valid&fuse.FATTR_MODE != 0 {
		mode := in.Mode & 0o7777
		if mode > 0o777 {
			return fuse.EINVAL
		}
		a.Mode = &mode
	}
	if uid := in.Uid; in.Valid&fuse.FATTR_UID != 0 {
		a.Uid = &uid
	}
	if gid := in.Gid; in.Valid&fuse.FATTR_GID != 0 {
		a.Gid = &gid
	}
	return await(cancel, verbPatience, func() error { return d.e.Sink.SetAccess(a) })
}

// truncate has what is in current, or rather its file on disk, become an
// archive. Nothing is destroyed.
func (r *raw) truncate(cancel <-chan struct{}, in *fuse.SetAttrIn) fuse.Status {
	n, _ := r.s.tree.node(in.NodeId)
	switch {
	case n == nil || !n.writable(), in.Valid&setOwner != 0:
		return refused
	case in.Valid&fuse.FATTR_SIZE == 0:
		return fuse.OK
	case in.Size != 0:
		return refused
	}
	return await(cancel, diskPatience, n.e.Sink.Rotate)
}
