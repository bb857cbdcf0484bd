package verify

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/copies"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/relink"
)

// A Relinked tells what came of relinking a backup.
type Relinked struct {
	Result
	DryRun bool       `json:"dry_run,omitempty"`
	Linked bool       `json:"linked"`            // it is a copy of the original, for the next run too
	Before bool       `json:"linked_before"`     // and was one already; then nothing was read
	UUID   btrfs.UUID `json:"received_uuid"`     // that it gets, or has
	Was    btrfs.UUID `json:"received_uuid_was"` // before
}

// Relink lets a backup count as a copy of a snapshot, or of another copy, again, if it equals that in everything: one that lost its
// received UUID, one that was altered and put right, or one of a snapshot that was altered and put right. A difference changes nothing.
func Relink(ctx context.Context, backup, original Place, dryRun bool, w Watcher) (r Relinked, err error) {
	if backup, err = backup.meant(ctx); err != nil {
		return r, err
	}
	if original, err = original.meant(ctx); err != nil {
		return r, err
	}
	r = Relinked{Result: Result{Backup: backup.String(), Against: original.String()}, DryRun: dryRun}
	dir, err := backup.Host.Open(ctx, path.Dir(backup.Path))
	if err != nil {
		return r, err
	}
	defer dir.Close()
	if !dryRun {
		if _, err := dir.Lock(ctx, nil); err != nil {
			return r, err
		}
	}
	is, there, err := subvolumeAt(ctx, backup)
	if err != nil {
		return r, err
	}
	of, _, err := subvolumeAt(ctx, original)
	if err != nil {
		return r, err
	}
	if is.UUID == of.UUID {
		return r, hint.New(fmt.Errorf("%s and %s are the same subvolume", backup, original), "name the backup, and the snapshot that it is to be a copy of")
	}
	r.UUID, r.Was = of.Identity(), is.ReceivedUUID
	fits := func(s btrfs.Subvolume) bool { return s.UUID == is.UUID }
	if r.Before = slices.ContainsFunc(copies.New([]btrfs.Subvolume{of}, there).Of(of), fits); r.Before {
		r.Linked = true
		return r, nil
	}
	backup.Path = path.Join(path.Dir(backup.Path), is.Name)
	r.Result = Against(ctx, backup, original, w)
	if r.Failure != nil || ctx.Err() != nil || len(r.Differences) > 0 || dryRun {
		return r, ctx.Err()
	}
	return r, r.link(ctx, dir, is, of, original)
}

// link marks the backup, unless the original changed meanwhile.
func (r *Relinked) link(ctx context.Context, dir *host.Dir, is, of btrfs.Subvolume, original Place) error {
	now, _, err := subvolumeAt(ctx, original)
	if err != nil {
		return err
	}
	if now.UUID != of.UUID || now.AlteredIn != of.AlteredIn || !now.ReadOnly {
		return fmt.Errorf("%s was changed while it was compared", original)
	}
	o := relink.Order{Name: is.Name, UUID: is.UUID, ReadIn: is.ChangedIn, Received: of.Identity(), SentIn: now.ChangedIn,
		Equal: r.Against, Digest: r.Digest}
	if of.ReceivedUUID.IsZero() {
		o.Origin = of.ParentUUID
	}
	if err := dir.Relink(ctx, o); err != nil {
		return err
	}
	r.Linked = true
	return nil
}

// subvolumeAt gives the read-only subvolume at a path, which may be a link in its folder, and what is there.
func subvolumeAt(ctx context.Context, p Place) (btrfs.Subvolume, btrfs.Listing, error) {
	opened, err := p.Host.Open(ctx, p.Path)
	if err != nil {
		return btrfs.Subvolume{}, btrfs.Listing{}, err
	}
	status := opened.Status()
	if err := opened.Close(); err != nil {
		return btrfs.Subvolume{}, btrfs.Listing{}, err
	}
	_, content, err := p.Host.List(ctx, path.Dir(p.Path))
	if err != nil {
		return btrfs.Subvolume{}, btrfs.Listing{}, err
	}
	i := slices.IndexFunc(content.InDirectory, func(s btrfs.Subvolume) bool { return s.UUID == status.Subvolume.UUID })
	switch {
	case !status.Btrfs || !status.IsRoot || i < 0:
		return btrfs.Subvolume{}, btrfs.Listing{}, hint.New(fmt.Errorf("%s: %w", p, btrfs.ErrNotSubvolume), "name a backup and a snapshot by their paths")
	case !content.InDirectory[i].ReadOnly:
		return btrfs.Subvolume{}, btrfs.Listing{}, hint.Newf(errors.New(p.String()+" can be written to"), "make it read-only first: btrfs property set -ts %s ro true", p.Path)
	}
	return content.InDirectory[i], content.Listing, nil
}
