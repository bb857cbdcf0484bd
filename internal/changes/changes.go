// Package changes tells what differs between two snapshots of a subvolume, or two backups of a directory: from the stream that btrfs
// send makes of the difference without data, or from two manifests. No tree is walked.
//
// It is pure: what reads snapshots is given. It trusts no stream: whatever is in one, there is an error or an answer, in memory that
// is limited.
package changes

import (
	"cmp"

	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
)

// A Kind tells what became of a name.
type Kind string

const (
	Created  Kind = "created"
	Deleted  Kind = "deleted"
	Renamed  Kind = "renamed" // and perhaps modified
	Modified Kind = "modified"
)

// A Change is one difference between an older and a newer tree. A directory that was renamed is one change, whatever is in it.
type Change struct {
	Kind Kind
	Path string        // in the newer tree; of what was deleted, in the older one. "." is the root
	From string        // in the older tree, if it has another path there: it was renamed, or a directory above it was
	Type manifest.Type // of what was deleted, in the older tree
	Link string        // of a further name of a file that is in the older tree, and in which nothing differs: one of its paths there

	// What differs of something that is in both trees. Of a file, what holds the content may differ while the content is the same.
	Content  bool
	Metadata bool // mode, owner, extended attributes
	Times    bool // the time of modification
	// Anew tells that it is another file under the same name, as many programs write files: it counts as modified, though its content
	// may be the same.
	Anew bool

	Was, Is int64 // sizes of a regular file in both trees, in bytes
}

// Old gives the path in the older tree; "" for none.
func (c Change) Old() string {
	if c.Kind == Created {
		return ""
	}
	return cmp.Or(c.From, c.Path)
}

// LooksSame tells that it was made anew with the type, size and time that it had. Of unrelated subvolumes, all is.
func (c Change) LooksSame() bool {
	return c.Kind == Modified && c.Anew && c.Was == c.Is && !c.Times && !c.Metadata
}

// IsNoise tells that no more than the time of a directory changed, as it does with each name in it.
func (c Change) IsNoise() bool {
	return c.Kind == Modified && c.Type == manifest.Directory && !c.Content && !c.Metadata
}

// Compare orders changes as a walk of the newer tree meets them.
func Compare(a, b Change) int {
	return cmp.Or(manifest.Compare(a.Path, b.Path), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.From, b.From))
}

// A Tree is looked at. What it is asked about is in it.
type Tree interface {
	// Stat describes what is at a path, following no link.
	Stat(path string) (manifest.Entry, error)
	// Names gives all paths of an inode that is no directory.
	Names(inode uint64) ([]string, error)
}
