package fs

import (
	"strconv"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// A listing is an open directory.
type listing []fuse.DirEntry

// list lists a directory as it is now.
func (r *raw) list(by caller, d directory) (l listing, st fuse.Status) {
	id := uint64(rootID)
	if d.e != nil {
		id = d.e.dirIno(&d.place)
	}
	l = listing{{Mode: syscall.S_IFDIR, Name: ".", Ino: id}, {Mode: syscall.S_IFDIR, Name: "..", Ino: rootID}}
	switch {
	case d.e == nil:
		return append(l, r.listRoot()...), fuse.OK
	case d.kind == dirFiles:
		return append(l, r.listFiles(&d)...), fuse.OK
	}
	for _, x := range d.links(time.Now()) {
		l = append(l, fuse.DirEntry{Mode: syscall.S_IFLNK, Name: x[0], Ino: d.e.ino(&d.place, x[0])})
	}
	if d.kind == dirRuns {
		st = r.s.ask(by, func() (err error) {
			l, err = d.listRuns(l)
			return err
		})
	}
	return l, st
}

func (r *raw) listRoot() (l listing) {
	l = append(l, fuse.DirEntry{Mode: syscall.S_IFREG, Name: ignoreName, Ino: ignoreIno},
		fuse.DirEntry{Mode: syscall.S_IFREG, Name: statusName, Ino: statusIno})
	for _, e := range append([]*Entry{r.s.all}, r.s.tree.names()...) {
		l = append(l, fuse.DirEntry{Mode: syscall.S_IFDIR, Name: e.Name, Ino: e.dirIno(&place{})})
	}
	return l
}

func (r *raw) listFiles(d *directory) (l listing) {
	for k, name := range fileNames {
		if fileKind(k) != follow || r.s.list.Load() {
			l = append(l, fuse.DirEntry{Mode: syscall.S_IFREG, Name: name, Ino: d.e.fileIno(&d.place, fileKind(k))})
		}
	}
	for _, name := range d.children() {
		c, _ := d.child(name)
		if sub := (directory{d.e, c}); !sub.mayBe() {
			continue
		}
		l = append(l, fuse.DirEntry{Mode: syscall.S_IFDIR, Name: name, Ino: d.e.dirIno(&c)})
	}
	return l
}

// listRuns appends the runs there are. It may wait for the disk.
func (d *directory) listRuns(l listing) (listing, error) {
	runs, err := d.e.allRuns()
	for _, run := range runs {
		name := strconv.FormatUint(run.Run, 10)
		c, _ := d.child(name)
		l = append(l, fuse.DirEntry{Mode: syscall.S_IFDIR, Name: name, Ino: d.e.dirIno(&c)})
	}
	return l, err
}
