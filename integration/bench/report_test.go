package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
)

// measuredBench has figures for all contestants in two rounds, but for one that is
// not installed.
func measuredBench() *bench {
	b := &bench{options: options{runs: 2}}
	for _, s := range sections {
		for _, c := range s.scenarios {
			for i, who := range []string{logfs.name, cat.name, "R&D <\"log\">"} {
				for round := range 2 {
					all := sample{}
					for j, m := range s.columns {
						all[m] = float64((i + 1) * (j + 1) * (round + 1))
					}
					b.note(s.title+"/"+c.name, who, all)
				}
			}
			b.results = append(b.results, &result{scenario: s.title + "/" + c.name, contestant: svlogd.name})
		}
	}
	return b
}

func TestPlotIsWellFormed(t *testing.T) {
	for name, b := range map[string]*bench{"nothing": {}, "all": measuredBench()} {
		plot := b.plot()
		bars := 0
		for d := xml.NewDecoder(bytes.NewReader(plot)); ; {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v in\n%s", name, err, plot)
			}
			if e, ok := token.(xml.StartElement); ok && e.Name.Local == "path" {
				bars++
			}
		}
		want := 0
		for _, s := range sections {
			if s.plotted && name == "all" {
				want += 3 * len(s.scenarios)
			}
		}
		if bars != want {
			t.Errorf("%s: %d bars, want %d", name, bars, want)
		}
	}
}

func TestTables(t *testing.T) {
	text := measuredBench().text(&machine{})
	for _, want := range []string{
		`\| 20 B, bulk +\| logfs +\| +\| 1.50 \(1.00–2.00\) `,
		`\| +\| cat >file +\| 0.500 \(0.500–0.500\) +\| 3.00 \(2.00–4.00\) +\| 6.00 +\|`,
		`\| +\| svlogd +\| not installed +\|`,
		`\| Capture/100 B, bulk: CPU s/GiB, logfs / cat >file +\| ≤ 4 +\| 0.500 \(0.500–0.500\) +\|`,
	} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "|") && !strings.HasSuffix(line, "|\n") {
			t.Errorf("a row without an end: %q", line)
		}
	}
}

// An aim names what is measured: else it would never be looked at.
func TestAimsAreMeasured(t *testing.T) {
	for _, a := range aims {
		for _, f := range []figure{a.a, a.b} {
			if f != (figure{}) && !measures(f) {
				t.Errorf("%q: nobody measures %q in %q", a.what, f.metric, f.scenario)
			}
		}
	}
}

func measures(f figure) bool {
	for _, s := range sections {
		for _, c := range s.scenarios {
			for _, m := range s.columns {
				if s.title+"/"+c.name == f.scenario && m == f.metric {
					return true
				}
			}
		}
	}
	return false
}
