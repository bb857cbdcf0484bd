package host

import (
	"context"
	"path"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"
)

// A Locator is a Host that tells what paths mean to whoever looks for backups. Both hosts are.
type Locator interface {
	// Locate tells what the absolute path means. Outside of backups, symbolic links are followed; the link to the newest of a folder
	// leads to a name in it, or nowhere. Nothing in a backup is looked at. A missing path is fs.ErrNotExist, and the hint names
	// what the folder has instead.
	Locate(ctx context.Context, path string) (Location, error)
}

// A Location is what a path means: a snapshot, backup or set, or something in it; or else a directory.
type Location struct {
	Folder string // absolute: the directory that holds it; with no Name, the directory that is meant
	Name   string // of the snapshot, backup or set
	Within string // the path in that of what is meant; "": all of it

	Subvolume btrfs.Subvolume // that is Name, or the Folder with no Name; zero if it is none. Of Name, AlteredIn is known
	Tree      bool            // Name is a backup of a directory tree
	Record    *tree.Record    // of that; nil if this user may not read it
	Set       *Set            // Name is a set
	Marked    bool            // with no Name: the Folder was used for backups
}

// Path is the absolute path of the snapshot, backup, set, or directory.
func (l Location) Path() string { return path.Join(l.Folder, l.Name) }

// IsVersion tells that a snapshot, backup or set is meant, or something in it.
func (l Location) IsVersion() bool { return l.Name != "" }

// LatestOf tells that a name is that of the link to the newest snapshot or backup of a series, and gives the prefix of that.
func LatestOf(name string) (prefix string, ok bool) { return state.LatestOf(name) }

// SnapshotFolder is that within a source, where no other is named.
const SnapshotFolder = "snapshot"
