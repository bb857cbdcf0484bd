package progress

import (
	"strings"

	"github.com/cheggaaa/pb/v3"
)

const (
	withBar    = `{{string . "title"}}  {{bar . "[" "=" ">" " " "]"}}  {{string . "columns"}}`
	withoutBar = `{{string . "title"}}  {{string . "columns"}}`

	gap = 2 // cells between the parts, as in the templates

	// These just let a bar with an upper bound stand in 80 columns.
	minTitle = 18
	minBar   = 8
)

// A row is one transfer as bars show it.
type row struct {
	title   string
	columns string
	wire    string
	bytes   int64
	total   int64 // 0 while unknown
}

func newRow(title string, s status) row {
	return row{title: title, columns: s.columns(), wire: s.onWire(), bytes: s.bytes, total: s.total.Bytes}
}

// layout renders rows with their bars below each other, none wider than width.
// In a narrow terminal the bytes on the wire are left out first, then titles
// are shortened, then the bars left out.
func layout(rows []row, width int) []string {
	var titles, columns, withWire int
	for _, r := range rows {
		titles = max(titles, pb.CellCount(r.title))
		columns = max(columns, pb.CellCount(r.columns))
		withWire = max(withWire, pb.CellCount(r.columns+r.wire))
	}
	if titles+withWire+minBar+2*gap <= width {
		columns = withWire
		for i := range rows {
			rows[i].columns += rows[i].wire
		}
	}
	template := withBar
	room := width - columns - minBar - 2*gap
	if room < min(titles, minTitle) {
		template = withoutBar
		room = width - columns - gap
	}
	titles = min(titles, max(room, minTitle))

	texts := make([]string, len(rows))
	for i, r := range rows {
		r.title = pad(Shorten(r.title, titles), titles)
		r.columns = pad(r.columns, columns)
		texts[i] = strings.TrimRight(pb.StripString(r.render(template, width), width), " ")
	}
	return texts
}

func (r row) render(template string, width int) string {
	return pb.New64(r.total).
		SetCurrent(r.bytes).
		SetWidth(width).
		SetTemplateString(template).
		Set("title", r.title).
		Set("columns", r.columns).
		String()
}

// Shorten takes the middle out of a title that is wider than width cells: the
// beginning tells the destination, the end the time of the snapshot.
func Shorten(title string, width int) string {
	runes := []rune(title)
	short := title
	for keep := len(runes) - 1; pb.CellCount(short) > width && keep >= 0; keep-- {
		head := (keep + 1) / 2
		short = string(runes[:head]) + "..." + string(runes[len(runes)-keep+head:])
	}
	return short
}

func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-pb.CellCount(s)))
}
