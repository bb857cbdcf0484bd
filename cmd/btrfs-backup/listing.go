package main

import (
	"slices"
	"strings"
	"time"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/engine"
	"btrfs-backup/internal/tree"
)

// listed is one line of the listing.
type listed struct {
	Place        string     `json:"place"`
	Name         string     `json:"name"`
	Time         time.Time  `json:"time,omitzero"`
	UUID         btrfs.UUID `json:"uuid"` // none of what is no subvolume
	ParentUUID   btrfs.UUID `json:"parent_uuid"`
	ReceivedUUID btrfs.UUID `json:"received_uuid"`
	Parent       string     `json:"parent,omitempty"` // its name, if it is in the same place
	ReadOnly     bool       `json:"read_only"`
	Kind         kind       `json:"kind"`
	Complete     bool       `json:"complete"`
	Altered      bool       `json:"altered,omitempty"` // since it was taken or received
	Size         *uint64    `json:"size,omitempty"`
	Exclusive    *uint64    `json:"exclusive,omitempty"`
	Source       string     `json:"source,omitempty"`        // of a backup made by rsync
	Files        int64      `json:"files,omitempty"`         // in it
	MissingFiles int        `json:"missing_files,omitempty"` // that could not be read when it was made
	Members      []string   `json:"members,omitempty"`       // of a set
	Lacks        []string   `json:"lacks,omitempty"`         // members of a set whose backups are gone
}

// kind tells what a subvolume is, as far as it can be seen from outside.
type kind string

const (
	snapshotKind   kind = "snapshot"
	backupKind     kind = "backup"
	unfinishedKind kind = "unfinished"
	deletingKind   kind = "deleting" // and not deleted yet
	writableKind   kind = "writable"
	setKind        kind = "set" // of backups in the folders below
)

func describe(content content, prefix string) []listed {
	names := make(map[btrfs.UUID]string)
	for _, s := range content.InDirectory {
		names[s.UUID] = s.Name
	}
	var all []listed
	for _, s := range content.InDirectory {
		if !strings.HasPrefix(s.Name, prefix) {
			continue
		}
		l := listed{
			Place: content.Folder, Name: s.Name, Time: timeOf(s),
			UUID: s.UUID, ParentUUID: s.ParentUUID, ReceivedUUID: s.ReceivedUUID, Parent: names[s.ParentUUID],
			ReadOnly: s.ReadOnly, Kind: kindOf(s), Altered: s.AlteredIn != 0,
		}
		l.Complete = (l.Kind == snapshotKind || l.Kind == backupKind) && !l.Altered
		if slices.Contains(content.trees.Deleting, s.Name) {
			l.Kind, l.Complete = deletingKind, false
		}
		if r, ok := content.record(s.Name); ok {
			l.describe(r)
		}
		if size, ok := content.Sizes[s.ID]; ok {
			l.Size, l.Exclusive = &size.Referenced, &size.Exclusive
		}
		all = append(all, l)
	}
	if content.InDirectory == nil {
		all = append(all, describeTrees(content, prefix)...)
	}
	for _, s := range content.sets {
		if strings.HasPrefix(s.Name, prefix) {
			all = append(all, listed{Place: content.Folder, Name: s.Name, Time: timeOf(btrfs.Subvolume{Name: s.Name}), Kind: setKind,
				Complete: len(s.Missing) == 0, Members: s.Members, Lacks: s.Missing})
		}
	}
	slices.SortFunc(all, func(a, b listed) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// record gives what is known of a backup made by rsync.
func (c content) record(name string) (tree.Record, bool) {
	i := slices.IndexFunc(c.trees.Backups, func(r tree.Record) bool { return r.Name == name })
	if i < 0 {
		return tree.Record{}, false
	}
	return c.trees.Backups[i], true
}

func (l *listed) describe(r tree.Record) {
	l.Altered = false // it was made writable, and filled
	l.Kind, l.Complete, l.Source, l.Files, l.MissingFiles = backupKind, r.Complete(), r.Source, r.Files, r.Missing
	size := uint64(r.Bytes)
	l.Parent, l.Size = r.Base, &size
}

// describeTrees describes backups that are no subvolumes.
func describeTrees(content content, prefix string) []listed {
	var all []listed
	add := func(name string, k kind) *listed {
		s := btrfs.Subvolume{Name: name}
		all = append(all, listed{Place: content.Folder, Name: name, Time: timeOf(s), Kind: k})
		return &all[len(all)-1]
	}
	for _, r := range content.trees.Backups {
		if strings.HasPrefix(r.Name, prefix) {
			add(r.Name, backupKind).describe(r)
		}
	}
	for _, name := range content.trees.Leftovers {
		if of, _ := btrfs.IncomingOf(name); strings.HasPrefix(of, prefix) {
			add(name, unfinishedKind)
		}
	}
	for _, name := range content.trees.Deleting {
		add(name, deletingKind)
	}
	return all
}

func kindOf(s btrfs.Subvolume) kind {
	switch {
	case btrfs.IsIncoming(s.Name):
		return unfinishedKind
	case !s.ReadOnly:
		return writableKind
	case !s.Received():
		return snapshotKind
	default:
		return backupKind
	}
}

// timeOf gives the time in a name, whatever its prefix and also if it is a hidden one, or else the one at which the subvolume was
// made where it is.
func timeOf(s btrfs.Subvolume) time.Time {
	name := s.Name
	if of, ok := btrfs.IncomingOf(name); ok {
		name = of
	}
	if naming, ok := engine.NamingOf(name); ok {
		t, _ := naming.Time(name)
		return t
	}
	return s.Created
}
