package heal

import (
	"context"
	"errors"
	"fmt"
	"os"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/hint"
)

// A Folder is an open directory of backups, which is borrowed.
type Folder struct{ dir *os.File }

// In gives the folder that dir is open on.
func In(dir *os.File) Folder { return Folder{dir} }

// check refuses where nothing can be healed.
func (f Folder) check() error {
	if err := btrfs.CheckFilesystem(f.dir); err != nil {
		return hint.New(fmt.Errorf("healing backups in %s: %w", f.dir.Name(), err), "copy what is damaged from the source, or make a new backup")
	}
	if os.Geteuid() != 0 {
		return hint.New(errors.New("healing needs root on the machine with the backup"), "run it with sudo there, or use --ssh-sudo")
	}
	return nil
}

// FindDamage is Find.
func (f Folder) FindDamage(ctx context.Context, name string, found func(Damage), progress func(bytes int64)) (Searched, error) {
	if err := f.check(); err != nil {
		return Searched{}, err
	}
	return Find(ctx, f.dir, name, found, progress)
}

// PutBlockBack is PutBlockBack.
func (f Folder) PutBlockBack(_ context.Context, name string, p Piece) ([]Copy, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	return PutBlockBack(f.dir, name, p)
}

// RewriteExtents is RewriteExtents.
func (f Folder) RewriteExtents(ctx context.Context, name string, pieces []Piece) (Rewritten, error) {
	if err := f.check(); err != nil {
		return Rewritten{}, err
	}
	return RewriteExtents(ctx, f.dir, name, pieces)
}

// CleanHealed is Clean.
func (f Folder) CleanHealed(context.Context) error {
	if err := f.check(); err != nil {
		return err
	}
	return Clean(f.dir)
}

// ReadPiece is ReadPiece.
func (f Folder) ReadPiece(_ context.Context, name string, p Piece) (Piece, error) {
	return ReadPiece(f.dir, name, p)
}
