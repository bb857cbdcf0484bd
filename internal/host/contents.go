package host

import (
	"context"
	"io"

	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

// Contents are what subvolumes and copies of directories in a directory hold.
type Contents interface {
	// VerifyTree reads one, and compares it with its manifest. That of a subvolume is made if there is none. It tells progress of the
	// bytes that were read, and are to be read in all.
	VerifyTree(ctx context.Context, name string, o tree.VerifyOptions, found func(tree.Difference), progress func(read, total int64)) (tree.Verified, error)
	// MakeManifest makes the manifest of a received subvolume, unless it has one. What its parent has is not read.
	MakeManifest(ctx context.Context, name string) error
	// DescribeTree writes the manifest of the directory itself, for it to be compared with that of a copy.
	DescribeTree(ctx context.Context, to io.Writer, found func(tree.Difference), progress func(read, total int64)) (tree.Verified, error)
}
