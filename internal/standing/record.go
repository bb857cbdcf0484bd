package standing

import (
	"slices"
	"time"

	"btrfs-backup/internal/report"
)

// A record has the runs of one job, newest first.
type record []report.Run

// recordOf picks the runs of a job. Those that were started by hand, of the same source, count as well.
func recordOf(name, source string, runs []report.Run) record {
	return slices.DeleteFunc(slices.Clone(runs), func(r report.Run) bool {
		return r.Job != name && (r.Job != "" || r.Source != source)
	})
}

func (r record) last() *report.Run {
	if len(r) == 0 {
		return nil
	}
	return &r[0]
}

func (r record) skipped() (n int) {
	for _, run := range r {
		if run.Skipped != "" {
			n++
		}
	}
	return n
}

// saved gives the beginning of the last run that saved something at a destination, where nothing failed.
func (r record) saved(destination string) time.Time {
	for _, run := range r {
		for _, d := range run.Destinations {
			if d.Destination == destination && len(d.Saved) > 0 && len(d.Failures) == 0 {
				return run.Time
			}
		}
	}
	return time.Time{}
}
