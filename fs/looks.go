package fs

// Looks is what of a service's place in the tree can change while it is shown.
type Looks struct {
	// Marks says whether current and follow show the daemon's marks.
	Marks bool
	// Uid, Gid and Mode are owner and permissions of the service's directory;
	// its files can be read by whom the directory lets in.
	Uid, Gid, Mode uint32
}

// shown is the looks of an entry and the views that go with them. It is
// replaced, never changed.
type shown struct {
	Looks
	views *[streamKinds][2]*view // text or bytes, and seq
}

// Configure changes how the service is shown. Permissions hold for whoever
// opens or looks from now on. Marks come and go for those who look a file up
// from now on: on an open one, every offset keeps its byte.
func (e *Entry) Configure(l Looks) {
	was := e.shown.Load()
	views := was.views
	if l.Marks != was.Marks {
		changed := *views
		changed[selAll][0] = e.newView(selAll, formText, l.Marks)
		views = &changed
	}
	e.shown.Store(&shown{l, views})
}

func (e *Entry) newShown(l Looks) *shown {
	var views [streamKinds][2]*view
	for sel := range streamKinds {
		text := formText
		if sel != selAll {
			text = formBytes
		}
		views[sel] = [2]*view{e.newView(sel, text, l.Marks), e.newView(sel, formSeq, l.Marks)}
	}
	return &shown{l, &views}
}

func (e *Entry) newView(sel streams, f form, marks bool) *view {
	return &view{ring: e.Ring, layout: layout{sel: sel, form: f, service: e.Name, marks: marks}}
}

// view returns the view that a file shows which is looked up now.
func (e *Entry) view(sel streams, k fileKind) *view {
	views := e.shown.Load().views
	if k == seq {
		return views[sel][1]
	}
	return views[sel][0]
}

// looks is how the service is shown now.
func (e *Entry) looks() Looks {
	if e.isAll() {
		return e.fs.allLooks()
	}
	return e.shown.Load().Looks
}

// SetListFollow shows follow in listings from now on, or no longer does.
func (s *Server) SetListFollow(shown bool) { s.list.Store(shown) }
