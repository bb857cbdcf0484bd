package local

import (
	"context"
	"fmt"
	"path"
	"slices"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/failpoint"
	"btrfs-backup/internal/host"
	"btrfs-backup/internal/tree"
)

// Continue writes what is on record of backups before what is of sources: each alone is true.
func (d *Dir) Continue(_ context.Context, c host.Continuation) error {
	if c.Source.Subvolume.IsZero() || slices.Contains(c.Older, btrfs.UUID{}) {
		return fmt.Errorf("recording what a source continues in %s: its UUID is not known", d.status.Path)
	}
	origins, err := host.ParseOrigins(d.file(host.OriginsFile))
	if err != nil {
		return host.BadOrigins(d.status.Path, err)
	}
	about, err := host.ParseAbout(d.file(host.AboutFile))
	if err != nil {
		return host.BadAbout(d.status.Path, err)
	}
	listing, err := btrfs.List(d.dir)
	if err != nil {
		return err
	}
	state, err := openState(d.dir, true)
	if err != nil {
		return err
	}
	defer state.Close()
	if len(c.Backups) > 0 {
		if origins, err = origins.Claim(c.Backups, c.Source.Subvolume); err != nil {
			return fmt.Errorf("recording what a source continues in %s: %w", d.status.Path, err)
		}
		content, err := origins.Marshal()
		if err != nil {
			return err
		}
		if err := replaceFile(state, path.Base(host.OriginsFile), content); err != nil {
			return err
		}
		failpoint.Reach("backups claimed")
	}
	for _, older := range c.Older {
		about.Continue(c.Source, older)
	}
	about.Tidy(listing, origins)
	content, err := about.Marshal()
	if err != nil {
		return err
	}
	if err := replaceFile(state, path.Base(host.AboutFile), content); err != nil {
		return err
	}
	return state.Sync()
}

func (d *Dir) ContinueTrees(ctx context.Context, source tree.Origin, older []tree.Origin) error {
	return d.trees().Continue(ctx, source, older)
}
