package inventory

import (
	"slices"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/engine"
)

// A Judge tells what is known of the names in a place beyond what a policy says.
type Judge struct {
	place  Place
	source func(btrfs.Subvolume) btrfs.UUID
	scope  func(name string) string
	alive  map[btrfs.UUID]bool // can be written to
}

// Judge fails where what is on record cannot be read.
func (p Place) Judge() (*Judge, error) {
	source, err := p.subvolumeSources()
	if err != nil {
		return nil, err
	}
	scope, err := p.sources()
	if err != nil {
		return nil, err
	}
	j := &Judge{place: p, source: source, scope: scope, alive: map[btrfs.UUID]bool{p.Top: !p.Top.IsZero()}}
	for _, s := range p.All {
		if !s.ReadOnly {
			j.alive[s.UUID] = true
		}
	}
	return j, nil
}

// Doubt tells why it is not certain that what is under a name is a snapshot or backup that this program may delete; "" if it is. A run
// that sees both sides may know more.
func (j *Judge) Doubt(e Entry) string {
	if _, ok := j.place.record(e.Name); ok {
		return ""
	}
	i := slices.IndexFunc(j.place.InDirectory, func(s btrfs.Subvolume) bool { return s.Name == e.Name })
	switch {
	case e.Kind == Unfinished || e.Kind == Deleting:
		return "it is not finished: the next run goes on with it or deletes it"
	case e.Kind == Writable:
		return "it can be written to, and so is no snapshot or backup"
	case i < 0:
		return "there is no record of it"
	case e.Altered:
		return "somebody altered it since it was taken or received"
	case e.Kind == Backup && j.source(j.place.InDirectory[i]).IsZero():
		return "there is no record of what it is a backup of"
	case e.Kind == Backup:
		return ""
	case !isDated(e.Name):
		return "its name has no date, so another program or a person took it"
	case !j.alive[e.ParentUUID]:
		return "what it was taken of is gone"
	}
	return ""
}

func isDated(name string) bool {
	_, dated := engine.NamingOf(name)
	return dated
}

// Series gives the complete snapshots or backups of the same kind, source and naming as an entry among others, itself included.
func (j *Judge) Series(of Entry, among []Entry) (series []Entry) {
	naming, _ := engine.NamingOf(of.Name)
	for _, e := range among {
		other, _ := engine.NamingOf(e.Name)
		if e.Complete && e.Kind == of.Kind && other == naming && j.scope(e.Name) == j.scope(of.Name) {
			series = append(series, e)
		}
	}
	return series
}

// IsNewest tells that an entry is the newest of a series: by its date, or by what tells the order whatever the clock was set to.
func (j *Judge) IsNewest(e Entry, series []Entry) bool {
	return !slices.ContainsFunc(series, func(o Entry) bool { return o.Time.After(e.Time) }) ||
		!slices.ContainsFunc(series, func(o Entry) bool { return j.order(o) > j.order(e) })
}

func (j *Judge) order(e Entry) uint64 {
	if i := slices.IndexFunc(j.place.InDirectory, func(s btrfs.Subvolume) bool { return s.Name == e.Name && s.Received() }); i >= 0 {
		return j.place.InDirectory[i].SentIn
	}
	for i, r := range j.place.Trees.Backups {
		if r.Name == e.Name {
			return uint64(i + 1)
		}
	}
	for _, s := range j.place.InDirectory {
		if s.Name == e.Name {
			return s.CreatedIn
		}
	}
	return 0
}
