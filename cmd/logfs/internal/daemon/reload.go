package daemon

import (
	"errors"
	"reflect"
	"runtime"
	"slices"
	"syscall"

	"logfs/cmd/logfs/internal/config"
	"logfs/cmd/logfs/internal/exit"
)

// Reload puts another configuration in force. Services that are new in it are
// opened and their commands and inputs started; those it has no more are ended in
// order, unless a client has one; settings that have changed take effect, of which
// only those of the command restart it, and only another path opens another input.
// Whatever has not changed is not touched.
//
// With an error nothing was done: c says something else about the places of the
// daemon, or the log of a new service cannot be opened. Reload returns when all
// is in force, which may wait for commands to end. An input that cannot be opened
// is tried again.
func (d *Daemon) Reload(c config.Config) error {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	if d.serving.Err() != nil {
		return exit.With(exit.Refused, errStopping)
	}
	if err := c.CheckFixed(d.o.Config); err != nil {
		return exit.With(exit.Misuse, err)
	}
	if err := c.CheckInputs(); err != nil {
		return exit.With(exit.Misuse, err)
	}
	before := d.list()
	added, err := d.addServices(c)
	if err != nil {
		return err
	}
	p := d.plan(c, before)
	d.configured = map[string]bool{}
	for _, s := range c.Services {
		d.configured[s.Name] = true
	}
	for _, s := range added {
		s.events.Info("service added")
		d.startWays(s)
	}
	p.carryOut(d)
	d.o.Log.Info("configuration reloaded", "added", len(added), "removed", len(p.removed), "changed", len(p.changed))
	if len(p.removed) > 0 {
		// The descriptors of retired logdirs that nobody reads are closed.
		defer func() { go runtime.GC() }() // when they are not in our hands any more
	}
	return nil
}

// addServices opens what c has and the daemon has not: all, or with an error
// none.
func (d *Daemon) addServices(c config.Config) (added []*service, err error) {
	d.opening.Lock()
	defer d.opening.Unlock()
	for _, settings := range c.Services {
		s := d.find(settings.Name)
		_, err := looksOf(settings)
		if err == nil && s == nil {
			d.budget.reserve(settings)
			if s, err = d.openLog(settings); err != nil {
				d.budget.release(settings.Name)
			} else {
				added = append(added, s)
			}
		}
		if err != nil {
			return nil, errors.Join(err, inParallel(added, func(s *service) error {
				d.budget.release(s.name)
				return s.log.Close()
			}))
		}
	}
	for _, s := range added {
		s.own(s.config().Command != nil)
		if err := d.show(s); err != nil {
			s.events.Error("service not shown", "err", err)
		}
		d.register(s)
	}
	d.defaults = c.Defaults
	if d.tree != nil {
		d.tree.SetListFollow(c.ListFollow)
		d.tree.SetLimits(followLimits(c.Limits))
	}
	return added, nil
}

// A plan is what a reload does with the services there were.
type plan struct {
	removed []*service
	changed []*service
	want    map[*service]config.Service // of those changed
}

// plan compares the services with c. Those to be removed are left alone by
// clients from then on.
func (d *Daemon) plan(c config.Config, services []*service) plan {
	p := plan{want: map[*service]config.Service{}}
	other := d.budget.refit(c)
	for _, s := range services {
		i := slices.IndexFunc(c.Services, func(w config.Service) bool { return w.Name == s.name })
		want := c.Defaults
		want.Name = s.name
		switch {
		case i >= 0:
			want = c.Services[i]
		case d.configured[s.name] && s.retire():
			p.removed = append(p.removed, s)
			continue
		}
		if other[s.name] || !reflect.DeepEqual(s.config(), want) {
			p.changed = append(p.changed, s)
			p.want[s] = want
		}
	}
	return p
}

// carryOut has all commands that are to end told so first: they end together.
func (p *plan) carryOut(d *Daemon) {
	for _, s := range p.removed {
		s.stopSoon()
	}
	for _, s := range p.changed {
		if before := s.config(); !sameCommand(before, p.want[s]) || !sameInput(before, p.want[s]) {
			s.stopSoon()
		}
	}
	all := slices.Concat(p.removed, p.changed)
	_ = inParallel(all, func(s *service) error {
		if want, ok := p.want[s]; ok {
			d.change(s, want)
		} else {
			d.remove(s)
		}
		return nil
	})
}

func (s *service) stopSoon() {
	if s.job != nil {
		s.job.stop()
	}
	if s.intake != nil {
		s.intake.stop()
	}
}

// sameCommand says whether a command that runs by the settings a may go on by
// the settings b.
func sameCommand(a, b config.Service) bool {
	return slices.Equal(a.Command, b.Command) && a.Dir == b.Dir && slices.Equal(a.Env, b.Env) &&
		a.User == b.User && a.Restart == b.Restart
}

// change puts other settings in force.
func (d *Daemon) change(s *service, want config.Service) {
	before := s.config()
	restart := !sameCommand(before, want) || !sameInput(before, want)
	d.configure(s, want)
	if err := s.log.Configure(d.logOptions(want, s.events)); err != nil {
		s.events.Warn("not all settings are in force yet", "err", err)
	}
	if !restart {
		s.redress(before, want)
		s.events.Info("settings changed")
		return
	}
	s.events.Info("settings changed, also those of the command or input")
	d.stopCommand(s)
	d.stopIntake(s)
	if d.serving.Err() == nil {
		d.startWays(s)
	}
}

// configure sets what is read when it is needed, and how the service is shown.
func (d *Daemon) configure(s *service, want config.Service) {
	s.accessing.Lock()
	defer s.accessing.Unlock()
	d.configureLocked(s, want)
}

// configureLocked is configure for who holds s.accessing.
func (d *Daemon) configureLocked(s *service, want config.Service) {
	looks, err := d.looks(want)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settings = want
	switch {
	case err != nil: // it was well a moment ago
		s.events.Warn("owner and mode are not changed", "err", err)
	case s.entry != nil:
		s.entry.Configure(looks)
	}
}

// remove ends a service: its command, what is still captured of it, its log,
// its place in the tree, its followers. The files stay, and those who lag are
// fed from them to the end.
func (d *Daemon) remove(s *service) {
	d.stopCommand(s)
	d.stopIntake(s)
	s.log.Release()
	s.cut()
	s.writers.shut(s, syscall.ESTALE)
	s.live.Wait()
	if err := s.log.Retire(); err != nil {
		s.events.Error("the log of a removed service was not closed in order", "err", err)
	}
	if tree := d.mounted(); tree != nil {
		tree.Remove(s.name)
	}
	d.mu.Lock()
	delete(d.services, s.name)
	d.mu.Unlock()
	d.budget.release(s.name)
	s.events.Info("service removed")
}

func (d *Daemon) mounted() Tree {
	d.opening.Lock()
	defer d.opening.Unlock()
	return d.tree
}
