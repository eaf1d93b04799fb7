package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// maxFile bounds what is read of one file, so that a device or a log given by
// mistake is refused and not swallowed.
const maxFile = 4 << 20

// Load reads the main file at path and the fragments in conf.d beside it. With
// optional, a main file that is not there counts as empty; fragments are read
// all the same. The error is Errors: every mistake, by file in the order of
// reading and by line. It unwraps to that of the system where a file could not
// be read.
func Load(path string, optional bool) (Config, error) {
	l := loader{cfg: Default(), seen: map[string]definition{}}
	if path == "" && optional {
		return l.cfg, nil
	}
	text, err := readFile(path)
	switch {
	case err == nil:
		l.file(path, text, true)
	case !optional || !errors.Is(err, fs.ErrNotExist):
		return Config{}, Errors{err}
	}
	l.fragments(filepath.Join(filepath.Dir(path), "conf.d"))
	if len(l.errs) == 0 {
		l.totals()
	}
	if len(l.errs) > 0 {
		return Config{}, l.errs
	}
	slices.SortFunc(l.cfg.Services, func(a, b Service) int { return cmp.Compare(a.Name, b.Name) })
	return l.cfg, nil
}

type loader struct {
	cfg  Config
	seen map[string]definition // by service name
	errs Errors

	// Of [defaults]: the keys that are set, and those whose value is not known
	// because it was refused.
	set, refused keys
	unknown      bool // no default is known: the table cannot be parsed
}

type definition struct {
	in *document
	at toml.Primitive
}

// keys is a set of names of keys.
type keys map[string]bool

func (l *loader) fragments(dir string) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		l.errs = append(l.errs, unreadable(dir, err))
		return
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".toml") || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if text, err := readFile(path); err != nil {
			l.errs = append(l.errs, err)
		} else {
			l.file(path, text, false)
		}
	}
}

// file adds one file to the settings, and its mistakes to the errors.
func (l *loader) file(path, text string, main bool) {
	l.cfg.Files = append(l.cfg.Files, path)
	d, top, err := decode(path, text)
	if err != nil {
		l.errs, l.unknown = append(l.errs, err), l.unknown || main
		return
	}
	if main {
		l.top(d, top)
		l.defaults(d, top)
	} else {
		l.servicesOnly(d, top)
	}
	l.services(d, top)
	l.errs = append(l.errs, d.sorted()...)
}

func readFile(path string) (string, *Error) {
	f, err := os.Open(path)
	if err != nil {
		return "", unreadable(path, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return "", unreadable(path, err)
	}
	if len(text) > maxFile {
		return "", &Error{File: path, Msg: "file is too large: want at most " + sizeText(maxFile)}
	}
	return strings.TrimPrefix(string(text), "\xef\xbb\xbf"), nil
}

func (l *loader) top(d *document, top table) {
	own := table{}
	for name, p := range top {
		if name != "defaults" && name != "service" {
			own[name] = p
		}
	}
	refused := d.apply(nil, own, target{&l.cfg, &l.cfg.Defaults}, Top)
	if pair, msg := l.cfg.overlap(); msg != "" && !refused.any(pair) {
		d.blame(nil, own, pair, msg)
	}
	l.cfg.lines = map[string]int{}
	for name, p := range own {
		l.cfg.lines[name] = d.line(p)
	}
}

func (l *loader) defaults(d *document, top table) {
	p, ok := top["defaults"]
	if !ok {
		return
	}
	at := toml.Key{"defaults"}
	t, ok := d.table(p)
	if !ok {
		l.unknown = true
		d.fail(at, p, "want a table: [defaults]")
		return
	}
	l.refused = d.apply(at, t, target{&l.cfg, &l.cfg.Defaults}, Table)
	d.combine(at, t, &l.cfg.Defaults, l.refused, keys{})
	l.set = keys{}
	for name := range t {
		l.set[name] = true
	}
}

func (l *loader) servicesOnly(d *document, top table) {
	for name, p := range top {
		if name != "service" {
			d.fail(toml.Key{name}, p, "cannot be used in conf.d: want [service.NAME] tables only")
		}
	}
}

func (l *loader) services(d *document, top table) {
	p, ok := top["service"]
	if !ok {
		return
	}
	all, ok := d.table(p)
	if !ok {
		d.fail(toml.Key{"service"}, p, "want tables: [service.NAME]")
		return
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		l.service(d, name, all[name])
	}
}

func (l *loader) service(d *document, name string, p toml.Primitive) {
	at := toml.Key{"service", name}
	t, ok := d.table(p)
	if !ok {
		d.fail(at, p, "want a table: [service.NAME]")
		return
	}
	if err := CheckName(name); err != nil {
		d.fail(at, p, err.Error())
		return
	}
	if old, ok := l.seen[name]; ok {
		d.fail(at, p, fmt.Sprintf("already defined at %s:%d: want each service in one place", old.in.path, old.in.line(old.at)))
		return
	}
	l.seen[name] = definition{d, p}
	s := l.cfg.Defaults
	s.Name = name
	refused := d.apply(at, t, target{&l.cfg, &s}, Table, ServiceOnly)
	d.combine(at, t, &s, l.guessed(t, refused), l.set)
	d.needWay(at, t)
	if keys, msg := l.input(&s); msg != "" {
		d.blame(at, t, keys, msg)
	}
	l.cfg.Services = append(l.cfg.Services, s)
}

// guessed is the keys whose value for the service of table t is not what was
// meant: refused there, or in [defaults].
func (l *loader) guessed(t table, refused keys) keys {
	guessed := maps.Clone(refused)
	for _, k := range keysAt(Table) {
		if _, own := t[k.Name]; !own && (l.unknown || l.refused[k.Name]) {
			guessed[k.Name] = true
		}
	}
	return guessed
}

func (k keys) any(names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return k[name] })
}

// combine checks what single values cannot tell, where it knows them all. A
// pair that was taken over from elsewhere as a whole is not this table's fault.
// byDefault is the keys that [defaults] sets.
func (d *document) combine(at toml.Key, t table, s *Service, guessed, byDefault keys) {
	for _, c := range combinations {
		_, chosen := t[c.chosen]
		if c.chosen != "" && !chosen && !byDefault[c.chosen] {
			continue
		}
		if msg := c.wrong(s); msg != "" && !guessed.any(c.keys) {
			d.blame(at, t, c.keys, msg)
		}
	}
}

// needWay checks that a service has no settings for a way in that it has not.
func (d *document) needWay(at toml.Key, t table) {
	_, command := t["command"]
	_, fifo := t["fifo"]
	_, syslog := t["syslog"]
	for name, p := range t {
		switch k, _ := lookup(name, Table); {
		case k.Process && !command:
			d.fail(append(slices.Clone(at), name), p, "cannot be used without command: want command in the same table")
		case k.Input && !fifo && !syslog:
			d.fail(append(slices.Clone(at), name), p, "cannot be used without fifo or syslog: want one of them in the same table")
		}
	}
}

// blame reports msg at the first of names that t sets, if any.
func (d *document) blame(at toml.Key, t table, names []string, msg string) {
	for _, name := range names {
		if p, ok := t[name]; ok {
			d.fail(append(slices.Clone(at), name), p, msg)
			return
		}
	}
}
