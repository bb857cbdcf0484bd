package tree

import (
	"context"
	"fmt"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/internal/tree/index"
)

// Index makes the index of contents anew; see index.Rebuild.
func (f *Folder) Index(ctx context.Context, o IndexOptions) (Indexed, error) {
	list, err := f.list(ctx)
	var indexed Indexed
	if err == nil {
		trees := index.Trees{Others: list.Others, Btrfs: list.Btrfs}
		for _, r := range slices.Backward(list.Backups) { // the newest stay longest
			trees.Backups = append(trees.Backups, r.Name)
		}
		indexed, err = f.contents().Rebuild(ctx, trees, oneAtATime(o.Progress))
	}
	if err != nil {
		return Indexed{}, fmt.Errorf("indexing %s: %w", f.dir.Name(), err)
	}
	return indexed, nil
}

func (f *Folder) contents() index.Index { return index.Index{Folder: f.dir, Log: f.log} }
