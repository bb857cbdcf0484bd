package replace

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"
	"github.com/btrfs-backup/btrfs-backup/internal/files"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"
	"github.com/btrfs-backup/btrfs-backup/lock"

	"github.com/google/renameio/v2"

	"golang.org/x/sys/unix"
)

// A folder of snapshots holds more than these. The new one has what it held when the snapshot was taken, of which all is out of date.

// passFolder lets the new folder of snapshots have what is in the old one beside them.
func passFolder(ctx context.Context, from, to *os.File) error {
	return errors.Join(copyLedger(from, to), copyRecords(ctx, from, to), passLatest(from, to))
}

// copyLedger lets the new folder of snapshots have the ledger of the old one: what destinations need is known from it.
func copyLedger(from, to *os.File) error {
	content, err := readIn(from, lock.LedgerFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	within := func(name string) string { return fmt.Sprintf("/proc/self/fd/%d/%s", to.Fd(), name) }
	err = renameio.WriteFile(within(lock.LedgerFile), content, 0o644, renameio.WithTempDir(within("")))
	if err != nil {
		return fmt.Errorf("writing %s: %w", path.Join(to.Name(), lock.LedgerFile), lock.Cause(err))
	}
	failpoint.Reach("ledger copied")
	return nil
}

// copyRecords lets the new folder have what is on record of snapshots that were received: their sources, attributes and manifests.
func copyRecords(ctx context.Context, from, to *os.File) error {
	found, err := files.Find(from, []string{state.Dir})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	o := files.Order{Items: []files.Item{{Path: state.Dir, To: state.Dir, Entry: found[0].Entry}}, Overwrite: true}
	placed, err := files.Place(to, o)
	if err != nil {
		return err
	}
	u := files.NewUnpacker(to, o, placed)
	defer u.Close()
	packed, err := files.Pack(ctx, from, []string{state.Dir}, u, nil)
	if err != nil {
		return err
	}
	did, err := u.Finish()
	for _, failed := range append(packed.Failures.First, did.Failures.First...) {
		err = errors.Join(err, fmt.Errorf("copying %s: %s", failed.Path, failed.What))
	}
	if err == nil {
		failpoint.Reach("records copied")
	}
	return err
}

// tidyFolder removes from a folder of snapshots, if there is one, what is left of those that were there when the snapshot was taken.
func tidyFolder(made *os.File, at string) error {
	folder, err := btrfs.OpenDirAt(made, at)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer folder.Close()
	return errors.Join(removeStubs(folder), passLatest(nil, folder))
}

// passLatest lets links to the newest snapshot be those of the old folder, if there is one, and lead to none that is gone.
func passLatest(from, to *os.File) error {
	err := forLatest(to, func(name, target string) error {
		var st unix.Stat_t
		if from == nil && !strings.Contains(target, "/") && unix.Fstatat(int(to.Fd()), target, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
			return nil
		}
		return os.NewSyscallError("unlink", unix.Unlinkat(int(to.Fd()), name, 0))
	})
	if err != nil || from == nil {
		return err
	}
	return forLatest(from, func(name, target string) error {
		return os.NewSyscallError("symlink", unix.Symlinkat(target, int(to.Fd()), name))
	})
}

func forLatest(folder *os.File, do func(name, target string) error) error {
	names, err := namesIn(folder)
	if err != nil {
		return err
	}
	buffer := make([]byte, unix.PathMax)
	for _, name := range names {
		if _, ok := state.LatestOf(name); !ok {
			continue
		}
		n, err := unix.Readlinkat(int(folder.Fd()), name, buffer)
		if err != nil { // it is no link
			continue
		}
		if err := do(name, string(buffer[:n])); err != nil {
			return err
		}
	}
	return nil
}

// stub is the inode number of the empty directory that a snapshot has in the place of a subvolume: linux/btrfs_tree.h,
// BTRFS_EMPTY_SUBVOL_DIR_OBJECTID.
const stub = 2

// removeStubs removes what is left in a folder of snapshots that were there when the snapshot was taken.
func removeStubs(folder *os.File) error {
	names, err := namesIn(folder)
	if err != nil {
		return err
	}
	for _, name := range names {
		var st unix.Stat_t
		if unix.Fstatat(int(folder.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil || st.Ino != stub || st.Mode&unix.S_IFMT != unix.S_IFDIR {
			continue
		}
		if err := unix.Unlinkat(int(folder.Fd()), name, unix.AT_REMOVEDIR); err != nil {
			return &fs.PathError{Op: "rmdir", Path: path.Join(folder.Name(), name), Err: err}
		}
	}
	return nil
}

// nameAside gives the old subvolume its name beside the new one, or that with a number if it is taken.
func (w *work) nameAside() error {
	const most = 1000
	aside := w.Aside
	for i := 2; ; i++ {
		err := btrfs.Rename(w.parent, w.hidden(), aside)
		if !errors.Is(err, fs.ErrExist) || i > most {
			w.report.Aside = w.path(aside)
			return err
		}
		aside = fmt.Sprintf("%s.%d", w.Aside, i)
	}
}
