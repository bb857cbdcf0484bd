package round

import (
	"fmt"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/standing"
)

// Stale tells by job which backups are older than they may be, or were never made, unless the round made newer ones. Of jobs that
// were skipped, the record tells.
func Stale(entries []*Entry) map[string]string {
	stale := make(map[string]string)
	for _, e := range entries {
		if e.Standing == nil {
			continue
		}
		for _, p := range e.Standing.Places {
			switch {
			case e.savedTo(p.Destination):
			case !p.Overdue.IsZero():
				stale[e.Name] = fmt.Sprintf("there is no backup at %s, and the first run was at %s", p.Destination, p.Overdue.Format(clock))
			case p.State == standing.Late, p.State == standing.Bad:
				stale[e.Name] = fmt.Sprintf("the newest backup at %s is of %s", p.Destination, p.Newest.Format(clock))
			}
		}
	}
	return stale
}

func (e *Entry) savedTo(destination string) bool {
	return slices.ContainsFunc(e.Report().Destinations, func(d engine.DestinationReport) bool {
		return d.Destination == destination && !d.Failed() && d.Absent == ""
	})
}
