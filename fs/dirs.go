package fs

import (
	"hash/fnv"
	"path"
	"strconv"
	"strings"
)

// A directory is what a directory's node id stands for.
type directory struct {
	e *Entry // nil for the root
	place
}

// A dir is a directory that is not always there: the kernel knows it under an id
// of its own for as long as it likes. Guarded by tree.mu.
type dir struct {
	directory
	id      uint64
	lookups uint64
	cell    *dirCell
}

// dirKey finds a dir. The same selection under two paths is two of them: the
// kernel does not let a directory have two names.
type dirKey struct {
	slot uint64
	path string
}

// firstDir is the least id of a dir.
const firstDir = 1 << 62

// maxDirs is how many dirs there are before the kernel is asked to forget some:
// else it keeps what was ever looked up for as long as it has memory.
const maxDirs = 1 << 14

// ino is the inode number of what is in the place, "" for the place itself. It
// is the same at every lookup, and for every process that has the mount.
func (e *Entry) ino(p *place, name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(strconv.FormatUint(e.slot, 10) + "/" + p.path + "/" + name))
	return h.Sum64()>>2 | firstDir
}

// dirIno is the inode number of a directory.
func (e *Entry) dirIno(p *place) uint64 {
	if i, ok := p.index(); ok {
		return e.slot<<slotShift | i
	}
	return e.ino(p, "")
}

// fileIno is the inode number of a file in a directory.
func (e *Entry) fileIno(p *place, k fileKind) uint64 {
	if !p.past() {
		return e.slot<<slotShift | 16*(uint64(p.streams)+1) + uint64(k)
	}
	return e.ino(p, fileNames[k])
}

// dir returns the directory with that node id.
func (t *tree) dir(id uint64) (d directory, ok bool) {
	if id == rootID {
		return d, true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if id >= firstDir {
		if known := t.dirs[id]; known != nil {
			d = known.directory
			return d, t.slots[d.e.slot] == d.e
		}
		return d, false
	}
	i := id & (1<<slotShift - 1)
	if d.e = t.slots[id>>slotShift]; d.e == nil || i >= uint64(len(fixed)) || id >= firstFresh {
		return d, false
	}
	d.place = fixed[i]
	return d, true
}

// lookDir returns the node id of a directory, known to the kernel by one lookup
// more.
func (t *tree) lookDir(d directory) (id uint64) {
	if i, ok := d.index(); ok {
		return d.e.slot<<slotShift | i
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	key := dirKey{d.e.slot, d.path}
	known := t.paths[key]
	if known == nil {
		t.fresh++
		known = &dir{directory: d, id: firstDir | t.fresh}
		t.dirs[known.id], t.paths[key] = known, known
		t.keepDir(known)
	}
	known.lookups++
	known.note()
	return known.id
}

// spare returns some dirs, as the ids of the directories they are in and their
// names there, if there are too many. It does so once for each so many.
func (t *tree) spare() (names map[string]uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.dirs) < maxDirs || len(t.dirs)%(maxDirs/4) != 0 {
		return nil
	}
	names = map[string]uint64{}
	for _, d := range t.dirs {
		if len(names) == maxDirs/2 {
			break
		}
		dir, _ := path.Split(d.path)
		dir = strings.TrimSuffix(dir, "/")
		if p, ok := parsePlace(dir); ok {
			if i, fixed := p.index(); fixed {
				names[path.Base(d.path)] = d.e.slot<<slotShift | i
			} else if parent := t.paths[dirKey{d.e.slot, dir}]; parent != nil {
				names[path.Base(d.path)] = parent.id
			}
		}
	}
	return names
}

// forgetDir takes lookups off a directory, and drops it at 0.
func (t *tree) forgetDir(id, lookups uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.dirs[id]
	if d == nil {
		return
	}
	d.lookups -= min(lookups, d.lookups)
	d.note()
	if d.lookups == 0 {
		delete(t.dirs, id)
		delete(t.paths, dirKey{d.e.slot, d.path})
		t.giveDir(d.cell)
	}
}

// keepDir gives d a cell. The caller holds tree.mu.
func (t *tree) keepDir(d *dir) {
	if t.state == nil {
		return
	}
	t.state.fresh.Store(t.fresh)
	if len(d.path) >= len(dirCell{}.path) {
		return
	}
	if d.cell = t.state.dirs.take(); d.cell != nil {
		d.cell.entry, d.cell.path = d.e.slot, [len(d.cell.path)]byte{}
		copy(d.cell.path[:], d.path)
		d.note()
		d.cell.id.Store(d.id)
	}
}

func (d *dir) note() {
	if d.cell != nil {
		d.cell.lookups.Store(d.lookups)
	}
}

func (t *tree) giveDir(c *dirCell) {
	if c != nil {
		c.id.Store(0)
		t.state.dirs.give(c)
	}
}

// restoreDir returns false if there is nothing that the directory could be of.
func (t *tree) restoreDir(c *dirCell) bool {
	e := t.slots[c.entry]
	p, ok := parsePlace(upToNUL(c.path[:]))
	if e == nil || !ok {
		return false
	}
	d := &dir{directory: directory{e, p}, id: c.id.Load(), lookups: c.lookups.Load(), cell: c}
	t.dirs[d.id], t.paths[dirKey{e.slot, p.path}] = d, d
	return true
}
