package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
)

// Interruption tells what a run that a signal ended leaves, and how to go on. Streams that were received in part are kept for
// a while.
func Interruption(r *engine.Report, kept time.Duration) (happened, forward string) {
	saved, resumed, anew := 0, []string(nil), []string(nil)
	for _, d := range r.AllDestinations() {
		missing := len(d.Failures) > 0
		part := ""
		for _, t := range d.Transfers {
			switch {
			case t.Failure == nil:
				saved++
			case t.Kept:
				part = keeps(r, t, kept)
			}
			missing = missing || t.Failure != nil
		}
		name := progress.Name(d.Destination)
		if part != "" {
			resumed = append(resumed, name+" "+part)
		} else if missing {
			anew = append(anew, name)
		}
	}
	happened = finished(saved)
	if r.Snapshot != "" {
		happened = "snapshot " + r.Snapshot + " is kept, " + happened
	}
	if forward = strings.Join(resumed, ", "); forward != "" {
		forward = "the same command goes on there: " + forward
	}
	switch {
	case forward != "" && len(anew) > 0:
		forward += "; it begins anew at " + strings.Join(anew, ", ")
	case forward == "" && r.Snapshot != "" && len(r.AllDestinations()) > 0:
		forward = "the next run saves what is missing"
	}
	return happened, forward
}

func finished(saved int) string {
	switch saved {
	case 0:
		return "no backup was finished"
	case 1:
		return "one backup was finished"
	}
	return fmt.Sprintf("%d backups were finished", saved)
}

// keeps tells what a destination holds of a transfer that did not end.
func keeps(r *engine.Report, t engine.TransferReport, kept time.Duration) string {
	what := "keeps what it has"
	if t.KeptFor > 0 { // it takes a while until what was sent is stored
		return fmt.Sprintf("%s for %d days", what, t.KeptFor/(24*time.Hour))
	}
	if t.Bytes > 0 {
		what = "keeps " + progress.Bytes(t.Bytes)
	}
	if !r.Copy {
		what += " for " + progress.Duration(kept)
	}
	return what
}
