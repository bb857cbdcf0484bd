package standing

import (
	"btrfs-backup/internal/config"
	"btrfs-backup/internal/report"
)

// Recorded is a source with destinations of it, as text.
type Recorded struct {
	Source       string
	Destinations []string
}

// RecordedSources gives the sources that a configuration has, which may be nil, and those that runs had.
func RecordedSources(c *config.Config, runs []report.Run) (all []Recorded) {
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
			one.Destinations = append(one.Destinations, d.Destination)
		}
		all = append(all, one)
	}
	return all
}
