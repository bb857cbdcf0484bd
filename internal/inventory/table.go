package inventory

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
)

// screen is how many columns a table has at most where names are no longer than usual. Names are never cut.
const screen = 80

// A Table shows what places hold.
type Table struct {
	W      io.Writer
	Prefix string
	Wide   bool // no matter how many columns that takes
	UUID   bool // UUIDs, too
	Now    time.Time
}

// Write shows what is in a place, and the folders of backups in it.
func (t Table) Write(p Place, l Listed) error {
	fmt.Fprintf(t.W, "%s: %s, %s\n", progress.Line(p.Folder), t.held(p, l.Entries), roomOf(p, l))
	if len(l.Entries) > 0 {
		if err := t.print(t.rows(l.Entries)); err != nil {
			return err
		}
	}
	if len(p.Below) > 0 {
		if err := t.print(t.foldersOf(p, l.Freed)); err != nil {
			return err
		}
	}
	if l.Short {
		fmt.Fprintln(t.W, "To find out what deleting would free takes longer here: --space")
	}
	return nil
}

// roomOf tells what is free, or in a store, what is taken.
func roomOf(p Place, l Listed) string {
	if !p.Stored {
		return progress.Bytes(int64(p.Free)) + " free"
	}
	var taken uint64
	for _, e := range slices.Concat(l.Entries, l.Below) {
		if e.Freed != nil {
			taken += *e.Freed
		}
	}
	return progress.Bytes(int64(taken)) + " stored"
}

// print leaves out the blanks at the ends of lines.
func (t Table) print(rows [][]string) error {
	var b strings.Builder
	if err := report.WriteColumns(&b, rows); err != nil {
		return err
	}
	for line := range strings.Lines(b.String()) {
		if _, err := io.WriteString(t.W, strings.TrimRight(line, " \n")+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// held counts what there is.
func (t Table) held(p Place, entries []Entry) string {
	counts := make(map[string]int)
	for _, e := range entries {
		switch e.Kind {
		case Snapshot, Backup, Set:
			counts[string(e.Kind)]++
		default:
			counts["other"]++
		}
	}
	var held []string
	for _, noun := range []string{string(Set), string(Backup), string(Snapshot), "other"} {
		if n := counts[noun]; n > 0 {
			held = append(held, report.Count(n, noun))
		}
	}
	if of := p.SourceNames(t.Prefix); len(of) > 0 && of[0] != "?" && counts[string(Backup)] > 0 {
		held[len(held)-1] += " of " + progress.Line(strings.Join(of, ", "))
	}
	if len(p.Below) > 0 {
		noun := "folder"
		if p.Stored {
			noun = "source"
		}
		held = append(held, report.Count(len(p.Below), noun)+with(!p.Stored, " of backups"))
	}
	if len(held) == 0 {
		return "no snapshots or backups"
	}
	return strings.Join(held, ", ")
}

// A column shows one thing of each entry, and is left out where nothing is known of it.
type column struct {
	title, short string
	cell         func(Entry) string
	always, wide bool
}

func (t Table) columns() []column {
	size := func(of func(Entry) *uint64) func(Entry) string {
		return func(e Entry) string {
			if n := of(e); n != nil {
				return progress.Bytes(int64(*n))
			}
			return "-"
		}
	}
	text := func(of func(Entry) string) func(Entry) string {
		return func(e Entry) string { return orDash(progress.Name(of(e)), of(e) == "") }
	}
	return []column{
		{title: "NAME", cell: func(e Entry) string { return progress.Name(shownName(e)) }, always: true},
		{title: "AGE", cell: func(e Entry) string { return report.Age(e.Time, t.Now) }, always: true},
		{title: "SENT", cell: func(e Entry) string {
			if e.Sent == nil {
				return "-"
			}
			return progress.Bytes(*e.Sent)
		}},
		{title: "SIZE", cell: size(func(e Entry) *uint64 { return e.Size })},
		{title: freedTitle, short: "FREED", cell: size(func(e Entry) *uint64 { return e.Freed })},
		{title: "PARENT", cell: text(func(e Entry) string { return e.Parent })},
		{title: "UUID", cell: func(e Entry) string { return e.UUID.String() }, always: t.UUID, wide: !t.UUID},
		{title: "RECEIVED UUID", cell: func(e Entry) string { return e.ReceivedUUID.String() }, wide: true},
		{title: "NOTE", cell: func(e Entry) string { return strings.Join(e.Notes, ", ") }, always: true},
	}
}

// rows gives the table with its head. If it is too wide, titles are short, and notes go on in further lines.
func (t Table) rows(entries []Entry) (rows [][]string) {
	rows = make([][]string, 1+len(entries))
	var titles []string // the short ones
	for _, c := range t.columns() {
		known := func(e Entry) bool { return c.cell(e) != "-" }
		twice := c.title == "SIZE" && slices.Contains(titles, "SENT") || c.title == freedTitle && !slices.ContainsFunc(entries, freesOther)
		if !c.always && (c.wide && !t.Wide || !slices.ContainsFunc(entries, known)) || twice && !t.Wide {
			continue
		}
		rows[0] = append(rows[0], c.title)
		for i, e := range entries {
			rows[i+1] = append(rows[i+1], c.cell(e))
		}
		if c.short == "" {
			c.short = c.title
		}
		titles = append(titles, c.short)
	}
	last := len(titles) - 1
	if t.Wide || t.UUID || width(rows, last)+width(rows, -1) <= screen {
		return rows
	}
	rows[0] = titles
	return wrap(rows, screen-width(rows, last))
}

const freedTitle = "FREED IF DELETED"

// freesOther tells that deleting something frees other than what was sent.
func freesOther(e Entry) bool {
	return e.Freed != nil && (e.Sent == nil || *e.Sent != int64(*e.Freed))
}

// width tells how wide the columns before one are, or with -1 how wide the last one is.
func width(rows [][]string, before int) (sum int) {
	const gap = 2
	last := len(rows[0]) - 1
	for i := range rows[0] {
		widest := 0
		for _, row := range rows {
			widest = max(widest, utf8.RuneCountInString(row[i]))
		}
		if before < 0 && i == last {
			return widest
		}
		if i < before {
			sum += widest + gap
		}
	}
	return sum
}

// wrap breaks the last column behind commas, or else at blanks, where it is wider than so many.
func wrap(rows [][]string, most int) (wrapped [][]string) {
	const least = 12
	most = max(most, least)
	for _, row := range rows {
		last := len(row) - 1
		for _, line := range broken(broken([]string{row[last]}, ", ", most), " ", most) {
			wrapped = append(wrapped, append(slices.Clone(row[:last]), line))
			row = make([]string, len(row))
		}
	}
	return wrapped
}

// broken breaks lines that are too wide where a text is between their words.
func broken(lines []string, between string, most int) (all []string) {
	for _, line := range lines {
		at := ""
		for i, word := range strings.SplitAfter(line, between) {
			if i > 0 && utf8.RuneCountInString(strings.TrimRight(at+word, " ")) > most {
				all = append(all, strings.TrimRight(at, " "))
				at = ""
			}
			at += word
		}
		all = append(all, strings.TrimRight(at, " "))
	}
	return all
}

func orDash(text string, dash bool) string {
	if dash {
		return "-"
	}
	return text
}

func with(yes bool, text string) string {
	if !yes {
		return ""
	}
	return text
}

// foldersOf sums up the folders of backups in a place. If that is too wide, times of day are left out, and then what they have for
// themselves; of the sources in a store rather what their names tell as well, and what is of less use than what they take.
func (t Table) foldersOf(p Place, freed map[string]uint64) [][]string {
	rows := t.below(p, freed, "2006-01-02 15:04")
	leftOut := []string{"", "EXCLUSIVE"}
	if p.Stored {
		if leftOut = []string{"", "OLDEST", "BACKUPS"}; !slices.ContainsFunc(rows[1:], func(row []string) bool { return row[1] != "-" && asName(row[1]) != row[0] }) {
			leftOut = []string{"", "OF", "OLDEST", "BACKUPS"}
		}
	}
	for i := range leftOut {
		if t.Wide || width(rows, len(rows[0])-1)+width(rows, -1) <= screen {
			break
		}
		rows = without(t.below(p, freed, time.DateOnly), leftOut[:i+1])
	}
	return rows
}

// asName writes a source as its name in a store, where that has letters, digits and slashes only.
func asName(of string) string { return strings.NewReplacer(":/", "_", "/", "_").Replace(of) }

// without leaves columns out.
func without(rows [][]string, titles []string) [][]string {
	head := slices.Clone(rows[0])
	for i := range rows {
		at := -1
		rows[i] = slices.DeleteFunc(rows[i], func(string) bool { at++; return slices.Contains(titles, head[at]) })
	}
	return rows
}

func (t Table) below(p Place, freed map[string]uint64, layout string) [][]string {
	rows := [][]string{{"FOLDER", "OF", "BACKUPS", "OLDEST", "NEWEST"}}
	if len(freed) > 0 && p.Stored {
		rows[0] = append(rows[0], "STORED")
	} else if len(freed) > 0 {
		rows[0] = append(rows[0], "EXCLUSIVE")
	}
	remarks := false
	for _, below := range p.Below {
		remarks = remarks || below.Streams.remark() != ""
	}
	if remarks {
		rows[0] = append(rows[0], "NOTE")
	}
	for _, below := range p.Below {
		oldest, newest, backups := time.Time{}, time.Time{}, 0
		for _, l := range below.Entries(t.Prefix) {
			if l.Kind != Backup {
				continue
			}
			backups++
			if oldest.IsZero() || l.Time.Before(oldest) {
				oldest = l.Time
			}
			if l.Time.After(newest) {
				newest = l.Time
			}
		}
		name := strings.TrimPrefix(strings.TrimPrefix(below.Folder, p.Folder), "/")
		of := strings.Join(below.SourceNames(t.Prefix), ", ")
		row := []string{progress.Name(name), orDash(progress.Line(of), of == "" || of == "?"), fmt.Sprint(backups),
			orDash(oldest.Format(time.DateOnly), backups == 0), orDash(newest.Format(layout), backups == 0)}
		if len(freed) > 0 {
			bytes, ok := freed[below.Folder]
			row = append(row, orDash(progress.Bytes(int64(bytes)), !ok))
		}
		if remarks {
			row = append(row, below.Streams.remark())
		}
		rows = append(rows, row)
	}
	return rows
}

// shownName leaves out what hides a name, which the notes tell.
func shownName(l Entry) string {
	name := strings.TrimPrefix(l.Name, ".")
	switch l.Kind {
	case Unfinished:
		return strings.TrimSuffix(name, ".incoming")
	case Deleting:
		return strings.TrimSuffix(name, ".deleting")
	}
	return l.Name
}
