package local

import (
	"context"
	"errors"
	"fmt"
	"os"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/heal"
	"btrfs-backup/internal/hint"
)

// mustHeal refuses where nothing can be healed.
func (d *Dir) mustHeal() error {
	switch {
	case !d.status.Btrfs:
		return hint.New(fmt.Errorf("healing backups in %s: %w", d.status.Path, btrfs.ErrNotBtrfs), "copy what is damaged from the source, or make a new backup")
	case os.Geteuid() != 0:
		return hint.New(errors.New("healing needs root on the machine with the backup"), "run it with sudo there, or use --ssh-sudo")
	}
	return nil
}

func (d *Dir) FindDamage(ctx context.Context, name string, found func(heal.Damage), progress func(bytes int64)) (heal.Searched, error) {
	if err := d.mustHeal(); err != nil {
		return heal.Searched{}, err
	}
	return heal.Find(ctx, d.dir, name, found, progress)
}

func (d *Dir) PutBlockBack(_ context.Context, name string, p heal.Piece) ([]heal.Copy, error) {
	if err := d.mustHeal(); err != nil {
		return nil, err
	}
	return heal.PutBlockBack(d.dir, name, p)
}

func (d *Dir) RewriteExtents(ctx context.Context, name string, pieces []heal.Piece) (heal.Rewritten, error) {
	if err := d.mustHeal(); err != nil {
		return heal.Rewritten{}, err
	}
	return heal.RewriteExtents(ctx, d.dir, name, pieces)
}

func (d *Dir) CleanHealed(context.Context) error {
	if err := d.mustHeal(); err != nil {
		return err
	}
	return heal.Clean(d.dir)
}

func (d *Dir) ReadPiece(_ context.Context, name string, p heal.Piece) (heal.Piece, error) {
	return heal.ReadPiece(d.dir, name, p)
}
