package lock

import (
	"context"
	"slices"
)

// Destinations remembers on this machine which destinations were used, by their identities, so that one whose disk is not
// mounted is told from a new one.
type Destinations struct {
	Dir string // that holds the file, and is made when something is to be remembered; "": nothing is remembered
}

// destinationsFile holds the identities by destination, as JSON.
const destinationsFile = "destinations.json"

func (d Destinations) record() record { return record{d.Dir, destinationsFile} }

// Knows tells whether a destination was used before.
func (d Destinations) Knows(destination string) (bool, error) {
	used, err := d.read()
	return len(used[destination]) > 0, err
}

func (d Destinations) read() (map[string][]string, error) { return d.record().read() }

// Add remembers a destination.
func (d Destinations) Add(ctx context.Context, destination, id string) error {
	return d.record().change(ctx, destination, func(known []string) ([]string, bool) {
		return append(known, id), slices.Contains(known, id)
	})
}
