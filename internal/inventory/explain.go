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

// WriteDecided tells people what stays and goes in a place, in at most 80 columns where names are no longer than usual. Names are never
// cut. Unless all lines are wanted, they are not more than fit a screen.
func WriteDecided(w io.Writer, place string, entries []Decided, all bool) error {
	const most = 36
	noun, stay, named := "backup", 0, 0
	if !slices.ContainsFunc(entries, func(e Decided) bool { return e.Kind != Snapshot }) && len(entries) > 0 {
		noun = "snapshot"
	} else if len(entries) > 0 && entries[0].Kind == Set {
		noun = "set"
	}
	for _, e := range entries {
		if e.Keep {
			stay++
		}
		named = max(named, utf8.RuneCountInString(progress.Name(e.Name)))
	}
	fmt.Fprintf(w, "%s: %s\n", progress.Line(place), report.Counts(noun, stay, len(entries)-stay))
	if len(entries) == 0 {
		return nil
	}
	more := 0
	if len(entries) > most+1 && !all {
		more = len(entries) - most
	}
	rows := [][]string{{"VERDICT", "NAME", "GOES", "WHY"}}
	for _, e := range entries[:len(entries)-more] {
		rows = append(rows, rowOf(e, 80-len("VERDICT  ")-named-len("  2006-01-02  ")))
	}
	if err := report.WriteColumns(w, rows); err != nil || more == 0 {
		return err
	}
	_, err := fmt.Fprintf(w, "... %d more; --all shows them\n", more)
	return err
}

// row gives as many of the reasons as fit, or a part of one; --json has all.
func rowOf(e Decided, width int) []string {
	verdict, goes := "delete", "now"
	if e.Keep {
		verdict, goes = "keep", "-"
		if !e.Goes.IsZero() {
			goes = e.Goes.Format(time.DateOnly)
		}
	}
	const further, least = ", ...", 20
	why := strings.Join(e.Reasons, ", ")
	for n := len(e.Reasons) - 1; n > 0 && utf8.RuneCountInString(why) > width; n-- {
		why = strings.Join(e.Reasons[:n], ", ") + further
	}
	return []string{verdict, progress.Name(e.Name), goes, progress.Shorten(why, max(width, least))}
}
