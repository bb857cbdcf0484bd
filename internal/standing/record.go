package standing

import (
	"slices"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/report"
)

// A record has the runs of one job, newest first, and those that were started by hand, of the same source.
type record struct {
	own []report.Run
	all []report.Run
}

func recordOf(name, source string, runs []report.Run) record {
	isOthers := func(r report.Run) bool { return r.Job != name && (r.Job != "" || r.Source != source) }
	isByHand := func(r report.Run) bool { return r.Job != name }
	all := slices.DeleteFunc(slices.Clone(runs), isOthers)
	return record{own: slices.DeleteFunc(slices.Clone(all), isByHand), all: all}
}

// RunsOf gives the runs of a job, and those by hand of its source, newest first as they are.
func RunsOf(name, source string, runs []report.Run) []report.Run {
	return recordOf(name, source, runs).all
}

func (r record) last() *report.Run {
	if len(r.own) == 0 {
		return nil
	}
	return &r.own[0]
}

func (r record) skipped() (n int) {
	for _, run := range r.own {
		if run.Skipped != "" {
			n++
		}
	}
	return n
}

// saved gives the beginning of the last run that saved something at a destination, where nothing failed.
func (r record) saved(destination string) time.Time {
	for _, run := range r.all {
		for _, d := range run.Destinations {
			if d.Destination == destination && len(d.Saved) > 0 && len(d.Failures) == 0 {
				return run.Time
			}
		}
	}
	return time.Time{}
}

// overdue gives the beginning of the first run of the job, if that is longer ago than the maximum age of a place without a backup.
func (r record) overdue(p Place, now time.Time) time.Time {
	if most := time.Duration(p.MaxAge); p.Newest.IsZero() && most > 0 && len(r.own) > 0 {
		if first := r.own[len(r.own)-1].Time; now.Sub(first) > most {
			return first
		}
	}
	return time.Time{}
}
