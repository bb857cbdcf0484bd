package replace

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"

	"golang.org/x/sys/unix"
)

// Where the root is one of snapper's snapshots, .snapshots/N/snapshot, and mounted since it is the default subvolume, the restored one
// becomes the next snapshot and the default. No name changes.

// snapperNumber gives the number of a root that is a snapshot of snapper's.
func (w *work) snapperNumber() (number int, ok bool) {
	number, err := strconv.Atoi(path.Base(w.at))
	return number, err == nil && w.name == "snapshot" && path.Base(path.Dir(w.at)) == ".snapshots"
}

// defaultSubvolume gives the one that is mounted when none is named, which is zero for the top level.
func (w *work) defaultSubvolume() btrfs.Subvolume {
	i := slices.IndexFunc(w.all.All, func(s btrfs.Subvolume) bool { return s.Default })
	if i < 0 {
		return btrfs.Subvolume{}
	}
	return w.all.All[i]
}

// asSnapper makes the next snapshot of snapper's and lets it be the default.
func (w *work) asSnapper(ctx context.Context, old, snapshot *os.File, info btrfs.Subvolume, number int, move []string) error {
	switch d := w.defaultSubvolume(); {
	case d.ParentUUID == w.Snapshot && d.Name == "snapshot" && d.ID != info.ID: // an earlier attempt came that far
		return w.endSnapper(ctx, old, d, move)
	case d.ID != info.ID:
		return hint.New(fmt.Errorf("%s is a snapshot of snapper's, and not the one that is mounted by default", w.path(w.name)),
			"restore to a new subvolume, or roll back with snapper")
	}
	snapshots, err := btrfs.OpenDirAt(w.top, path.Dir(w.at))
	if err != nil {
		return err
	}
	defer snapshots.Close()
	next, err := nextNumber(snapshots, number)
	if err != nil {
		return err
	}
	hidden := ".btrfs-backup.restoring"
	if err := discard(ctx, snapshots, hidden); err != nil {
		return err
	}
	if err := unix.Mkdirat(int(snapshots.Fd()), hidden, 0o755); err != nil {
		return os.NewSyscallError("mkdir", err)
	}
	dir, err := btrfs.OpenDirAt(snapshots, hidden)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := btrfs.SnapshotWritable(snapshot, dir, "snapshot"); err != nil {
		return err
	}
	failpoint.Reach("writable snapshot made")
	if err := writeInfo(dir, next); err != nil {
		return err
	}
	if err := btrfs.SyncFilesystem(w.top); err != nil {
		return err
	}
	made, err := btrfs.InfoAt(dir, "snapshot")
	if err != nil {
		return err
	}
	if err := btrfs.Move(snapshots, hidden, snapshots, strconv.Itoa(next)); err != nil {
		return err
	}
	failpoint.Reach("subvolume in its place")
	if err := btrfs.SetDefault(w.top, made.ID); err != nil {
		return err
	}
	failpoint.Reach("default set")
	return w.endSnapper(ctx, old, made, move)
}

// endSnapper moves what belongs into the new root.
func (w *work) endSnapper(ctx context.Context, old *os.File, info btrfs.Subvolume, move []string) error {
	at, err := pathOf(w.top, info.ID)
	if err != nil {
		return err
	}
	made, err := btrfs.OpenDirAt(w.top, at)
	if err != nil {
		return err
	}
	defer made.Close()
	w.report.UUID, w.report.Of, w.report.Path, w.report.Default = info.UUID, info.ParentUUID, at, true
	if err := w.moveAll(ctx, old, made, move); err != nil {
		return err
	}
	if err := w.tellLeft(); err != nil {
		return err
	}
	return btrfs.SyncFilesystem(w.top)
}

// nextNumber gives the number after the highest one.
func nextNumber(snapshots *os.File, highest int) (int, error) {
	names, err := namesIn(snapshots)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		if n, err := strconv.Atoi(name); err == nil {
			highest = max(highest, n)
		}
	}
	return highest + 1, nil
}

// writeInfo tells snapper what the snapshot is: snapper/Snapshot.cc, in UTC.
func writeInfo(dir *os.File, number int) error {
	content := fmt.Sprintf(`<?xml version="1.0"?>
<snapshot>
  <type>single</type>
  <num>%d</num>
  <date>%s</date>
  <description>restored by btrfs-backup</description>
</snapshot>
`, number, time.Now().UTC().Format(time.DateTime))
	fd, err := unix.Openat(int(dir.Fd()), "info.xml", unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return os.NewSyscallError("open", err)
	}
	f := os.NewFile(uintptr(fd), "info.xml")
	_, err = f.WriteString(content)
	return errors.Join(err, f.Sync(), f.Close())
}

// discard removes what an earlier attempt left.
func discard(ctx context.Context, snapshots *os.File, hidden string) error {
	dir, err := btrfs.OpenDirAt(snapshots, hidden)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := btrfs.Delete(dir, "snapshot"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := walk.RemoveFiles(ctx, snapshots, hidden); err != nil {
		return err
	}
	return unix.Unlinkat(int(snapshots.Fd()), hidden, unix.AT_REMOVEDIR)
}
