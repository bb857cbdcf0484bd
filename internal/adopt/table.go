package adopt

import (
	"cmp"
	"fmt"
	"io"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
)

// short gives as much of a UUID as is needed to choose by.
func short(uuid btrfs.UUID) string {
	if uuid.IsZero() {
		return "-"
	}
	return uuid.String()[:LeastUUID]
}

// Write shows what the place holds, if nothing was adopted on purpose or by a failure, and what was adopted.
func (r Report) Write(w io.Writer, done bool) error {
	if (!done || r.DryRun) && len(r.Histories) > 0 {
		fmt.Fprintf(w, "%s holds backups of\n", progress.Line(r.Place))
		rows := [][]string{{"UUID", "BACKUPS", "OLDEST", "NEWEST", "SOURCE"}}
		for _, h := range r.Histories {
			of := cmp.Or(progress.Name(h.Of), "unknown")
			if h.Own {
				of += " (its own)"
			}
			rows = append(rows, []string{short(h.UUID), fmt.Sprint(h.Backups), h.Oldest.Format(time.DateOnly), progress.Name(h.Name), of})
		}
		if err := report.WriteColumns(w, rows); err != nil {
			return err
		}
	}
	if !done {
		return nil
	}
	line := fmt.Sprintf("there is nothing to adopt for %s", progress.Line(r.Source))
	if n := r.Adopted(); n > 0 {
		line = fmt.Sprintf("%s continues another source: %s %s", progress.Line(r.Source), report.Count(n, "backup"), r.counts(n))
	}
	_, err := fmt.Fprintf(w, "%s: %s\n", progress.Line(r.Place), line)
	return err
}

func (r Report) counts(backups int) string {
	switch {
	case r.DryRun:
		return "would count as its own"
	case backups == 1:
		return "counts as its own from now on"
	}
	return "count as its own from now on"
}
