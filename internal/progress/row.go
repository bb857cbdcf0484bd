package progress

import (
	"strings"

	"github.com/cheggaaa/pb/v3"
)

const (
	gap = "  " // between the parts of a row

	// Titles of this width stand in 80 columns with all else.
	minTitle = 14
)

// A row is one transfer as bars show it.
type row struct {
	title                          string
	percentage, amount, rate, left string
	wire                           string
	bytes                          int64
	total                          int64 // 0 while unknown
}

func newRow(title string, s status) row {
	return row{title: label(title), percentage: s.percentage(), amount: s.amount(), rate: speed(s.rate), left: s.left(),
		wire: strings.TrimPrefix(s.onWire(), ", "), bytes: s.bytes, total: s.total.Bytes}
}

// label gives what a title tells of its place: neither the snapshot, which the line above names, nor the user, nor where disks are
// usually mounted.
func label(title string) string {
	if i := strings.LastIndex(title, ": "); i >= 0 {
		title = title[:i]
	}
	title, reading := strings.CutPrefix(title, "reading ")
	for scheme, separator := range map[string]string{"ssh://": ":/", "rsync://": "::"} {
		if machine, ok := strings.CutPrefix(title, scheme); ok {
			machine, path, _ := strings.Cut(machine, "/")
			machine = machine[strings.LastIndex(machine, "@")+1:]
			if i := strings.LastIndex(machine, ":"); i > strings.LastIndex(machine, "]") {
				machine = machine[:i]
			}
			title = machine + separator + path
		}
	}
	for _, above := range []string{"/mnt/", "/media/"} {
		title = strings.TrimPrefix(title, above)
	}
	if below, ok := strings.CutPrefix(title, "/run/media/"); ok {
		_, title, _ = strings.Cut(below, "/")
	}
	if reading {
		title = "reading " + title
	}
	return title
}

// A layout is what rows show beside their titles.
type layout struct {
	bar   int // cells; 0: none
	parts []part
}

// A part of a row has a place of this width at least, so that the parts do not move.
type part struct {
	text  func(row) string
	width int
}

var (
	percentage = part{func(r row) string { return r.percentage }, len("100%")}
	amount     = part{func(r row) string { return r.amount }, len("999/999 MiB")}
	rate       = part{func(r row) string { return r.rate }, len("999 MiB/s")}
	left       = part{func(r row) string { return r.left }, len("0:00 left")}
	wire       = part{func(r row) string { return r.wire }, 0}
)

// layouts are those to try in turn, as the terminal is narrower.
var layouts = []layout{
	{20, []part{percentage, amount, rate, left}},
	{10, []part{percentage, amount, rate, left}},
	{0, []part{percentage, amount, rate, left}},
	{0, []part{percentage, amount, left}},
	{0, []part{percentage, amount}},
	{0, []part{percentage}},
	{0, nil},
}

// lay renders rows with their parts below each other, none wider than width. What crossed networks is shown where there is room.
func lay(rows []row, width int) []string {
	titles := 0
	for _, r := range rows {
		titles = max(titles, pb.CellCount(r.title))
	}
	use := layout{layouts[0].bar, append(layouts[0].parts, wire)}
	for i, need := 0, titles; use.room(rows, width) < need && i < len(layouts); i++ {
		use, need = layouts[i], min(titles, minTitle)
	}
	titles = min(titles, max(use.room(rows, width), 0))
	texts := make([]string, len(rows))
	for i, r := range rows {
		texts[i] = strings.TrimRight(pb.StripString(use.render(r, rows, titles), width), " ")
	}
	return texts
}

// room is what a layout leaves for the titles.
func (l layout) room(rows []row, width int) int {
	for _, p := range l.parts {
		width -= len(gap) + p.widthIn(rows)
	}
	if l.bar > 0 {
		width -= len(gap) + l.bar
	}
	return width
}

func (p part) widthIn(rows []row) int {
	width := p.width
	for _, r := range rows {
		width = max(width, len(p.text(r)))
	}
	return width
}

// The templates of rows. Of the gaps beside a bar, one blank is its border.
const (
	withBar    = `{{string . "title"}} {{bar . " " "#" "#" "." " "}}{{string . "parts"}}`
	withoutBar = `{{string . "title"}}{{string . "parts"}}`
)

func (l layout) render(r row, rows []row, titles int) string {
	title, parts, template := pad(Shorten(r.title, titles), titles), "", withoutBar
	for _, p := range l.parts {
		text := p.text(r)
		parts += gap + strings.Repeat(" ", p.widthIn(rows)-len(text)) + text
	}
	width := pb.CellCount(title + parts)
	if l.bar > 0 {
		template, parts = withBar, parts[1:]
		width += len(gap) + l.bar
	}
	return pb.New64(r.total).SetCurrent(r.bytes).SetWidth(width).SetTemplateString(template).
		Set("title", title).Set("parts", parts).String()
}

func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-pb.CellCount(s)))
}

// Shorten takes the middle out of a title that is wider than width cells: the beginning tells the machine or disk, the end the
// folder.
func Shorten(title string, width int) string {
	runes := []rune(title)
	short := title
	for keep := len(runes) - 1; pb.CellCount(short) > width && keep >= 0; keep-- {
		head := (keep + 1) / 2
		short = string(runes[:head]) + "..." + string(runes[len(runes)-keep+head:])
	}
	return short
}
