package local

import (
	"context"
	"path"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/attributes"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/records"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

// records are those of the backups in the directory.
func (d *Dir) records() records.Folder {
	return records.Folder{Dir: d.dir, Path: d.status.Path, Read: d.file, Write: d.writeState, Log: d.host.log}
}

// writeState replaces a file of ours in the state directory, on disk too.
func (d *Dir) writeState(name string, content []byte) error {
	state, err := openState(d.dir, true)
	if err != nil {
		return err
	}
	defer state.Close()
	if err := replaceFile(state, path.Base(name), content); err != nil {
		return err
	}
	return state.Sync()
}

func (d *Dir) Continue(_ context.Context, c host.Continuation) error { return d.records().Continue(c) }

func (d *Dir) ContinueTrees(ctx context.Context, source tree.Origin, older []tree.Origin) error {
	return d.trees().Continue(ctx, source, older)
}

func (d *Dir) Attributes(_ context.Context, name, parent string) (attributes.List, error) {
	if err := d.MustHold(name, parent); err != nil {
		return attributes.List{}, err
	}
	return attributes.In(d.dir).Of(name, parent)
}

func (d *Dir) SetAttributes(_ context.Context, name string, l attributes.List) (attributes.Report, error) {
	root, err := btrfs.OpenDirAt(d.dir, name)
	if err != nil {
		return attributes.Report{}, err
	}
	defer root.Close()
	return attributes.Set(root, l), nil
}
