package replace

import (
	"fmt"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/attributes"
)

// giveAttributes gives files of the new subvolume what its snapshot lacks, when nothing is to be moved in it any more: some keep it as it
// is.
func (w *work) giveAttributes() error {
	if w.Attributes == nil || w.DryRun || w.report.UUID.IsZero() {
		return nil
	}
	l, err := attributes.Decode(w.Attributes)
	if err != nil || len(l.Files) == 0 {
		return err
	}
	root, err := btrfs.OpenDirAt(w.top, w.report.Path)
	if err != nil {
		return err
	}
	defer root.Close()
	if info, err := btrfs.Info(root); err != nil || info.UUID != w.report.UUID {
		return fmt.Errorf("%s is not what was restored: what chattr had set of files is not set again", w.report.Path)
	}
	w.report.Attributes = attributes.Set(root, l)
	return nil
}
