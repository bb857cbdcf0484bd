package host

import (
	"context"
	"io"

	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

// Trees is a Host that can keep backups of directory trees.
type Trees interface {
	Host
	// OpenTrees opens a folder of such backups. A missing one is fs.ErrNotExist unless it is to be created.
	OpenTrees(ctx context.Context, path string, o tree.OpenOptions) (*TreeDir, error)
}

// A TreeDir is an open folder of backups of directory trees, in the roles that it can have; see package tree for what its methods
// promise. It must be closed.
type TreeDir struct {
	Folder
	Files
	TreeBackups
	TreeWriter
	TreeReader
	Contents
	TreeRecords
}

// TreeBackups are those in a folder.
type TreeBackups interface {
	ListTrees(ctx context.Context) (tree.Listing, error)
	// MarkTrees gives the folder its identity, if it has none yet.
	MarkTrees(ctx context.Context) (id string, err error)
	DeleteTrees(ctx context.Context, names []string) (deleted []string, err error)
}

// A TreeWriter makes backups of what is copied between BeginTree and FinishTree.
type TreeWriter interface {
	BeginTree(ctx context.Context, o tree.Order) (tree.Work, error)
	// GrowTree makes all of what BeginTree began but what changed since the base, which is to be copied.
	GrowTree(ctx context.Context, g tree.Growth) error
	// FollowTree reads files soon after they were copied, until the context ends, for FinishTree to have less to do. That it
	// failed is of no consequence.
	FollowTree(ctx context.Context, name string) error
	// SavePartialTree puts what was copied so far on disk, for a later run to go on with.
	SavePartialTree(ctx context.Context, name string) error
	// FinishTree makes a backup of what was copied. It tells progress, in bytes read; progress may be nil.
	FinishTree(ctx context.Context, r tree.Result, progress func(bytes int64)) (tree.Record, error)
}

// A TreeReader reads what backups hold.
type TreeReader interface {
	// ExportTree writes the checksums of a backup.
	ExportTree(ctx context.Context, name string, w io.Writer) error
	IndexTrees(ctx context.Context, o tree.IndexOptions) (tree.Indexed, error)
}
