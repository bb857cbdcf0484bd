package heal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/reflink"
	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"
	"github.com/btrfs-backup/btrfs-backup/lock"

	"golang.org/x/sys/unix"
)

// replace puts a snapshot of a backup, with good data, in its place. why tells that it is left as it is.
func (d *doctor) replace(ctx context.Context, id uint64, parts []part) (why string, err error) {
	s, ok := d.places.roots.Subvolume(id)
	if !ok {
		return "", nil // deleted since
	}
	if s.IsTop() {
		return "it is no backup", nil
	}
	if !slices.ContainsFunc(parts, func(p part) bool { return p.isKnown(d.geometry.Sector) }) {
		return "it has other damage in the same data: heal it from its own source", nil
	}
	dir, err := btrfs.OpenInode(d.folder, s.Container, s.DirID, unix.O_RDONLY|unix.O_DIRECTORY, d.places.file(s.Container, s.DirID))
	if err != nil {
		return "", err
	}
	defer dir.Close()
	release, err := d.lock(ctx, dir)
	if held := new(lock.HeldError); errors.As(err, &held) {
		return "another run is at work in its folder", nil
	}
	if err != nil {
		return "", err
	}
	defer release()
	if err := clean(dir); err != nil {
		return "", err
	}
	old, why, err := openReplaceable(dir, id)
	if err != nil || old == nil {
		return why, err
	}
	defer old.Close()
	hidden := btrfs.Incoming(s.Name)
	if err := btrfs.SnapshotWritable(old, dir, hidden); err != nil {
		return "", err
	}
	failpoint.Reach("heal: the snapshot is made")
	if err := d.mend(dir, hidden, old, parts); err != nil {
		return "", errors.Join(err, btrfs.Delete(dir, hidden))
	}
	failpoint.Reach("heal: the snapshot is complete")
	if err := btrfs.Exchange(dir, s.Name, hidden); err != nil {
		return "", errors.Join(err, btrfs.Delete(dir, hidden))
	}
	if err := btrfs.SyncFilesystem(dir); err != nil {
		return "", err
	}
	failpoint.Reach("heal: the names are exchanged")
	if err := btrfs.Delete(dir, hidden); err != nil {
		return "", err
	}
	if err := state.In(dir).Forget(s.UUID); err != nil {
		return "", err
	}
	failpoint.Reach("heal: the old one is deleted")
	if !d.allKnown(parts) {
		return "it has other damage in the same data: heal it from its own source", nil
	}
	return "", nil
}

func (d *doctor) allKnown(parts []part) bool {
	return !slices.ContainsFunc(parts, func(p part) bool { return !p.isKnown(d.geometry.Sector) })
}

// lock locks the directory of another backup.
func (d *doctor) lock(ctx context.Context, dir *os.File) (release func() error, err error) {
	own, err := btrfs.IdentifyDir(d.folder)
	if err != nil {
		return nil, err
	}
	other, err := btrfs.IdentifyDir(dir)
	if err != nil {
		return nil, err
	}
	if own == other {
		return func() error { return nil }, nil
	}
	l, err := lock.Acquire(ctx, dir, nil)
	if err != nil {
		return nil, err
	}
	return l.Release, nil
}

// openReplaceable opens a backup, if it is still there. why tells that it is none that may be replaced.
func openReplaceable(dir *os.File, id uint64) (old *os.File, why string, err error) {
	listing, err := btrfs.List(dir)
	if err != nil {
		return nil, "", err
	}
	i := slices.IndexFunc(listing.InDirectory, func(s btrfs.Subvolume) bool { return s.ID == id })
	if i < 0 {
		return nil, "", nil // deleted since
	}
	s := listing.InDirectory[i]
	switch {
	case btrfs.IsIncoming(s.Name):
		return nil, "it is incomplete", nil
	case !s.ReadOnly || !s.Received():
		return nil, "it is no backup", nil
	case s.AlteredIn != 0:
		return nil, "it was changed since it was received", nil
	case s.InUse() != "":
		return nil, "it is " + s.InUse(), nil
	}
	if old, err = btrfs.OpenDirAt(dir, s.Name); err != nil {
		return nil, "", err
	}
	within, err := btrfs.Children(old)
	if err == nil && len(within) == 0 {
		return old, "", nil
	}
	old.Close()
	return nil, "it holds other subvolumes", err
}

// clean removes what a killed run left of the healing of backups in a folder, which must be locked.
func clean(folder *os.File) error {
	listing, err := btrfs.List(folder)
	if err != nil {
		return err
	}
	complete := make(map[string]bool)
	for _, s := range listing.InDirectory {
		complete[s.Name] = s.ReadOnly && s.Received()
	}
	for _, s := range listing.InDirectory {
		if name, ok := btrfs.IncomingOf(s.Name); ok && complete[name] {
			if err := btrfs.Delete(folder, s.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// mend makes a snapshot of a backup a complete one with good data.
func (d *doctor) mend(dir *os.File, hidden string, old *os.File, parts []part) error {
	snapshot, err := btrfs.OpenDirAt(dir, hidden)
	if err != nil {
		return err
	}
	defer snapshot.Close()
	info, err := btrfs.Info(snapshot)
	if err != nil {
		return err
	}
	byInode := make(map[uint64][]part)
	for _, p := range parts {
		if p.isKnown(d.geometry.Sector) {
			byInode[p.inode] = append(byInode[p.inode], p)
		}
	}
	for inode, parts := range byInode {
		if err := d.mendFile(dir, info.ID, inode, parts); err != nil {
			return err
		}
		failpoint.Reach("heal: a file is rewritten")
	}
	if err := btrfs.SyncFilesystem(dir); err != nil {
		return err
	}
	for inode, parts := range byInode {
		if err := d.mustBeWhole(dir, info.ID, inode, parts); err != nil {
			return err
		}
	}
	before, err := btrfs.Info(old)
	if err != nil {
		return err
	}
	if err := state.In(dir).PassOn(before.UUID, info.UUID); err != nil {
		return err
	}
	if err := btrfs.SetReceivedAs(snapshot, old); err != nil {
		return err
	}
	failpoint.Reach("heal: the snapshot is marked as received")
	if err := btrfs.SetReadOnly(dir, hidden, true); err != nil {
		return err
	}
	return errors.Join(btrfs.Settle(dir, hidden), btrfs.SyncFilesystem(dir))
}

// mendFile lets a file have the extents of the scratch files. What else of it this changes is put right, but for its ctime.
func (d *doctor) mendFile(dir *os.File, subvolume, inode uint64, parts []part) error {
	file, err := btrfs.OpenInode(dir, subvolume, inode, unix.O_RDWR|unix.O_NOATIME, d.places.file(parts[0].subvolume, inode))
	if err != nil {
		return err
	}
	defer file.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	const capabilities = "security.capability" // writing removes them
	value := make([]byte, 64)
	n, capErr := unix.Fgetxattr(int(file.Fd()), capabilities, value)
	for _, p := range parts {
		if err := clone(file, p, st.Size); err != nil {
			return err
		}
	}
	if capErr == nil {
		if err := unix.Fsetxattr(int(file.Fd()), capabilities, value[:n], 0); err != nil {
			return fmt.Errorf("setting the capabilities of %s: %w", file.Name(), err)
		}
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", file.Fd()), times, 0); err != nil {
		return fmt.Errorf("setting the times of %s: %w", file.Name(), err)
	}
	return nil
}

// clone lets a part of a file have what the scratch file holds.
func clone(file *os.File, p part, size int64) error {
	fd := int(file.Fd())
	if p.Unwritten { // reserved anew
		const punch = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
		return errors.Join(unix.Fallocate(fd, punch, p.Offset, p.Length), unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, p.Offset, p.Length))
	}
	if err := reflink.Range(p.new.scratch, file, p.Skip, p.Length, p.Offset); err != nil || p.End() <= size {
		return err
	}
	return file.Truncate(size) // its last block became whole
}

// mustBeWhole reads what was rewritten of a file from the disk.
func (d *doctor) mustBeWhole(dir *os.File, subvolume, inode uint64, parts []part) error {
	file, err := btrfs.OpenInode(dir, subvolume, inode, unix.O_RDONLY|unix.O_NOATIME, d.places.file(parts[0].subvolume, inode))
	if err != nil {
		return err
	}
	defer file.Close()
	forget(file)
	for _, p := range parts {
		if _, err := io.Copy(io.Discard, io.NewSectionReader(file, p.Offset, p.Length)); err != nil {
			return err
		}
	}
	return nil
}
