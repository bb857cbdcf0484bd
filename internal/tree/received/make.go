package received

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/survey"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/verify"
)

// Make makes the manifest of a subvolume that was just received, if there is none. Files that it has unchanged from its parent in the folder,
// by inode and time of change, are taken from the manifest of that.
func (f Folder) Make(ctx context.Context, root *os.File) error {
	info, err := btrfs.Info(root)
	if err != nil {
		return err
	}
	if !info.ReadOnly || !info.Received() {
		return errors.New("it is no backup")
	}
	if file, err := f.state.Open(state.SubvolumeFile(info.UUID)); err == nil {
		return file.Close()
	}
	base, err := f.state.Open(state.SubvolumeFile(info.ParentUUID))
	if errors.Is(err, fs.ErrNotExist) {
		base, err = nil, nil
	}
	if err != nil {
		return err
	}
	if base != nil {
		defer base.Close()
	}
	draft, err := f.state.CreateUnnamed(state.SubvolumeFile(info.UUID))
	if err != nil {
		return err
	}
	defer draft.Abandon()
	s := reading{Folder: f, root: root, info: info, found: func(verify.Difference) {}, progress: func(int64, int64) {}, sharing: make(map[string]bool)}
	o := survey.Options{Base: base, Subvolume: true, Bad: s.bad, Progress: func(int64) {},
		Unread: func(path string, err error) { s.bad(path, 0, 0, err) }}
	if _, err := survey.Tree(ctx, root, o, draft); err != nil {
		return err
	}
	if s.differences > 0 {
		return fmt.Errorf("%d of its files or blocks cannot be read", s.differences)
	}
	return keep(draft, f)
}
