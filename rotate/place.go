package rotate

import "sync/atomic"

// A place is a directory that can become another one while it is in use. Calls
// that are under way then end in the former, or with an error.
type place struct{ now atomic.Pointer[Dir] }

func newPlace(dir Dir) *place {
	p := &place{}
	p.now.Store(&dir)
	return p
}

// move makes dir the directory from now on.
func (p *place) move(dir Dir) { (*p.now.Swap(&dir)).Close() }

func (p *place) dir() Dir { return *p.now.Load() }

func (p *place) Open(name string, flags int, mode uint32) (File, error) {
	return p.dir().Open(name, flags, mode)
}

func (p *place) Stat(name string) (Info, error) { return p.dir().Stat(name) }
func (p *place) Names() ([]string, error)       { return p.dir().Names() }
func (p *place) Link(name, second string) error { return p.dir().Link(name, second) }
func (p *place) Rename(from, to string) error   { return p.dir().Rename(from, to) }
func (p *place) Remove(name string) error       { return p.dir().Remove(name) }
func (p *place) Sync() error                    { return p.dir().Sync() }
func (p *place) Here() error                    { return p.dir().Here() }
func (p *place) Close() error                   { return p.dir().Close() }
