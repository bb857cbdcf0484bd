package lock

import (
	"context"
	"slices"
)

// Sources remembers on this machine which subvolumes there are backups of under the name of a source, so that a rollback of it
// is told from a clone.
type Sources struct {
	Dir string // that holds the file, and is made when something is to be remembered; "": nothing is remembered
}

func (s Sources) record() record { return record{s.Dir, "sources.json"} }

// Of gives the UUIDs that are on record for a source.
func (s Sources) Of(source string) ([]string, error) {
	all, err := s.record().read()
	return all[source], err
}

// Set replaces those of a source.
func (s Sources) Set(ctx context.Context, source string, uuids []string) error {
	return s.record().change(ctx, source, func(known []string) ([]string, bool) { return uuids, slices.Equal(known, uuids) })
}
