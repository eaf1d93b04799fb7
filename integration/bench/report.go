package main

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// text is the report: tables in Markdown that can also be read as they are.
func (b *bench) text(m *machine) string {
	var out strings.Builder
	out.WriteString("# What logfs costs, beside others\n\n")
	fmt.Fprintf(&out, "Made by `go run ./integration/bench`, rounds: %d, %d MiB or %v for each contestant in a round.\n", b.runs, b.size, b.window)
	if b.crowd < 100 {
		fmt.Fprintf(&out, "With --quick: %d of a hundred services and readers, and figures that are worth nothing.\n", b.crowd)
	}
	fmt.Fprintf(&out, "Times and rates are of one machine at one moment: %s\n\n", m)
	out.WriteString("All loggers write files of 1 MiB and keep ten of them, with a stamp on each line; `cat >file` writes one\n" +
		"plain file, without stamps. logfs has its defaults: it fills its ring, and brings all to stable storage\n" +
		"within a second. Its CPU time is that of the daemon, the holder of its mount and each `logfs pipe`. Figures\n" +
		"are medians of the rounds, with the least and the greatest in parentheses; ratios are made within each round.\n")
	for _, s := range sections {
		if table := b.table(s); table != nil {
			fmt.Fprintf(&out, "\n## %s\n\n%s\n\n%s", s.title, s.about, format(table))
		}
	}
	if table := b.aimTable(); len(table) > 1 {
		fmt.Fprintf(&out, "\n## Aims\n\nWhat the project wants to reach, and what it was in this run.\n\n%s", format(table))
	}
	return out.String()
}

// ratioHead heads the column with what logfs is of each other contestant.
const ratioHead = "logfs/it"

// table is the rows of a section, or nil if nothing of it was measured.
func (b *bench) table(s section) (rows [][]string) {
	columns := b.present(s)
	for _, c := range s.scenarios {
		label := c.name
		for _, r := range b.results {
			if r.scenario == s.title+"/"+c.name {
				rows = append(rows, append([]string{label, r.contestant}, b.cells(r, columns)...))
				label = ""
			}
		}
	}
	if rows == nil {
		return nil
	}
	head := []string{"", "", ratioHead}
	for _, m := range columns {
		head = append(head, string(m))
	}
	return append([][]string{head}, rows...)
}

// present lists the metrics of a section that something was measured of.
func (b *bench) present(s section) (columns []metric) {
	for _, m := range s.columns {
		for _, r := range b.results {
			if strings.HasPrefix(r.scenario, s.title+"/") && r.values(m) != nil {
				columns = append(columns, m)
				break
			}
		}
	}
	return columns
}

// cells is the row of one contestant.
func (b *bench) cells(r *result, columns []metric) (row []string) {
	if len(r.samples) == 0 {
		return []string{"not installed"}
	}
	ratio := ""
	if r.contestant != logfs.name && len(columns) > 0 {
		ratio = around(ratios(b.values(r.scenario, logfs.name, columns[0]), r.values(columns[0])))
	}
	row = append(row, ratio)
	for i, m := range columns {
		cell := around(r.values(m))
		if i > 0 {
			cell, _, _ = strings.Cut(cell, " ")
		}
		row = append(row, cell)
	}
	return row
}

// around is the median and, if there are several values, the least and greatest.
func around(values []float64) string {
	s, ok := spreadOf(values)
	switch {
	case !ok:
		return ""
	case len(values) == 1:
		return digits(s.median)
	}
	return fmt.Sprintf("%s (%s–%s)", digits(s.median), digits(s.least), digits(s.most))
}

// digits has three of them, or all before the point.
func digits(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v >= 100 || v <= -100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10 || v <= -10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1 || v <= -1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

func (b *bench) aimTable() [][]string {
	rows := [][]string{{"", "aim", "this run"}}
	for _, a := range aims {
		sign := "≤ "
		if a.atLeast {
			sign = "≥ "
		}
		if got := around(b.reached(a)); got != "" {
			rows = append(rows, []string{a.what, sign + fmt.Sprint(a.number), got})
		}
	}
	return rows
}

// format makes a table of Markdown; the first row is its head.
func format(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var out strings.Builder
	for i, row := range rows {
		for j, width := range widths {
			cell := ""
			if j < len(row) {
				cell = row[j]
			}
			fmt.Fprintf(&out, "| %s%s ", cell, strings.Repeat(" ", width-utf8.RuneCountInString(cell)))
		}
		out.WriteString("|\n")
		if i == 0 {
			for _, width := range widths {
				out.WriteString("|" + strings.Repeat("-", width+2))
			}
			out.WriteString("|\n")
		}
	}
	return out.String()
}
