package standing

import (
	"github.com/btrfs-backup/btrfs-backup/internal/config"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

// Recorded is a source with destinations of it, as text.
type Recorded struct {
	Source       string
	Destinations []string
}

// RecordedSources gives the sources that a configuration has, which may be nil, and those of which runs saved something. A destination
// that was forgotten since, so that it is not among the used ones, is left out.
func RecordedSources(c *config.Config, runs []report.Run, used lock.Used) (all []Recorded) {
	if c == nil {
		c = &config.Config{}
	}
	for _, j := range c.Jobs {
		if j.Spec.Source == nil {
			continue
		}
		one := Recorded{Source: j.Spec.Source.String()}
		for _, p := range j.Spec.Destinations {
			one.Destinations = append(one.Destinations, p.String())
		}
		all = append(all, one)
	}
	for _, r := range runs {
		one := Recorded{Source: r.Source}
		for _, d := range r.Destinations {
			if len(d.Saved) > 0 && used.Knows(d.Destination) {
				one.Destinations = append(one.Destinations, d.Destination)
			}
		}
		all = append(all, one)
	}
	return all
}
