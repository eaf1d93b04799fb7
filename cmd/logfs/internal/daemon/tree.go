package daemon

import (
	"fmt"
	"os"
	"os/user"
	"strconv"

	"logfs/cmd/logfs/internal/config"
	"logfs/fs"
)

// A Tree shows logs as files.
type Tree interface {
	Add(fs.Service) (Entry, error)
	// Remove takes a log out. Its followers read what there is, then the end of
	// the file.
	Remove(name string)
	// SetListFollow shows follow in listings from now on, or no longer does.
	SetListFollow(bool)
	// SetLimits bounds how many follow, from now on.
	SetLimits(fs.Limits)
	LimitCounts() fs.LimitCounts
	// Close ends all followers with end of file and takes the tree away.
	Close() error
	// Done is closed when the tree is gone, by Close or from outside.
	Done() <-chan struct{}
}

// An Entry is one log in the tree.
type Entry interface {
	// Wake tells the followers that there is news.
	Wake()
	// Configure changes how the log is shown.
	Configure(fs.Looks)
	// Readers is how many follow now.
	Readers() int
	// Refused is how many could not, over a limit.
	Refused() uint64
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

// looksOf is how a service is shown: its directory belongs to the daemon's own
// user unless configured, and to the group adm, which reads logs on many
// systems, if the daemon is root and there is one.
func looksOf(c config.Service) (fs.Looks, error) {
	l := fs.Looks{Marks: c.Marks, Uid: uint32(os.Geteuid()), Gid: uint32(os.Getegid()), Mode: c.Mode}
	if c.Group == "" && os.Geteuid() == 0 {
		if adm, err := user.LookupGroup("adm"); err == nil {
			l.Gid = number(adm.Gid)
		}
	}
	if err := own(&l.Uid, c.Owner, userID); err != nil {
		return l, err
	}
	return l, own(&l.Gid, c.Group, groupID)
}

// own sets id to that of a name, or to the number that was given for one: it
// need not be anybody's here.
func own(id *uint32, name string, find func(string) (string, error)) error {
	if name == "" {
		return nil
	}
	found, err := find(name)
	if err == nil {
		*id = number(found)
		return nil
	}
	n, numeric := strconv.ParseUint(name, 10, 32)
	if numeric != nil {
		return err
	}
	*id = uint32(n)
	return nil
}

func userID(name string) (string, error) {
	u, err := lookupUser(name)
	if err != nil {
		return "", err
	}
	return u.Uid, nil
}

func groupID(name string) (string, error) {
	g, err := lookupGroup(name)
	if err != nil {
		return "", err
	}
	return g.Gid, nil
}
