package inventory

import (
	"path"
	"slices"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

// An Entry is a snapshot, a backup, or something else that stands among them.
type Entry struct {
	Place        string     `json:"place"`
	Name         string     `json:"name"`
	Time         time.Time  `json:"time,omitzero"`
	UUID         btrfs.UUID `json:"uuid"` // none of what is no subvolume
	ParentUUID   btrfs.UUID `json:"parent_uuid"`
	ReceivedUUID btrfs.UUID `json:"received_uuid"`
	Parent       string     `json:"parent,omitempty"` // its name, if it is in the same place
	ReadOnly     bool       `json:"read_only"`
	Kind         Kind       `json:"kind"`
	Complete     bool       `json:"complete"`
	Altered      bool       `json:"altered,omitempty"` // since it was taken or received
	Size         *uint64    `json:"size,omitempty"`
	Exclusive    *uint64    `json:"exclusive,omitempty"`
	Sent         *int64     `json:"sent,omitempty"`          // bytes of the stream that made it
	Freed        *uint64    `json:"freed,omitempty"`         // bytes of data that deleting it alone would free
	Notes        []string   `json:"notes,omitempty"`         // what else people are to know
	Source       string     `json:"source,omitempty"`        // of a backup made by rsync
	Files        int64      `json:"files,omitempty"`         // in it
	MissingFiles int        `json:"missing_files,omitempty"` // that could not be read when it was made
	Shared       int64      `json:"shared,omitempty"`        // bytes of files that rsync copied, and whose content was there already
	Verified     time.Time  `json:"verified,omitzero"`       // when all of it was verified last, as far as that is on record
	Damaged      bool       `json:"damaged,omitempty"`       // as it was found to be then
	Members      []string   `json:"members,omitempty"`       // of a set
	Lacks        []string   `json:"lacks,omitempty"`         // members of a set whose backups are gone
	Faults       []string   `json:"faults,omitempty"`        // what is wrong with a backup that is kept as a stream
	Signer       string     `json:"signer,omitempty"`        // public key of the machine that stored such a one
	Written      time.Time  `json:"written,omitzero"`        // when the last object of such a one was stored
	UnderWay     bool       `json:"-"`                       // an upload may go on with such a one
}

// A Kind tells what an Entry is, as far as it can be seen from outside.
type Kind string

const (
	Snapshot   Kind = "snapshot"
	Backup     Kind = "backup"
	Unfinished Kind = "unfinished"
	Deleting   Kind = "deleting" // and not deleted yet
	Writable   Kind = "writable"
	Set        Kind = "set" // of backups in the folders below
	Broken     Kind = "broken"
	Foreign    Kind = "foreign" // perhaps a backup, of which nothing can be known
)

// Entries gives what is in the place under names with a prefix, by name.
func (p Place) Entries(prefix string) []Entry {
	if p.Streams != nil {
		return p.Streams.entries(prefix)
	}
	names := make(map[btrfs.UUID]string)
	for _, s := range p.InDirectory {
		names[s.UUID] = s.Name
	}
	var all []Entry
	for _, s := range p.InDirectory {
		if !strings.HasPrefix(s.Name, prefix) {
			continue
		}
		l := Entry{
			Place: p.Folder, Name: s.Name, Time: TimeOf(s),
			UUID: s.UUID, ParentUUID: s.ParentUUID, ReceivedUUID: s.ReceivedUUID, Parent: names[s.ParentUUID],
			ReadOnly: s.ReadOnly, Kind: kindOf(s), Altered: s.AlteredIn != 0 || s.WasReceived(),
		}
		l.Complete = (l.Kind == Snapshot || l.Kind == Backup) && !l.Altered
		if slices.Contains(p.Trees.Deleting, s.Name) {
			l.Kind, l.Complete = Deleting, false
		}
		if r, ok := p.record(s.Name); ok {
			l.describe(r)
		}
		if size, ok := p.Sizes[s.ID]; ok {
			l.Size, l.Exclusive = &size.Referenced, &size.Exclusive
		}
		all = append(all, l)
	}
	if p.InDirectory == nil {
		all = append(all, p.trees(prefix)...)
	}
	for _, s := range p.sets(prefix) {
		all = append(all, Entry{Place: p.Folder, Name: s.Name, Time: TimeIn(s.Name), Kind: Set,
			Complete: len(s.Missing) == 0 && p.isMarked(s.Name), Members: s.Members, Lacks: s.Missing})
	}
	slices.SortFunc(all, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// sets gives those in the place, and those that never became one since a member has no backup of their name.
func (p Place) sets(prefix string) []host.Set {
	all := slices.DeleteFunc(slices.Clone(p.Sets), func(s host.Set) bool { return !strings.HasPrefix(s.Name, prefix) })
	if len(p.Sets) == 0 {
		return nil
	}
	holders := make(map[string][]string) // of backups of a name
	var members []string
	for _, below := range p.Below {
		if !p.IsMember(below) {
			continue
		}
		member := path.Base(below.Folder)
		members = append(members, member)
		for _, e := range below.Entries(prefix) {
			if _, dated := engine.NamingOf(e.Name); dated && e.Kind == Backup && !e.Altered {
				holders[e.Name] = append(holders[e.Name], member)
			}
		}
	}
	slices.Sort(members)
	for name, held := range holders {
		if !p.isMarked(name) {
			lacks := slices.DeleteFunc(slices.Clone(members), func(m string) bool { return slices.Contains(held, m) })
			all = append(all, host.Set{Name: name, Members: members, Missing: lacks})
		}
	}
	return all
}

func (p Place) isMarked(set string) bool {
	return slices.ContainsFunc(p.Sets, func(s host.Set) bool { return s.Name == set })
}

// record gives what is known of a backup made by rsync.
func (p Place) record(name string) (tree.Record, bool) {
	i := slices.IndexFunc(p.Trees.Backups, func(r tree.Record) bool { return r.Name == name })
	if i < 0 {
		return tree.Record{}, false
	}
	return p.Trees.Backups[i], true
}

func (l *Entry) describe(r tree.Record) {
	l.Altered = false // it was made writable, and filled
	l.Kind, l.Complete, l.Source, l.Files, l.MissingFiles, l.Shared = Backup, r.Complete(), r.Source, r.Files, r.Missing, r.Shared
	size := uint64(r.Bytes)
	l.Parent, l.Size = r.Base, &size
}

// trees describes backups that are no subvolumes.
func (p Place) trees(prefix string) []Entry {
	var all []Entry
	add := func(name string, k Kind) *Entry {
		all = append(all, Entry{Place: p.Folder, Name: name, Time: TimeIn(name), Kind: k})
		return &all[len(all)-1]
	}
	for _, r := range p.Trees.Backups {
		if strings.HasPrefix(r.Name, prefix) {
			add(r.Name, Backup).describe(r)
		}
	}
	for _, name := range p.Trees.Leftovers {
		if of, _ := btrfs.IncomingOf(name); strings.HasPrefix(of, prefix) {
			add(name, Unfinished)
		}
	}
	for _, name := range p.Trees.Deleting {
		add(name, Deleting)
	}
	return all
}

func kindOf(s btrfs.Subvolume) Kind {
	switch {
	case btrfs.IsIncoming(s.Name):
		return Unfinished
	case !s.ReadOnly:
		return Writable
	case !s.Received() && !s.WasReceived():
		return Snapshot
	default:
		return Backup
	}
}

// TimeOf gives the time in the name of a subvolume or else, if that has none, the one at which it was made where it is.
func TimeOf(s btrfs.Subvolume) time.Time {
	if t := TimeIn(s.Name); !t.IsZero() {
		return t
	}
	return s.Created
}

// TimeIn gives the time in a name, whatever its prefix and also if it is a hidden one; zero if it has none.
func TimeIn(name string) (t time.Time) {
	if of, ok := btrfs.IncomingOf(name); ok {
		name = of
	}
	if naming, ok := engine.NamingOf(name); ok {
		t, _ = naming.Time(name)
	}
	return t
}
