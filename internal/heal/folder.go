package heal

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
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

// CleanHealed removes what a killed run left. The folder must be locked.
func (f Folder) CleanHealed(context.Context) error {
	if err := f.check(); err != nil {
		return err
	}
	return clean(f.dir)
}
