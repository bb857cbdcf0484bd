package verify

import (
	"context"
	"io"
	"path"

	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

// Export writes the checksums of all backups that a path stands for, as sha256sum takes them.
func Export(ctx context.Context, h host.Trees, at string, to io.Writer) error {
	backups, err := backupsAt(ctx, Place{h, at})
	if err != nil {
		return err
	}
	for _, backup := range backups {
		if err := export(ctx, h, backup.Path, to); err != nil {
			return err
		}
	}
	return nil
}

func export(ctx context.Context, h host.Trees, backup string, to io.Writer) error {
	dir, err := h.OpenTrees(ctx, path.Dir(backup), tree.OpenOptions{})
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.ExportTree(ctx, path.Base(backup), to)
}
