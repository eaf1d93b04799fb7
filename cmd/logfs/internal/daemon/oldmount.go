package daemon

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"logfs/fs"
)

// An oldMount is what an earlier daemon has left of its mount.
type oldMount struct {
	holder *mountHolder // nil if it has gone
	stored bool         // the service manager has it too
	kept   *fs.Kept     // nil if there is nothing that this daemon can go on with
	state  *os.File     // nil with kept
	why    error        // it cannot
}

// A FileStore keeps open files of one daemon for the next, under names. That of
// systemd never says whether it does.
type FileStore interface {
	// Take gives the files back, once, whose names begin with prefix. The caller
	// closes them.
	Take(prefix string) map[string][]*os.File
	Put(name string, files ...*os.File)
	Remove(name string)
}

// mountFiles is what the names of our files in a FileStore begin with.
const mountFiles = "logfs-mount-"

// storedName is the name of the mount that shows a store. A daemon that is
// started again with another store must not go on with it. It is "" if there is no
// such store yet.
func storedName(store string) string {
	var st unix.Stat_t
	if unix.Stat(store, &st) != nil {
		return ""
	}
	return fmt.Sprintf("%s%x-%x", mountFiles, st.Dev, st.Ino)
}

// findMount finds the mount of an earlier daemon, nil if there is none. The store
// is nobody's: a running daemon may have left its files to the manager, too.
func (d *Daemon) findMount() (*oldMount, error) {
	m, err := findMountHolder(d.o.Config.Store)
	if err != nil || d.o.Files == nil {
		return m, err
	}
	stored := d.takeStored()
	switch {
	case stored == nil:
		return m, nil
	case m == nil:
		return stored, nil
	case m.kept == nil:
		m.kept, m.state, m.why = stored.kept, stored.state, nil
	default:
		stored.leave()
	}
	m.stored = true
	return m, nil
}

// takeStored takes back what the service manager keeps. What cannot be used is
// removed there: nothing but ours has our names.
func (d *Daemon) takeStored() (m *oldMount) {
	ours := storedName(d.o.Config.Store)
	for name, files := range d.o.Files.Take(mountFiles) {
		err := errors.New("it is that of another store")
		if name != ours {
			closeAll(files)
		} else if kept, state, why := openKept(files); why != nil {
			err = why
		} else {
			m = &oldMount{kept: kept, state: state, stored: true}
			continue
		}
		d.o.Files.Remove(name)
		d.o.Log.Info("a mount that the service manager has kept is not gone on with", "name", name, "why", err)
	}
	return m
}

// openKept opens a mount that was kept as two files, in any order. The state is
// for the caller to close; the other file is closed.
func openKept(files []*os.File) (kept *fs.Kept, state *os.File, err error) {
	if len(files) == 2 && fs.IsConnection(int(files[1].Fd())) {
		files[0], files[1] = files[1], files[0]
	}
	if len(files) != 2 || !fs.IsConnection(int(files[0].Fd())) {
		closeAll(files)
		return nil, nil, fmt.Errorf("what was kept of it are %d files that are not a connection and a state", len(files))
	}
	defer files[0].Close()
	if kept, err = fs.OpenKept(files[0], files[1]); err != nil {
		files[1].Close()
		return nil, nil, err
	}
	return kept, files[1], nil
}

// leave lets go of a mount that this daemon does not go on with.
func (m *oldMount) leave() {
	if m == nil {
		return
	}
	if m.kept != nil {
		m.kept.Close()
		m.state.Close()
	}
	if m.holder != nil {
		m.holder.conn.Close()
	}
}

// adoptMount goes on with the mount of an earlier daemon. It returns nil if there
// is none, or none that one can go on with: then that is gone.
func (d *Daemon) adoptMount(o fs.Options) (Tree, error) {
	m := d.old
	if m == nil {
		return nil, nil
	}
	d.old = nil
	why := m.why
	if m.kept != nil && d.o.Holder != "" && m.kept.Dir == o.Dir {
		s, err := fs.Adopt(o, m.kept)
		if err == nil {
			if m.holder != nil {
				m.holder.goOn()
			}
			d.keepMount(s, m)
			return server{s}, nil
		}
		why = err
	}
	if m.kept != nil {
		if err := m.kept.Abandon(); err != nil {
			why = err
		}
		m.kept.Close()
		m.state.Close()
	}
	d.o.Log.Info("the mount of the last daemon is not gone on with", "why", why)
	if m.stored {
		d.o.Files.Remove(storedName(d.o.Config.Store))
	}
	if m.holder != nil {
		m.holder.end()
	}
	return nil, checkMountPoint(o.Dir, d.o.MakeMount)
}

// resume has an adopted tree answer: all services have been added.
func (d *Daemon) resume() error {
	if tree, ok := d.tree.(server); ok && tree.Adopted() {
		d.o.Log.Info("going on with the mount of the last daemon", "mount", d.o.Config.Mount)
		return tree.Resume()
	}
	return nil
}
