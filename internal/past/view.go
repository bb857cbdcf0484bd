// Package past looks into snapshots and backups of this machine: at files by their paths, which lead nowhere else, whatever is in
// them, and at the versions that there are of one.
package past

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"

	"golang.org/x/sys/unix"
)

// CheckComparable refuses what the kernel does not compare.
func CheckComparable(newer, older *os.File) error {
	subvolumes := []*os.File{newer}
	if older != nil {
		subvolumes = append(subvolumes, older)
	}
	var on [2]btrfs.UUID
	for i, f := range subvolumes {
		if err := btrfs.CheckSubvolume(f); err != nil {
			return fmt.Errorf("%s: %w", f.Name(), err)
		}
		info, err := btrfs.Info(f)
		if err != nil {
			return err
		}
		if !info.ReadOnly {
			return hint.New(fmt.Errorf("%s can be written to: what is compared is read-only", f.Name()), "compare a snapshot of it")
		}
		if on[i], err = btrfs.FilesystemID(f); err != nil {
			return err
		}
	}
	if older != nil && on[0] != on[1] {
		return fmt.Errorf("%s and %s lie on different filesystems: %w", older.Name(), newer.Name(), unix.EXDEV)
	}
	return nil
}

// NeedRoot explains that the user may not read all of the filesystem.
func NeedRoot(err error) error {
	if errors.Is(err, unix.EPERM) && os.Geteuid() != 0 {
		return hint.New(err, "the kernel compares subvolumes for root only: use sudo, or --ssh-sudo for another machine")
	}
	return err
}

// A View looks at the files of a subvolume. Nothing leads out of it.
type View struct {
	root  *os.File
	dir   *os.File // the directory that was looked into last
	at    string   // its path; "" without one
	paths *btrfs.Paths
}

// Close closes what was opened to look into it, but not the root.
func (v *View) Close() {
	if v.dir != nil {
		v.dir.Close()
	}
}

// Look gives a View of the subvolume whose root is open. It borrows that.
func Look(root *os.File) *View { return &View{root: root} }

// Stat describes what is at a path.
func (v *View) Stat(at string) (manifest.Entry, error) {
	dir, name := path.Dir(at), path.Base(at)
	if v.at != dir {
		opened, err := openDirOf(v.root, dir)
		if err != nil {
			return manifest.Entry{}, err
		}
		v.Close()
		v.dir, v.at = opened, dir
	}
	var st unix.Stat_t
	if err := unix.Fstatat(int(v.dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return manifest.Entry{}, &os.PathError{Op: "stat", Path: filepath.Join(v.root.Name(), at), Err: err}
	}
	return manifest.Describe(at, &st), nil
}

// openDirOf opens a directory beneath another. Its path may be longer than the kernel takes at once.
func openDirOf(root *os.File, dir string) (*os.File, error) {
	const most = 4000
	if len(dir) < most {
		return btrfs.OpenDirAt(root, dir)
	}
	cut := strings.LastIndexByte(dir[:most], '/')
	above, err := btrfs.OpenDirAt(root, dir[:cut])
	if err != nil {
		return nil, err
	}
	defer above.Close()
	return openDirOf(above, dir[cut+1:])
}

// Names gives all paths of an inode.
func (v *View) Names(inode uint64) (paths []string, err error) {
	if v.paths == nil {
		if v.paths, err = btrfs.PathsIn(v.root); err != nil {
			return nil, err
		}
	}
	return v.paths.Of(inode)
}
