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

// Read gives what is remembered.
func (d Destinations) Read() (Used, error) { return d.record().read() }

// Add remembers a destination.
func (d Destinations) Add(ctx context.Context, destination, id string) error {
	return d.record().change(ctx, destination, func(known []string) ([]string, bool) {
		return append(known, id), slices.Contains(known, id)
	})
}

// Used are the identities of the destinations that were used, by their names.
type Used map[string][]string

// Knows tells whether a destination was used.
func (u Used) Knows(destination string) bool { return len(u[destination]) > 0 }

// Has tells whether what was used under the name of a destination had the identity.
func (u Used) Has(destination, id string) bool { return slices.Contains(u[destination], id) }

// NamesOf gives the names under which nothing but what has the identity was used, sorted.
func (u Used) NamesOf(id string) (destinations []string) {
	for name, ids := range u {
		if len(ids) == 1 && ids[0] == id {
			destinations = append(destinations, name)
		}
	}
	slices.Sort(destinations)
	return destinations
}
