// Package inventory tells what places hold: snapshots, backups of subvolumes and of directories, and sets of them, on any host. What a
// policy makes of them is decided here, too. It changes nothing.
package inventory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/internal/set"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

// A Place is a folder of snapshots or backups, or a directory in which there are such folders.
type Place struct {
	Folder string // as people know it
	Host   host.Trees
	Path   string // absolute, there
	host.Content
	Trees   tree.Listing // backups of directories
	Below   []Place      // folders of backups in it
	Sets    []host.Set   // of backups in these
	Stored  bool         // it is a store, or a source in one, and on no host
	Streams *Streams     // the backups of a source in a store
}

// Look lists the place at an absolute path and the folders of backups in it. A source stands for its snapshot folder, which is
// relative to it unless it is absolute. A folder below that cannot be listed is as none.
func Look(ctx context.Context, h host.Trees, path, snapshotFolder string) (Place, error) {
	c, err := lookAt(ctx, h, path, snapshotFolder)
	if err == nil && len(c.Trees.Below) > 0 {
		c.Sets, err = set.In(ctx, h, path)
	}
	for _, below := range c.Trees.Below {
		if inner, innerErr := lookAt(ctx, h, filepath.Join(path, below), ""); innerErr == nil {
			c.Below = append(c.Below, inner)
		}
	}
	return c, err
}

// Folders gives those that a policy is applied to: the place, and the folders of backups below it, but for members of its sets.
func (p Place) Folders() []Place {
	folders := slices.DeleteFunc(slices.Clone(p.Below), p.IsMember)
	if len(folders) == 0 || len(p.InDirectory) > 0 || len(p.Sets) > 0 {
		folders = append([]Place{p}, folders...)
	}
	return folders
}

// withoutRecord is the error about dated entries of which nothing is known; nil if there are none.
func withoutRecord(folder string, names []string) error {
	undated := func(name string) bool { return TimeIn(name).IsZero() }
	dated := slices.DeleteFunc(slices.Clone(names), undated)
	if len(dated) == 0 {
		return nil
	}
	return hint.Newf(fmt.Errorf("%s: there is no record of %s", folder, report.Count(len(dated), "dated name")),
		"its %s is gone, or another program made them: look into them as into any directory", tree.StateDir)
}

// lookAt lists a place. What is not on btrfs holds backups made by rsync, or nothing of ours.
func lookAt(ctx context.Context, h host.Trees, path, snapshotFolder string) (Place, error) {
	var trees tree.Listing
	found, err := subvolumes(ctx, h, path, snapshotFolder)
	if err != nil && !errors.Is(err, btrfs.ErrNotBtrfs) {
		return Place{}, err
	}
	dir, treeErr := h.OpenTrees(ctx, path, tree.OpenOptions{})
	if treeErr == nil {
		trees, treeErr = dir.ListTrees(ctx)
		treeErr = errors.Join(treeErr, dir.Close())
	}
	switch {
	case err == nil && found.Folder != h.String()+path: // the snapshots of a source
		return found, nil
	case err == nil:
		found.Trees = trees
		return found, nil
	case treeErr != nil:
		return Place{}, err
	case trees.ID == "" && len(trees.Below) == 0:
		return Place{}, cmp.Or(withoutRecord(h.String()+path, trees.Others), err)
	}
	return Place{Folder: h.String() + path, Host: h, Path: path, Content: host.Content{Free: trees.Free}, Trees: trees}, nil
}
