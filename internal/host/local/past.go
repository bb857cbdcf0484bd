package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/changes"
	"btrfs-backup/internal/hint"
	"btrfs-backup/internal/host"
	"btrfs-backup/internal/manifest"

	"golang.org/x/sys/unix"
)

// Changes lets the kernel make the stream of the difference, without data.
func (d *Dir) Changes(ctx context.Context, o host.ChangesOrder, each func(changes.Change)) error {
	newer, err := d.openSubvolume(o.Name)
	if err != nil {
		return err
	}
	defer newer.Close()
	options, is := btrfs.SendOptions{NoData: true}, &view{root: newer}
	var was changes.Tree
	if o.From != "" {
		if options.Parent, err = d.host.openFile(o.From); err != nil {
			return err
		}
		defer options.Parent.Close()
		before := &view{root: options.Parent}
		defer before.close()
		was = before
	}
	defer is.close()
	if err := checkComparable(newer, options.Parent); err != nil {
		return err
	}
	var all []changes.Change
	err = sendByKernel(ctx, newer, options, func(r io.Reader) error {
		all, err = changes.Of(r, was, is)
		return err
	})
	if err != nil {
		return fmt.Errorf("comparing %s: %w", filepath.Join(d.status.Path, o.Name), needRoot(err))
	}
	for _, c := range all {
		each(c)
	}
	return ctx.Err()
}

// checkComparable refuses what the kernel does not compare.
func checkComparable(newer, older *os.File) error {
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

// needRoot explains that the user may not read all of the filesystem.
func needRoot(err error) error {
	if errors.Is(err, unix.EPERM) && os.Geteuid() != 0 {
		return hint.New(err, "the kernel compares subvolumes for root only: use sudo, or --ssh-sudo for another machine")
	}
	return err
}

// A view looks at the files of a subvolume. Nothing leads out of it.
type view struct {
	root  *os.File
	dir   *os.File // the directory that was looked into last
	at    string   // its path; "" without one
	paths *btrfs.Paths
}

func (v *view) close() {
	if v.dir != nil {
		v.dir.Close()
	}
}

// Stat describes what is at a path.
func (v *view) Stat(at string) (manifest.Entry, error) {
	dir, name := path.Dir(at), path.Base(at)
	if v.at != dir {
		opened, err := openDirOf(v.root, dir)
		if err != nil {
			return manifest.Entry{}, err
		}
		v.close()
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
func (v *view) Names(inode uint64) (paths []string, err error) {
	if v.paths == nil {
		if v.paths, err = btrfs.PathsIn(v.root); err != nil {
			return nil, err
		}
	}
	return v.paths.Of(inode)
}

// Manifest writes the manifest as it is on the disk.
func (d *Dir) Manifest(_ context.Context, name string, w io.Writer) error {
	return d.trees().CopyManifest(name, w)
}
