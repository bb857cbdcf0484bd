package host

import (
	"context"
	"strings"
)

// Sets tell which backups beside each other belong together. A set is a directory of relative symbolic links: for each member, one
// to its backup of the set's name, in the member's folder, which lies in the same directory as the set.
type Sets interface {
	// ListSets gives the sets in the directory by name, and those whose making or removal did not end under their hidden names.
	ListSets(ctx context.Context) ([]Set, error)
	// MakeSet makes a set, on disk too. Every backup must be there. A set that is there already is as good; anything else of that
	// name is fs.ErrExist.
	MakeSet(ctx context.Context, name string, members []string) error
	// RemoveSets removes what it can of the named sets, but none of their backups; it gives the names of those that are gone, and
	// every failure. A set loses its name first.
	RemoveSets(ctx context.Context, names []string) (removed []string, err error)
}

// A Set is backups of one name.
type Set struct {
	Name    string
	Members []string // their folders, sorted
	Missing []string // those that hold no such backup any more
}

// Unfinished tells that the set is none yet, or no more.
func (s Set) Unfinished() bool { return strings.HasPrefix(s.Name, ".") }
