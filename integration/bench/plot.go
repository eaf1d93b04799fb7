package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strings"
)

// The measures of a plot, in pixels.
const (
	plotWidth  = 860
	labelWidth = 250
	barWidth   = 420 // of the longest
	barHeight  = 14
	lineHeight = 18
	textDrop   = 11 // from the top of a line to the foot of its text
)

var colours = map[string]string{
	logfs.name: "#1f6feb", s6log.name: "#e3873d", multilog.name: "#c9554f", svlogd.name: "#9a6fb0", cat.name: "#8a8f98",
}

const otherColour = "#5aa469"

// A plotter draws from top to bottom.
type plotter struct {
	out bytes.Buffer
	y   int
}

// plot draws the first metric of each section that has one for the plot, as bars
// with their spreads.
func (b *bench) plot() []byte {
	p := &plotter{y: 10}
	for _, s := range sections {
		if s.plotted {
			b.panel(p, s)
		}
	}
	return fmt.Appendf(nil, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">
<rect width="100%%" height="100%%" fill="#ffffff"/>
%s</svg>
`, plotWidth, p.y, plotWidth, p.y, &p.out)
}

func (b *bench) panel(p *plotter, s section) {
	m, most := s.columns[0], 0.0
	for _, r := range b.results {
		if of, ok := spreadOf(r.values(m)); ok && strings.HasPrefix(r.scenario, s.title+"/") {
			most = max(most, of.most)
		}
	}
	if most == 0 {
		return
	}
	p.y += lineHeight
	p.text(10, "start", "font-size=\"15\" font-weight=\"bold\"", s.title+": "+string(m)+", less is better; the thin line is from the least to the greatest")
	p.y += lineHeight + 4
	for _, c := range s.scenarios {
		b.group(p, s.title+"/"+c.name, c.name, m, barWidth/most)
	}
}

// group draws the contestants of a scenario.
func (b *bench) group(p *plotter, scenario, label string, m metric, scale float64) {
	drawn := false
	for _, r := range b.results {
		of, ok := spreadOf(r.values(m))
		if r.scenario != scenario || !ok {
			continue
		}
		if !drawn {
			p.text(10, "start", "", label)
			drawn = true
		}
		p.text(labelWidth-8, "end", "", r.contestant)
		p.bar(of, scale, r.contestant)
		p.y += lineHeight
	}
	if drawn {
		p.y += lineHeight / 3
	}
}

// text writes a text on the current line.
func (p *plotter) text(x int, anchor, style, text string) {
	fmt.Fprintf(&p.out, `<text x="%d" y="%d" text-anchor="%s" %s>`, x, p.y+textDrop, anchor, style)
	_ = xml.EscapeText(&p.out, []byte(text)) // a buffer takes everything
	p.out.WriteString("</text>\n")
}

// bar draws a median with its spread.
func (p *plotter) bar(of spread, scale float64, contestant string) {
	colour, ok := colours[contestant]
	if !ok {
		colour = otherColour
	}
	end := labelWidth + of.median*scale
	fmt.Fprintf(&p.out, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n",
		labelWidth, p.y, max(of.median*scale, 1), barHeight, colour)
	fmt.Fprintf(&p.out, `<path d="M%.1f %d H%.1f" stroke="#24292f" stroke-width="1.5"/>`+"\n",
		labelWidth+of.least*scale, p.y+barHeight/2, labelWidth+of.most*scale)
	p.text(int(max(end, labelWidth+of.most*scale))+6, "start", "", digits(of.median))
}
