package fs

import (
	"strconv"
	"strings"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Lookup finds name in a directory.
func (r *raw) Lookup(cancel <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	d, ok := r.s.tree.dir(in.NodeId)
	switch {
	case !ok:
		return stale
	case d.e == nil:
		return r.lookupRoot(name, out)
	case d.kind == dirFiles:
		for k, n := range fileNames {
			if n == name {
				return r.lookupFile(caller{cancel, in.Pid}, d, fileKind(k), out)
			}
		}
	default:
		if l, ok := d.link(name, time.Now()); ok {
			return r.lookupText(l, out)
		}
	}
	if d.place, ok = d.child(name); !ok || !d.mayBe() {
		return noEntry
	}
	return r.lookupDir(caller{cancel, in.Pid}, d, out)
}

func (r *raw) lookupDir(by caller, d directory, out *fuse.EntryOut) fuse.Status {
	if st := r.dirAttr(by, d, &out.Attr); st != fuse.OK {
		return st
	}
	out.NodeId = r.s.tree.lookDir(d)
	if spare := r.s.tree.spare(); spare != nil {
		go func() { // the kernel may wait for those who look up names there
			for name, parent := range spare {
				r.s.dev.notifyEntry(parent, name)
			}
		}()
	}
	return fuse.OK
}

// lookupPins is how long a file that was looked up and not opened pins lines.
const lookupPins = time.Second

func (r *raw) lookupFile(by caller, d directory, k fileKind, out *fuse.EntryOut) fuse.Status {
	n := &node{kind: k, e: d.e, v: d.e.view(d.streams, k), ino: d.e.fileIno(&d.place, k)}
	if d.e.isAll() {
		n.order = r.s.newOrder(d.streams, k)
	}
	switch {
	case n.order != nil && d.past():
		p, now := d.point, time.Now()
		if st := r.s.ask(by, func() error { return n.settleAll(p, now) }); st != fuse.OK {
			return st
		}
	case d.past():
		n.span = &span{run: d.run}
		sel, now := d.selection, time.Now()
		if st := r.s.ask(by, func() error { return n.settleSpan(&sel, now) }); st != fuse.OK {
			return st
		}
	default:
		n.settle()
	}
	if k != follow && n.span == nil && n.order == nil {
		// The kernel remembers the last lookup of a name for as long as it
		// likes; who wants to read opens the file at once.
		time.AfterFunc(lookupPins, n.letGo)
	}
	r.s.tree.addNode(n)
	out.NodeId = n.id
	r.fileAttr(n, n.size(), &out.Attr)
	return fuse.OK
}

// ask has do called, which may wait for the disk, when it is its turn.
func (s *Server) ask(by caller, do func() error) fuse.Status {
	done := make(chan error, 1)
	s.askLater(func() { done <- do() })
	select {
	case err := <-done:
		return statusOf(err)
	case <-by.cancel:
	}
	for times := 0; !signalKills(by.pid); times++ {
		select {
		case err := <-done:
			return statusOf(err)
		case <-time.After(lookAgain(times)):
		}
	}
	return interrupted
}

// A caller is a process that waits for an answer. Only a signal that ends it
// ends that: nobody expects EINTR from stat, and few from open.
type caller struct {
	cancel <-chan struct{} // closed when a signal is pending
	pid    uint32
}

// asksOf says whether an answer about the directory id may have to wait for the
// disk: all that is below a run or a point.
func (s *Server) asksOf(id uint64) bool {
	if id >= firstDir {
		return true
	}
	if id >= firstFresh || id == rootID {
		return false
	}
	d, ok := s.tree.dir(id)
	return ok && (d.kind == dirRuns || d.e.isAll())
}

// link returns the symbolic link with that name in run/ or since/. There is one for
// each point: what was listed a moment ago is there, though another is listed now.
func (d *directory) link(name string, now time.Time) (x *text, ok bool) {
	to, ok := strings.CutPrefix(name, examplePrefix)
	if ok = ok && d.kind == dirPoints; ok {
		_, ok = d.child(to)
	}
	for _, l := range d.links(now) {
		if l[0] == name {
			to, ok = l[1], true
		}
	}
	if !ok {
		return nil, false
	}
	return &text{ino: d.e.ino(&d.place, name), data: []byte(to), link: true, changed: d.e.changed()}, true
}

// links are the symbolic links in run/ and since/, with what they say.
func (d *directory) links(now time.Time) (all [][2]string) {
	if d.kind == dirRuns {
		run := d.e.Ring.Run()
		if run > 0 {
			all = append(all, [2]string{nowLink, strconv.FormatUint(run, 10)})
		}
		if run > 1 {
			all = append(all, [2]string{prevLink, strconv.FormatUint(run-1, 10)})
		}
		return all
	}
	points := []string{"10m", "03:00", now.AddDate(0, 0, -1).Format(time.DateOnly) + "T02:50", "start"}
	if !d.e.isAll() {
		first, _ := d.e.Ring.Bounds()
		points = append(points, strconv.FormatUint(first, 10))
	}
	for _, p := range points {
		all = append(all, [2]string{examplePrefix + p, p})
	}
	return all
}

// examplePrefix begins the names of the links that explain since/.
const examplePrefix = "example-"

// Readlink reads a symbolic link.
func (r *raw) Readlink(_ <-chan struct{}, in *fuse.InHeader) ([]byte, fuse.Status) {
	if _, x := r.s.tree.node(in.NodeId); x != nil && x.link {
		return x.data, fuse.OK
	}
	return nil, stale
}
