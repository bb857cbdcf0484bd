package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"btrfs-backup/internal/inventory"
	"btrfs-backup/internal/progress"
	"btrfs-backup/internal/report"
)

// A listTable prints what places hold, in at most 80 columns where names are no longer than usual. Names are never cut.
type listTable struct {
	w      io.Writer
	prefix string
	uuid   bool
	now    time.Time
}

func (t listTable) print(c inventory.Place, entries []inventory.Entry) error {
	what := "subvolume"
	if c.InDirectory == nil && c.Trees.ID != "" {
		what = "backup"
	}
	if len(c.Sets) > 0 && len(c.Sets) == len(entries) {
		what = "set"
	}
	held := report.Count(len(entries), what)
	if len(c.Below) > 0 {
		held = report.Count(len(c.Below), "folder") + " of backups"
		if len(entries) > 0 {
			held = report.Count(len(entries), what) + ", " + held
		}
	}
	fmt.Fprintf(t.w, "%s: %s, %s free\n", progress.Line(c.Folder), held, progress.Bytes(int64(c.Free)))
	rows := [][]string{{"NAME", "AGE", "SIZE", "PARENT", "STATE"}}
	for _, l := range entries {
		rows = append(rows, row(l, t.now))
	}
	if t.uuid {
		rows[0] = append(rows[0], "UUID")
		for i, l := range entries {
			rows[i+1] = append(rows[i+1], orDash(l.UUID.String(), l.UUID.IsZero()))
		}
	}
	const size = 2
	if !slices.ContainsFunc(entries, func(l inventory.Entry) bool { return l.Size != nil }) {
		for i := range rows {
			rows[i] = slices.Delete(rows[i], size, size+1)
		}
	}
	if len(entries) > 0 {
		if err := report.WriteColumns(t.w, rows); err != nil {
			return err
		}
	}
	return t.printBelow(c)
}

func orDash(text string, dash bool) string {
	if dash {
		return "-"
	}
	return text
}

// printBelow sums up the folders of backups in a place.
func (t listTable) printBelow(c inventory.Place) error {
	rows := [][]string{{"FOLDER", "OF", "BACKUPS", "OLDEST", "NEWEST"}}
	for _, below := range c.Below {
		of, oldest, newest, backups := "", time.Time{}, time.Time{}, 0
		for _, l := range below.Entries(t.prefix) {
			if l.Kind != inventory.Backup {
				continue
			}
			backups++
			if l.Source != "" {
				of = l.Source + " (rsync)"
			}
			if oldest.IsZero() || l.Time.Before(oldest) {
				oldest = l.Time
			}
			if l.Time.After(newest) {
				newest = l.Time
			}
		}
		name := strings.TrimPrefix(strings.TrimPrefix(below.Folder, c.Folder), "/")
		rows = append(rows, []string{name, orDash(of, of == ""), fmt.Sprint(backups), orDash(oldest.Format(time.DateOnly), backups == 0),
			orDash(newest.Format("2006-01-02 15:04"), backups == 0)})
	}
	if len(c.Below) == 0 {
		return nil
	}
	return report.WriteColumns(t.w, rows)
}

func row(l inventory.Entry, now time.Time) []string {
	parent, size := progress.Name(l.Parent), "-"
	if l.Parent == "" && !l.ParentUUID.IsZero() {
		parent = l.ParentUUID.String()[:8] + "..." // --json has all of it
	} else if l.Parent == "" {
		parent = "-"
	}
	if l.Size != nil {
		size = progress.Bytes(int64(*l.Size))
	}
	state := string(l.Kind)
	switch {
	case l.MissingFiles > 0:
		state = fmt.Sprintf("INCOMPLETE: %d missing", l.MissingFiles)
	case l.Altered:
		state += ", altered since"
	case len(l.Lacks) > 0:
		state = "INCOMPLETE set, without " + strings.Join(l.Lacks, ", ")
	case l.Kind == inventory.Set:
		state = "set of " + strings.Join(l.Members, ", ")
	}
	return []string{progress.Name(shownName(l)), report.Age(l.Time, now), size, parent, state}
}

// shownName leaves out what hides a name, which the state tells.
func shownName(l inventory.Entry) string {
	name := strings.TrimPrefix(l.Name, ".")
	switch l.Kind {
	case inventory.Unfinished:
		return strings.TrimSuffix(name, ".incoming")
	case inventory.Deleting:
		return strings.TrimSuffix(name, ".deleting")
	}
	return l.Name
}
