package fs

import (
	"strconv"
	"strings"
)

// A selection says which records of a service a directory shows.
type selection struct {
	streams streams
	run     uint64 // 0 for all
	ranged  bool   // from point on
	point   point
}

// past says that it may begin before what the ring holds.
func (s *selection) past() bool { return s.run > 0 || s.ranged }

// A place is a directory of a service. What is chosen on the way to it is its
// selection; the same chosen in another order is another place.
type place struct {
	path string // below the service's directory, as it was walked
	selection
	kind dirKind
}

// A dirKind is what a directory is for.
type dirKind uint8

const (
	dirFiles  dirKind = iota // the three files, and what is yet to be chosen
	dirRuns                  // run/
	dirPoints                // since/
)

const (
	runDir   = "run"
	sinceDir = "since"
	nowLink  = "now"
	prevLink = "prev"
)

// fixed are the places that are always there. Their index is part of their
// number, so the order stays.
var fixed = func() (all [9]place) {
	all[1].path, all[1].streams = "stdout", selOut
	all[2].path, all[2].streams = "stderr", selErr
	for i := range 3 {
		for j, kind := range []dirKind{dirRuns, dirPoints} {
			p := all[i]
			p.path, p.kind = join(p.path, [...]string{runDir, sinceDir}[j]), kind
			all[3+2*i+j] = p
		}
	}
	return all
}()

// index is that among fixed, false if p is not one of them.
func (p *place) index() (i uint64, ok bool) {
	i = uint64(p.streams)
	if p.kind != dirFiles {
		i = 2*i + 2 + uint64(p.kind)
	}
	return i, !p.past()
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "/" + name
}

// child returns the directory with that name in p, if there can be one: nobody
// asks whether there is such a run.
func (p *place) child(name string) (c place, ok bool) {
	c = *p
	c.path, c.kind = join(p.path, name), dirFiles
	switch p.kind {
	case dirRuns:
		c.run, ok = parseRun(name)
	case dirPoints:
		var err error
		c.point, err = parsePoint(name)
		c.ranged, ok = true, err == nil && len(name) <= maxPointName
	default:
		ok = c.choose(name)
	}
	return c, ok
}

// maxPointName is longer than any point has to be written.
const maxPointName = 40

// choose is child of a directory with files.
func (p *place) choose(name string) bool {
	switch {
	case name == dirNames[selOut] && p.streams == selAll:
		p.streams = selOut
	case name == dirNames[selErr] && p.streams == selAll:
		p.streams = selErr
	case name == runDir && p.run == 0:
		p.kind = dirRuns
	case name == sinceDir && !p.ranged:
		p.kind = dirPoints
	default:
		return false
	}
	return true
}

// children are the names of the directories in a directory with files that are
// listed. Others are found all the same: who walks the tree is not to read the whole
// past once for each stream, nor under every order of names.
func (p *place) children() (names []string) {
	if p.streams == selAll && !p.past() {
		names = append(names, dirNames[selOut], dirNames[selErr], runDir)
	}
	if !p.ranged {
		names = append(names, sinceDir)
	}
	return names
}

// parsePlace walks the path of a place.
func parsePlace(path string) (p place, ok bool) {
	ok = true
	for name := range strings.SplitSeq(path, "/") {
		if p, ok = p.child(name); !ok {
			break
		}
	}
	return p, ok
}

// parseRun reads the number of a run: one name for each.
func parseRun(name string) (run uint64, ok bool) {
	run, err := strconv.ParseUint(name, 10, 64)
	return run, err == nil && run > 0 && strconv.FormatUint(run, 10) == name
}
