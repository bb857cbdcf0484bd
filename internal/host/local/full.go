package local

import (
	"errors"
	"fmt"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/receive"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"

	"golang.org/x/sys/unix"
)

// explainFull tells what is full, if that is why something could not be stored in the directory. What was stored is to be there still.
func (d *Dir) explainFull(err error) error {
	switch {
	case errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%w: a quota group (btrfs qgroup show -r) allows no more in %s", err, d.status.Path)
	case !errors.Is(err, unix.ENOSPC):
		return err
	}
	_ = btrfs.SyncFilesystem(d.dir) // or what is not on disk yet would count as free
	room, asking := btrfs.Fullest(d.dir)
	if asking != nil || room.Total == 0 {
		return err
	}
	c := new(receive.Error)
	if errors.As(err, &c) && c.Command == sendstream.CmdSetXattr && room.Used < room.Total/4*3 { // it is too long
		return err
	}
	return fmt.Errorf("%w: the %s space of %s is full, %s of %s are used", err, room.Kind, d.status.Path, progress.Bytes(int64(room.Used)),
		progress.Bytes(int64(room.Total)))
}
