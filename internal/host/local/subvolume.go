package local

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/host"

	"golang.org/x/sys/unix"
)

// MustHold fails unless names are those of subvolumes in the directory. An empty name is none.
func (d *Dir) MustHold(names ...string) error {
	for _, name := range names {
		if name == "" {
			continue
		}
		if _, err := d.Subvolume(name); err != nil {
			return err
		}
	}
	return nil
}

// Subvolume describes a subvolume in the directory.
func (d *Dir) Subvolume(name string) (btrfs.Subvolume, error) {
	sub, err := d.openSubvolume(name)
	if err != nil {
		return btrfs.Subvolume{}, err
	}
	defer sub.Close()
	return btrfs.Info(sub)
}

// MustBeReceived fails unless the unfinished backup of a name is that of the UUID, and complete.
func (d *Dir) MustBeReceived(name string, uuid btrfs.UUID) error {
	s, err := d.Subvolume(btrfs.Incoming(name))
	if err != nil {
		return err
	}
	if s.UUID != uuid || !s.ReadOnly || s.ReceivedUUID.IsZero() {
		return fmt.Errorf("%s was not received completely", filepath.Join(d.status.Path, name))
	}
	return nil
}

func (d *Dir) Nested(context.Context) ([]host.Nested, error) {
	children, err := btrfs.Children(d.dir)
	if err != nil {
		return nil, err
	}
	if len(children) == 0 {
		return nil, nil
	}
	roots, err := btrfs.ReadRoots(d.dir)
	alone := errors.Is(err, unix.EPERM) // an ordinary user asks each
	if err != nil && !alone {
		return nil, err
	}
	nested := make([]host.Nested, len(children))
	for i, c := range children {
		info, _ := roots.Subvolume(c.ID)
		if alone {
			info, _ = btrfs.InfoAt(d.dir, c.Path)
		}
		nested[i] = host.Nested{Path: c.Path, ID: c.ID, Container: d.status.Subvolume.ID, ContainerAt: c.DirID}
		if info.ID == c.ID { // else it is deleted, out of reach, or something is mounted over it
			nested[i].ParentUUID, nested[i].ReadOnly = info.ParentUUID, info.ReadOnly
		}
	}
	return nested, nil
}
