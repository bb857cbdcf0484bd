package inventory

import (
	"slices"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/kin"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

// A Judge tells what is known of the names in a place beyond what a policy says.
type Judge struct {
	place   Place
	scope   func(name string) string
	origins host.Origins
	about   host.About
	lineage kin.Lineage
	family  map[btrfs.UUID]btrfs.UUID // the one source of the backups of a family; none if there are several
	alive   map[btrfs.UUID]bool       // can be written to
	order   map[string]uint64         // by name, whatever the clock was set to
}

// An Owner is a source: a subvolume by all UUIDs that it is on record with, or a directory.
type Owner struct {
	UUIDs  []btrfs.UUID
	Origin tree.Origin
}

// Judge fails where what is on record cannot be read.
func (p Place) Judge() (*Judge, error) {
	origins, about, err := p.Recorded(p.Folder)
	if err != nil {
		return nil, err
	}
	scope, err := p.sources()
	if err != nil {
		return nil, err
	}
	j := &Judge{place: p, scope: scope, origins: origins, about: about, lineage: kin.NewLineage(p.All),
		family: make(map[btrfs.UUID]btrfs.UUID), order: p.order(), alive: map[btrfs.UUID]bool{p.Top: !p.Top.IsZero()}}
	for _, s := range p.InDirectory {
		origin := origins[s.ReceivedUUID]
		if !s.Received() || origin.IsZero() {
			continue
		}
		of := j.lineage.Family(s)
		if other, again := j.family[of]; again && other != origin {
			origin = btrfs.UUID{}
		}
		j.family[of] = origin
	}
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
	case e.Kind == Backup && j.source(e.Name).IsZero():
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

// source gives the subvolume that something received is certainly a backup of; none if that is not known.
func (j *Judge) source(name string) btrfs.UUID {
	for _, s := range j.place.InDirectory {
		if s.Name != name {
			continue
		}
		if origin := j.origins[s.ReceivedUUID]; !origin.IsZero() {
			return origin
		}
		return j.family[j.lineage.Family(s)]
	}
	return btrfs.UUID{}
}

// SourceName gives the source of a backup as people know it.
func (j *Judge) SourceName(e Entry) string {
	if e.Source != "" {
		return e.Source
	}
	if name := j.about.Name(j.source(e.Name)); name != "" {
		return name
	}
	return "its source"
}

// IsOf tells that a backup is certainly one of a source.
func (j *Judge) IsOf(e Entry, o Owner) bool {
	if r, ok := j.place.record(e.Name); ok {
		return r.Same(o.Origin)
	}
	source := j.source(e.Name)
	return !source.IsZero() && slices.ContainsFunc(o.UUIDs, func(uuid btrfs.UUID) bool { return j.about.Newest(uuid, j.origins) == source })
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
		!slices.ContainsFunc(series, func(o Entry) bool { return j.order[o.Name] > j.order[e.Name] })
}

// Newest gives what tells of entries whether each is the newest of its series among all.
func (j *Judge) Newest(all []Entry) func(Entry) bool {
	type series struct {
		Kind
		engine.Naming
		source string
	}
	of := func(e Entry) series {
		naming, _ := engine.NamingOf(e.Name)
		return series{e.Kind, naming, j.scope(e.Name)}
	}
	byDate, inOrder := make(map[series]time.Time), make(map[series]uint64)
	for _, e := range all {
		if in := of(e); e.Complete {
			inOrder[in] = max(inOrder[in], j.order[e.Name])
			if e.Time.After(byDate[in]) {
				byDate[in] = e.Time
			}
		}
	}
	return func(e Entry) bool {
		in := of(e)
		return !byDate[in].After(e.Time) || j.order[e.Name] >= inOrder[in]
	}
}

// order numbers what is in the folder in the order in which it was made, or sent.
func (p Place) order() map[string]uint64 {
	order := make(map[string]uint64)
	for _, s := range p.InDirectory {
		order[s.Name] = s.CreatedIn
	}
	for i, r := range p.Trees.Backups {
		order[r.Name] = uint64(i + 1)
	}
	for _, s := range p.InDirectory {
		if s.Received() {
			order[s.Name] = s.SentIn
		}
	}
	return order
}
