package host

import (
	"context"
	"io"

	"btrfs-backup/internal/rsh"
	"btrfs-backup/internal/tree"
)

// Trees is a Host that can keep backups of directory trees.
type Trees interface {
	Host
	// OpenTrees opens a folder of such backups. A missing one is fs.ErrNotExist unless it is to be created.
	OpenTrees(ctx context.Context, path string, o tree.OpenOptions) (TreeDir, error)
	// Rsync makes the machine reachable for an rsync that runs on this one, until the link is closed.
	Rsync(ctx context.Context) (*rsh.Link, error)
}

// A TreeDir is a Dir that keeps backups of directory trees; see package tree for what its methods promise.
type TreeDir interface {
	Dir
	ListTrees(ctx context.Context) (tree.Listing, error)
	// MarkTrees gives the folder its identity, if it has none yet.
	MarkTrees(ctx context.Context) (id string, err error)
	BeginTree(ctx context.Context, o tree.Order) (tree.Work, error)
	// KeepTree puts what was copied so far on disk, for a later run to go on with.
	KeepTree(ctx context.Context, name string) error
	// FollowTree reads files soon after they were copied, until the context ends, for FinishTree to have less to do. That it
	// failed is of no consequence.
	FollowTree(ctx context.Context, name string) error
	// FinishTree makes a backup of what was copied. It tells progress, in bytes read; progress may be nil.
	FinishTree(ctx context.Context, r tree.Result, progress func(bytes int64)) (tree.Record, error)
	DeleteTrees(ctx context.Context, names []string) (deleted []string, err error)
	// VerifyTree tells progress of the bytes that were read, and are to be read in all.
	VerifyTree(ctx context.Context, name string, o tree.VerifyOptions, found func(tree.Difference), progress func(read, total int64)) (tree.Verified, error)
	// ExportTree writes the checksums of a backup.
	ExportTree(ctx context.Context, name string, w io.Writer) error
	IndexTrees(ctx context.Context, o tree.IndexOptions) (tree.Indexed, error)
}
