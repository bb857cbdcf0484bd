package round

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"btrfs-backup/internal/engine"
	"btrfs-backup/internal/job"
)

// Stale tells by job which backups are older than they may be, as far as the round looked at them and made no newer ones.
func (r *Round) Stale(entries []*Entry) map[string]string {
	stale := make(map[string]string)
	for _, e := range entries {
		for _, p := range e.Spec.Destinations {
			if e.Standing == nil || e.savedTo(p) {
				continue
			}
			newest := r.newestAt(e, p, pastOf(e.Name, r.Runs))
			if age := r.Env.Now().Sub(newest); !newest.IsZero() && age > e.maxAgeAt(p) {
				stale[e.Name] = fmt.Sprintf("the newest backup at %s is of %s", p, newest.Format(clock))
			}
		}
	}
	return stale
}

func (e *Entry) maxAgeAt(p job.Place) time.Duration {
	return cmp.Or(e.MaxAgeAt[p.String()], e.MaxAge, e.Every.MaxAge())
}

func (e *Entry) savedTo(p job.Place) bool {
	return e.Result.Report != nil && slices.ContainsFunc(e.Result.Destinations, func(d engine.DestinationReport) bool {
		return d.Destination == p.String() && !d.Failed() && d.Absent == ""
	})
}
