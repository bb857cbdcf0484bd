package report

import (
	"fmt"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
)

// Line tells in a line how a run ended, and what it did at each destination.
func (r Run) Line() string {
	outcome := r.Outcome
	if outcome == engine.Partly {
		outcome = "partly done"
	}
	parts := []string{fmt.Sprintf("%s, status %d", outcome, r.Status)}
	if took := progress.Duration(r.Duration); took != progress.Duration(0) {
		parts[0] += ", " + took
	}
	if r.Skipped != "" {
		parts = append(parts, "skipped: "+r.Skipped)
	}
	for _, d := range r.Destinations {
		if did := d.line(); did != "" {
			parts = append(parts, d.Destination+": "+did)
		}
	}
	if failed := failureLine(r.Failures); failed != "" {
		parts = append(parts, failed)
	}
	return strings.Join(parts, "; ")
}

func (d Destination) line() string {
	var parts []string
	if d.Absent != "" {
		parts = append(parts, "not served: "+d.Absent)
	}
	const few = 3
	if saved := strings.Join(d.Saved, " "); len(d.Saved) > few {
		parts = append(parts, fmt.Sprintf("saved %d, %s", len(d.Saved), progress.Bytes(d.Bytes)))
	} else if saved != "" {
		parts = append(parts, fmt.Sprintf("saved %s, %s", saved, progress.Bytes(d.Bytes)))
	}
	if len(d.Deleted) > 0 {
		parts = append(parts, fmt.Sprintf("deleted %d", len(d.Deleted)))
	}
	if failed := failureLine(d.Failures); failed != "" {
		parts = append(parts, failed)
	}
	return strings.Join(parts, ", ")
}

// failureLine gives the first failure, and how many more there are.
func failureLine(failures []engine.Failure) string {
	switch len(failures) {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("failed: %v", failures[0].Err)
	}
	return fmt.Sprintf("failed: %v (and %d more)", failures[0].Err, len(failures)-1)
}
