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
// all the same. The error is an *Error: the first mistake, by line, of the
// first file that has one. It unwraps to that of the system when a file could
// not be read.
func Load(path string, optional bool) (Config, error) {
	l := loader{cfg: Default(), seen: map[string]definition{}}
	if path == "" && optional {
		return l.cfg, nil
	}
	err := l.file(path, true)
	if optional && errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err == nil {
		err = l.fragments(filepath.Join(filepath.Dir(path), "conf.d"))
	}
	if err != nil {
		return Config{}, err
	}
	slices.SortFunc(l.cfg.Services, func(a, b Service) int { return cmp.Compare(a.Name, b.Name) })
	return l.cfg, nil
}

type loader struct {
	cfg  Config
	seen map[string]definition // by service name
}

type definition struct {
	in *document
	at toml.Primitive
}

func (l *loader) fragments(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return unreadable(dir, err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".toml") || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if err := l.file(filepath.Join(dir, e.Name()), false); err != nil {
			return err
		}
	}
	return nil
}

// file adds one file to the settings, all of it or, with an error, an
// undefined part.
func (l *loader) file(path string, main bool) error {
	text, err := readFile(path)
	if err != nil {
		return err
	}
	l.cfg.Files = append(l.cfg.Files, path)
	d, top, err := decode(path, text)
	if err != nil {
		return err
	}
	if main {
		l.top(d, top)
		l.defaults(d, top)
	} else {
		l.servicesOnly(d, top)
	}
	l.services(d, top)
	return d.first()
}

func readFile(path string) (string, error) {
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
	if !d.apply(nil, own, target{&l.cfg, &l.cfg.Defaults}, Top) {
		return
	}
	if keys, msg := l.cfg.overlap(); msg != "" {
		d.blame(nil, own, keys, msg)
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
		d.fail(at, p, "want a table: [defaults]")
		return
	}
	if d.apply(at, t, target{&l.cfg, &l.cfg.Defaults}, Table) {
		d.combine(at, t, &l.cfg.Defaults)
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
	if d.apply(at, t, target{&l.cfg, &s}, Table, ServiceOnly) {
		d.combine(at, t, &s)
		if keys, msg := l.input(&s); msg != "" {
			d.blame(at, t, keys, msg)
		}
	}
	l.cfg.Services = append(l.cfg.Services, s)
}

// combine checks what single values cannot tell. A pair that was taken over
// from elsewhere as a whole is not this table's fault.
func (d *document) combine(at toml.Key, t table, s *Service) {
	for _, c := range combinations {
		if msg := c.wrong(s); msg != "" {
			d.blame(at, t, c.keys, msg)
		}
	}
	if s.Name == "" {
		return
	}
	way, _ := s.Input()
	for name, p := range t {
		switch k, _ := lookup(name, Table); {
		case k.Process && s.Command == nil:
			d.fail(append(slices.Clone(at), name), p, "cannot be used without command: want command in the same table")
		case k.Input && way == "":
			d.fail(append(slices.Clone(at), name), p, "cannot be used without fifo or syslog: want one of them in the same table")
		}
	}
}

// blame reports msg at the first of keys that t sets, if any.
func (d *document) blame(at toml.Key, t table, keys []string, msg string) {
	for _, name := range keys {
		if p, ok := t[name]; ok {
			d.fail(append(slices.Clone(at), name), p, msg)
			return
		}
	}
}
