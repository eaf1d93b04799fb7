package config

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// document is one TOML file being checked. Mistakes are collected as tables
// come, which is in no order, and sorted in the end.
type document struct {
	path     string
	text     string
	meta     toml.MetaData
	mistakes Errors
}

// table is a TOML table with its values still to be decoded.
type table map[string]toml.Primitive

func decode(path, text string) (*document, table, *Error) {
	top := table{}
	meta, err := toml.Decode(text, &top)
	if syntax := (toml.ParseError{}); errors.As(err, &syntax) {
		return nil, nil, &Error{File: path, Line: lineAt(text, syntax.Position.Start), Msg: "cannot parse: " + plain(syntax.Message)}
	}
	if err != nil {
		return nil, nil, &Error{File: path, Msg: "cannot parse: " + err.Error()}
	}
	return &document{path: path, text: text, meta: meta}, top, nil
}

// plain gives a message of the TOML parser the form of ours: no capital, unless
// it belongs to an abbreviation, and no full stop.
func plain(msg string) string {
	msg = strings.TrimSuffix(msg, ".")
	if len(msg) > 1 && 'A' <= msg[0] && msg[0] <= 'Z' && 'a' <= msg[1] && msg[1] <= 'z' {
		return strings.ToLower(msg[:1]) + msg[1:]
	}
	return msg
}

// sorted is the mistakes by line.
func (d *document) sorted() Errors {
	slices.SortFunc(d.mistakes, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Msg, b.Msg))
	})
	return d.mistakes
}

func (d *document) fail(at toml.Key, p toml.Primitive, msg string) {
	d.mistakes = append(d.mistakes, &Error{File: d.path, Line: d.line(p), Key: at.String(), Msg: msg})
}

// apply sets the keys of one table and returns those that were refused.
func (d *document) apply(at toml.Key, t table, to target, places ...Place) keys {
	refused := keys{}
	for name, p := range t {
		at := append(slices.Clone(at), name)
		k, ok := lookup(name, places...)
		if !ok {
			d.fail(at, p, d.unknown(at, p, places))
			continue
		}
		bad := k.set(to, d.value(p))
		if bad == nil {
			continue
		}
		refused[name] = true
		if bad.under != "" {
			inner, _ := d.table(p)
			at, p = append(at, bad.under), inner[bad.under]
		}
		d.fail(at, p, "cannot use "+shown(bad.value)+": want "+k.Accepted)
	}
	return refused
}

// unknown says what could have been meant by a key that cannot stand where it
// does, or else everything that could have stood there.
func (d *document) unknown(at toml.Key, p toml.Primitive, places []Place) string {
	name, parent := at[len(at)-1], at[:len(at)-1]
	if k, ok := lookup(name, Top, Table, ServiceOnly); ok {
		return misplaced[k.Place]
	}
	if _, isTable := d.table(p); isTable && len(parent) == 2 {
		dotted := toml.Key{parent[0], parent[1] + "." + name}
		return "unknown key: a service name with a dot is quoted, [" + dotted.String() + "]"
	}
	var names []string
	for _, k := range keysAt(places...) {
		if similar(name, k.Name) {
			return "unknown key: did you mean " + k.Name + "?"
		}
		names = append(names, k.Name)
	}
	if len(parent) == 0 {
		names = append(names, "[defaults]", "[service.NAME]")
	}
	return "unknown key: want one of " + strings.Join(names, ", ")
}

var misplaced = map[Place]string{
	Top:         "cannot be used in a table: want it before the first table of the main file",
	Table:       "cannot be used outside a table: want it in [defaults] or [service.NAME]",
	ServiceOnly: "cannot be used here: want it in [service.NAME]",
}

// similar reports whether two keys differ in case, in "_" for "-", or in one
// character put in, left out or exchanged.
func similar(a, b string) bool {
	a = strings.ReplaceAll(strings.ToLower(a), "_", "-")
	if len(a) < len(b) {
		a, b = b, a
	}
	same := 0
	for same < len(b) && a[same] == b[same] {
		same++
	}
	if len(a) == len(b) {
		return same == len(b) || a[same+1:] == b[same+1:]
	}
	return a[same+1:] == b[same:]
}

// value decodes p into the plain types of the TOML package.
func (d *document) value(p toml.Primitive) any {
	var v any
	if err := d.meta.PrimitiveDecode(p, &v); err != nil {
		return nil
	}
	return v
}

// table is p as a table. The type is looked at first, because the decoder
// passes over anything else without an error.
func (d *document) table(p toml.Primitive) (table, bool) {
	if _, ok := d.value(p).(map[string]any); !ok {
		return nil, false
	}
	t := table{}
	return t, d.meta.PrimitiveDecode(p, &t) == nil
}

// position refuses every value: the decoder answers an error of UnmarshalTOML
// with a ParseError that knows where the value stands.
type position struct{}

var errPosition = errors.New("asked for the position")

func (*position) UnmarshalTOML(any) error { return errPosition }

// line is where p stands. A table that is only implied by what is in it begins
// where that begins.
func (d *document) line(p toml.Primitive) int {
	var at toml.ParseError
	if errors.As(d.meta.PrimitiveDecode(p, &position{}), &at) && at.Position.Line > 0 {
		return lineAt(d.text, at.Position.Start)
	}
	first := 0
	inner, _ := d.table(p)
	for _, p := range inner {
		if n := d.line(p); first == 0 || n < first {
			first = n
		}
	}
	return first
}

// lineAt is the line of an offset the parser gave. Its own line numbers are
// those of the end of what it looked at: a line too high after a newline it did
// not expect, many too high for a string of several lines.
func lineAt(text string, offset int) int {
	return 1 + strings.Count(text[:min(max(offset, 0), len(text))], "\n")
}
