package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"

	"golang.org/x/sys/unix"
)

// Open opens a folder; the caller closes it. It is named by its absolute path. A missing one is fs.ErrNotExist, unless it is to
// be created. Nothing is created on a filesystem that is not the one asked for: that is ErrNotMounted.
func Open(path string, o OpenOptions) (*os.File, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if o.MountPoint != "" {
		if err := checkMounted(path, o.MountPoint); err != nil {
			return nil, err
		}
	}
	if o.Rights {
		if err := checkRights(path); err != nil {
			return nil, err
		}
	}
	if o.Create {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return nil, err
		}
	}
	dir, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil || o.MountPoint == "" {
		return dir, walk.ExplainMissing(err, path)
	}
	// Mounts may have changed since.
	if err := checkOn(dir, path, o.MountPoint); err != nil {
		dir.Close()
		return nil, err
	}
	return dir, nil
}

// checkMounted refuses a folder unless it, or the nearest directory above it, is on the filesystem mounted at mountPoint.
func checkMounted(path, mountPoint string) error {
	nearest := path
	dir, err := walk.OpenPath(nearest)
	for errors.Is(err, fs.ErrNotExist) && nearest != filepath.Dir(nearest) {
		nearest = filepath.Dir(nearest)
		dir, err = walk.OpenPath(nearest)
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	return checkOn(dir, path, mountPoint)
}

// checkOn refuses dir, where the folder of that path is or is to be, unless it is on the filesystem mounted at mountPoint.
func checkOn(dir *os.File, path, mountPoint string) error {
	mount, err := mountedAt(mountPoint)
	if errors.Is(err, ErrNotMounted) {
		return hint.New(fmt.Errorf("opening %s: %s is %w", path, mountPoint, err), "mount it and try again; nothing was written")
	}
	if err != nil {
		return err
	}
	on, err := walk.MountID(dir)
	if err != nil {
		return err
	}
	if on != mount {
		return hint.New(&elsewhereError{path, mountPoint}, "choose a folder inside "+mountPoint+"; nothing was written")
	}
	return nil
}

// An elsewhereError is an ErrNotMounted: the folder lies on another filesystem than the one at the mount point.
type elsewhereError struct{ path, mountPoint string }

func (e *elsewhereError) Error() string {
	return fmt.Sprintf("%s is not on the filesystem mounted at %s", e.path, e.mountPoint)
}

func (e *elsewhereError) Unwrap() error { return ErrNotMounted }

// mountedAt gives the ID of the mount at a mount point, and ErrNotMounted for any other directory.
func mountedAt(path string) (id int, err error) {
	dir, err := walk.OpenPath(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("%w: it does not exist", ErrNotMounted)
	}
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	fd, err := unix.Openat(int(dir.Fd()), "..", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, &os.PathError{Op: "open", Path: path + "/..", Err: err}
	}
	parent := os.NewFile(uintptr(fd), path+"/..")
	defer parent.Close()
	if id, err = walk.MountID(dir); err != nil {
		return 0, err
	}
	above, err := walk.MountID(parent)
	if err != nil {
		return 0, err
	}
	if id != above {
		return id, nil
	}
	at, err := dir.Stat()
	if err != nil {
		return 0, err
	}
	around, err := parent.Stat()
	if err == nil && !os.SameFile(at, around) { // only the root is its own parent
		err = ErrNotMounted
	}
	return id, err
}
