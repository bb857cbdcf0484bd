package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"btrfs-backup/internal/inventory"
	"btrfs-backup/internal/progress"
	"btrfs-backup/internal/report"
)

// An explainTable prints what stays and goes, in at most 80 columns where names are no longer than usual. Names are never cut.
type explainTable struct {
	w   io.Writer
	all bool // lines, and not only some for a screen
}

func (t explainTable) print(place string, entries []inventory.Decided) error {
	const most = 36
	noun, stay, named := "backup", 0, 0
	if !slices.ContainsFunc(entries, func(e inventory.Decided) bool { return e.Kind != inventory.Snapshot }) && len(entries) > 0 {
		noun = "snapshot"
	} else if len(entries) > 0 && entries[0].Kind == inventory.Set {
		noun = "set"
	}
	for _, e := range entries {
		if e.Keep {
			stay++
		}
		named = max(named, utf8.RuneCountInString(progress.Name(e.Name)))
	}
	fmt.Fprintf(t.w, "%s: %s\n", progress.Line(place), report.Counts(noun, stay, len(entries)-stay))
	if len(entries) == 0 {
		return nil
	}
	more := 0
	if len(entries) > most+1 && !t.all {
		more = len(entries) - most
	}
	rows := [][]string{{"VERDICT", "NAME", "GOES", "WHY"}}
	for _, e := range entries[:len(entries)-more] {
		rows = append(rows, rowOf(e, 80-len("VERDICT  ")-named-len("  2006-01-02  ")))
	}
	if err := report.WriteColumns(t.w, rows); err != nil || more == 0 {
		return err
	}
	_, err := fmt.Fprintf(t.w, "... %d more; --all shows them\n", more)
	return err
}

// row gives as many of the reasons as fit, or a part of one; --json has all.
func rowOf(e inventory.Decided, width int) []string {
	verdict, goes := "delete", "now"
	if e.Keep {
		verdict, goes = "keep", orDash(e.Goes.Format(time.DateOnly), e.Goes.IsZero())
	}
	const further, least = ", ...", 20
	why := strings.Join(e.Reasons, ", ")
	for n := len(e.Reasons) - 1; n > 0 && utf8.RuneCountInString(why) > width; n-- {
		why = strings.Join(e.Reasons[:n], ", ") + further
	}
	return []string{verdict, progress.Name(e.Name), goes, progress.Shorten(why, max(width, least))}
}
