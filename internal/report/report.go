// Package report tells people and programs what a run did, and keeps a history of runs.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

const gap = 2 // cells between columns

// WriteColumns writes rows, the first of which is the heading, in columns.
func WriteColumns(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, gap, ' ', 0)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = progress.Line(cell)
		}
		if _, err := io.WriteString(t, strings.Join(cells, "\t")+"\n"); err != nil {
			return err
		}
	}
	return t.Flush()
}

// WriteJSON writes a value for other programs. What would upset a terminal is escaped as JSON allows.
func WriteJSON(w io.Writer, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	var escaped strings.Builder
	for _, r := range string(text) + "\n" {
		if unicode.IsGraphic(r) || r == '\n' {
			escaped.WriteRune(r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			fmt.Fprintf(&escaped, `\u%04x`, unit)
		}
	}
	_, err = io.WriteString(w, escaped.String())
	return err
}

// Log tells each transfer in a line of the log.
func Log(log *slog.Logger, r *engine.Report) {
	for _, d := range r.AllDestinations() {
		for _, s := range d.Sets {
			log.Info(fmt.Sprintf("%s: set %s: %s", d.Destination, s.Name, completeness(s)))
		}
		if d.Absent != "" {
			log.Info(fmt.Sprintf("%s: nothing sent: %s", d.Destination, d.Absent))
		}
		for _, t := range d.Transfers {
			kind := "complete copy"
			if t.Parent != "" {
				kind = "increment to " + progress.Name(t.Parent)
			}
			log.Info(fmt.Sprintf("%s: %s %s: %s, %s in %s", d.Destination, t.Snapshot, verdict(t), kind, size(t), progress.Duration(t.Duration)))
		}
	}
}

// WriteTable sums a run up, in a table with a line for each transfer, for a terminal of that width. Names of destinations are cut.
func WriteTable(w io.Writer, r *engine.Report, width int) error {
	rows := append([][]string{columns}, rowsOf(r)...)
	if len(rows) == 1 {
		return nil
	}
	Fit(rows, 0, width)
	return WriteColumns(w, rows)
}

var columns = []string{"DESTINATION", "SNAPSHOT", "COPY", "SIZE", "TIME", "VERDICT"}

// rowsOf gives a row for each transfer, and for each set.
func rowsOf(r *engine.Report) (rows [][]string) {
	for _, d := range r.AllDestinations() {
		for _, s := range d.Sets {
			rows = append(rows, []string{d.Destination, s.Name, "set", "", "", completeness(s)})
		}
		for _, t := range d.Transfers {
			how := "complete"
			if t.Parent != "" {
				how = "increment"
			}
			rows = append(rows, []string{d.Destination, t.Snapshot, how, progress.Bytes(t.Bytes), progress.Duration(t.Duration), verdict(t)})
		}
		if d.Absent != "" {
			rows = append(rows, []string{d.Destination, "", "", "", "", d.Absent})
		} else if len(d.Failures) > 0 {
			rows = append(rows, []string{d.Destination, "", "", "", "", "FAILED"})
		} else if len(d.Transfers) == 0 && len(r.Failures) > 0 {
			rows = append(rows, []string{d.Destination, "", "", "", "", "ended early"})
		} else if len(d.Transfers) == 0 && !d.OfSet {
			rows = append(rows, []string{d.Destination, "", "", "", "", "nothing to send"})
		}
	}
	return rows
}

// Fit cuts what is in a column in the middle, until the rows are no wider than width, or hardly readable.
func Fit(rows [][]string, column, width int) {
	const least = 12
	widest := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widest[i] = max(widest[i], utf8.RuneCountInString(cell))
		}
	}
	for i, taken := range widest {
		if i != column {
			width -= taken + gap
		}
	}
	for _, row := range rows {
		row[column] = progress.Shorten(progress.Line(row[column]), max(width, least))
	}
}

// completeness tells whether all members of a set have their backups of one name.
func completeness(s engine.SetReport) string {
	if len(s.Lacks) == 0 {
		return "complete"
	}
	return "INCOMPLETE, without " + strings.Join(s.Lacks, ", ")
}

func verdict(t engine.TransferReport) string {
	switch {
	case t.Failure != nil:
		return "FAILED"
	case t.Incomplete != nil:
		return "saved, INCOMPLETE"
	case t.Unverified:
		return "stored, not verified"
	default:
		return "saved"
	}
}

// size tells the bytes of a transfer, and those that crossed a network if they were more or fewer.
func size(t engine.TransferReport) string {
	const noticeable = 20 // one part in so many
	if difference := t.Bytes - t.Wire; t.Wire == 0 || max(difference, -difference) < t.Bytes/noticeable {
		return progress.Bytes(t.Bytes)
	}
	return fmt.Sprintf("%s (%s on the wire)", progress.Bytes(t.Bytes), progress.Bytes(t.Wire))
}

// Counts tells how many of the things stay and how many go.
func Counts(noun string, stay, gone int) string {
	return fmt.Sprintf("%s, %d stay, %d go", Count(stay+gone, noun), stay, gone)
}

// Count tells how many there are of something.
func Count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// WritePlan tells what a dry run found: a line for each thing that would be done, and for what is kept for a reason that no policy
// knows, and for destinations that were left out, then how many stay and go on each side. With all, there is a line for each verdict.
func WritePlan(w io.Writer, r *engine.Report, all bool) error {
	p := plan{all: all}
	for _, part := range r.Parts() {
		p.part(part)
	}
	for _, d := range r.Destinations {
		if d.Absent != "" {
			p.WriteString(progress.Line(d.Destination+": "+d.Absent) + "\n")
		}
	}
	_, err := io.WriteString(w, p.String()+p.counts.String())
	return err
}

func (p *plan) part(r *engine.Report) {
	if r.Snapshot != "" && len(r.Members) == 0 {
		p.would(r.Source, "take snapshot %s", r.Snapshot)
	}
	for _, d := range r.Destinations {
		for _, name := range d.Leftovers {
			p.would(d.Destination, "delete %s: left unfinished by an earlier run", name)
		}
		for _, t := range d.Transfers {
			how, verb := "as a complete copy", "send"
			if t.Parent != "" {
				how = "as an increment to " + progress.Name(t.Parent)
			}
			if r.Copy {
				verb = "copy " + r.Source + " to"
			}
			if t.Why != "" {
				how += ": " + t.Why
			}
			if !t.Locked.IsZero() {
				how += "; locked until " + t.Locked.Local().Format(time.DateOnly)
			}
			p.would(d.Destination, "%s %s %s", verb, t.Snapshot, how)
		}
		p.verdicts(d.Destination, d.Verdicts, d.Deleted)
		if !d.Failed() {
			p.count(d.Destination, "backup", d.Verdicts, d.Deleted)
		}
	}
	if r.Latest != "" {
		p.would(r.Source, "link %s as the newest snapshot", r.Latest)
	}
	p.verdicts(r.Source, r.Verdicts, r.Deleted)
	p.count(r.Source, "snapshot", r.Verdicts, r.Deleted)
}

// plan is the text of one.
type plan struct {
	strings.Builder
	counts strings.Builder
	all    bool
}

func (p *plan) would(place, format string, args ...any) {
	p.WriteString(progress.Line(place+": would "+fmt.Sprintf(format, args...)) + "\n")
}

// verdicts tells of one side. What a policy does not keep is not there if it is not to be deleted: it will not be sent.
func (p *plan) verdicts(place string, verdicts []retention.Verdict, deleted []string) {
	const few = 3 // that are kept for the same reason
	alike := make(map[string]int)
	for _, v := range verdicts {
		if v.Held {
			alike[strings.Join(v.Reasons, ", ")]++
		}
	}
	for _, v := range verdicts {
		why := strings.Join(v.Reasons, ", ")
		switch {
		case !v.Keep && !slices.Contains(deleted, v.Name):
			if p.all {
				p.would(place, "skip %s: %s", v.Name, why)
			}
		case !v.Keep, p.all, 0 < alike[why] && alike[why] <= few:
			p.would(place, "%s", v)
		case alike[why] > 0:
			p.would(place, "keep %d more: %s", alike[why], why)
			alike[why] = 0
		}
	}
}

func (p *plan) count(place, noun string, verdicts []retention.Verdict, deleted []string) {
	stay := 0
	for _, v := range verdicts {
		if v.Keep {
			stay++
		}
	}
	if len(verdicts) > 0 {
		p.counts.WriteString(progress.Line(place+": "+Counts(noun, stay, len(deleted))) + "\n")
	}
}

// Age tells in one unit how long ago a time was.
func Age(t, now time.Time) string {
	switch {
	case t.IsZero():
		return "-"
	case now.Before(t):
		return "future"
	}
	return Span(now.Sub(t))
}

// Span tells in one unit how long a time is.
func Span(d time.Duration) string {
	const day, year = 24 * time.Hour, 365 * 24 * time.Hour
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%d h", d/time.Hour)
	case d < 2*year:
		return fmt.Sprintf("%d d", d/day)
	}
	return fmt.Sprintf("%d y", d/year)
}
