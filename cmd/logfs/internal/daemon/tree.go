package daemon

import (
	"fmt"
	"os"
	"os/user"

	"logfs/cmd/logfs/internal/config"
	"logfs/fs"
)

// A Tree shows logs as files.
type Tree interface {
	Add(fs.Service) (Entry, error)
	// Close ends all followers with end of file and takes the tree away.
	Close() error
	// Done is closed when the tree is gone, by Close or from outside.
	Done() <-chan struct{}
}

// An Entry is one log in the tree.
type Entry interface {
	// Wake tells the followers that there is news.
	Wake()
	// Readers is how many follow now.
	Readers() int
}

// Mount shows the tree at o.Dir. What a killed daemon left there goes first.
func Mount(o fs.Options) (Tree, error) {
	cleared, err := fs.ClearStale(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("cannot clear the stale mount: %w", err)
	}
	if cleared {
		o.Log.Info("stale mount cleared", "mount", o.Dir)
		if err := checkEmpty(o.Dir); err != nil {
			return nil, err
		}
	}
	s, err := fs.Mount(o)
	if err != nil {
		return nil, err
	}
	return server{s}, nil
}

type server struct{ *fs.Server }

func (s server) Add(svc fs.Service) (Entry, error) {
	e, err := s.Server.Add(svc)
	if err != nil {
		return nil, err
	}
	return e, nil
}

// ownerOf is who owns the directory of a service in the tree: the daemon's own
// user unless configured, and group adm, who reads logs on many systems, if
// the daemon is root and there is one.
func ownerOf(c config.Service) (uid, gid uint32, err error) {
	uid, gid = uint32(os.Geteuid()), uint32(os.Getegid())
	if c.Owner != "" {
		u, err := lookupUser(c.Owner)
		if err != nil {
			return 0, 0, err
		}
		uid = number(u.Uid)
	}
	switch {
	case c.Group != "":
		g, err := lookupGroup(c.Group)
		if err != nil {
			return 0, 0, err
		}
		gid = number(g.Gid)
	case os.Geteuid() == 0:
		if adm, err := user.LookupGroup("adm"); err == nil {
			gid = number(adm.Gid)
		}
	}
	return uid, gid, nil
}
