package walk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/btrfs-backup/btrfs-backup/internal/manifest"

	"golang.org/x/sys/unix"
)

// A sweep removes files below a directory, and refuses to leave the subvolume that it began in. Directories that deny their owner
// access are made accessible on the way; of other files nothing is changed but the number of their names, since older backups
// may share them.
type sweep struct {
	ctx    context.Context
	trail  *Trail
	on     uint64          // the filesystem of the directory that it began in
	doomed func(File) bool // of anything but directories; nil dooms all, and directories too
	buffer []byte
}

// Remove removes a directory with all that is in it, but for what is pinned: that is a PinnedError.
func Remove(ctx context.Context, parent *os.File, name string) error {
	return begin(ctx, parent, name, nil)
}

// RemoveFiles removes all that is in a directory but for directories.
func RemoveFiles(ctx context.Context, parent *os.File, name string) error {
	return begin(ctx, parent, name, func(File) bool { return true })
}

// Unshare removes names of inodes that have several, so that what is written to the remaining ones is seen nowhere else. With
// keepOne, the first name of each inode is left: that is for inodes all of whose names are below the directory.
func Unshare(ctx context.Context, parent *os.File, name string, keepOne bool) error {
	seen := make(map[uint64]struct{})
	return begin(ctx, parent, name, func(f File) bool {
		if f.Links < 2 {
			return false
		}
		_, again := seen[f.Inode]
		if keepOne {
			seen[f.Inode] = struct{}{}
		}
		return again || !keepOne
	})
}

// begin sweeps a directory.
func begin(ctx context.Context, parent *os.File, name string, doomed func(File) bool) error {
	dir, err := OpenDir(parent)
	if err != nil {
		return err
	}
	s := sweep{ctx: ctx, trail: NewTrail(dir), doomed: doomed, buffer: make([]byte, NamesSize)}
	defer s.trail.Close()
	path := filepath.Join(parent.Name(), name)
	top, err := dir.File(name, name)
	if err != nil {
		return &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	s.on = top.Filesystem
	return s.directory(name, path)
}

// directory sweeps one in the directory that the trail leads to.
func (s *sweep) directory(name, path string) error {
	if err := s.enter(name); err != nil {
		return fmt.Errorf("removing the content of %s: %w", path, err)
	}
	names, err := s.trail.Last().Names(s.buffer)
	if err != nil {
		return &os.PathError{Op: "read", Path: path, Err: err}
	}
	var subdirs []string
	var pinned *PinnedError // the rest takes space, too
	for _, name := range names {
		if s.ctx.Err() != nil {
			return context.Cause(s.ctx)
		}
		isDir, err := s.file(name)
		if err = s.explained(err, name, path); err != nil && !errors.As(err, &pinned) {
			return err
		}
		if isDir {
			subdirs = append(subdirs, name)
		}
	}
	for _, subdir := range subdirs {
		if err := s.directory(subdir, filepath.Join(path, subdir)); err != nil && !errors.As(err, &pinned) {
			return err
		}
	}
	if err := s.trail.Up(); err != nil {
		return &os.PathError{Op: "remove", Path: path, Err: err}
	}
	switch {
	case pinned != nil:
		return pinned
	case s.doomed == nil:
		return s.explained(unix.Unlinkat(s.trail.Last().fd, name, unix.AT_REMOVEDIR), name, filepath.Dir(path))
	}
	return nil
}

// explained tells about which file of the directory that the trail leads to an error is.
func (s *sweep) explained(err error, name, path string) error {
	if err == nil {
		return nil
	}
	return explain(&os.PathError{Op: "remove", Path: filepath.Join(path, name), Err: err}, s.trail.Last().fd, name)
}

// file removes a file, if it is doomed, or tells that it is a directory.
func (s *sweep) file(name string) (isDir bool, err error) {
	dir := s.trail.Last()
	if s.doomed != nil {
		f, err := dir.File(name, name)
		if err != nil || f.Type == manifest.Directory || !s.doomed(f) {
			return f.Type == manifest.Directory, err
		}
	}
	err = unix.Unlinkat(dir.fd, name, 0)
	if err == unix.EISDIR {
		return true, nil
	}
	return false, err
}

// enter opens a directory for its entries to be removed.
func (s *sweep) enter(name string) error {
	parent := s.trail.Last()
	dir, err := parent.Dir(name)
	if errors.Is(err, fs.ErrPermission) && parent.makeAccessible(name) == nil {
		dir, err = parent.Dir(name)
	}
	if err != nil {
		return err
	}
	if err := s.trail.Down(dir); err != nil {
		return err
	}
	self, err := dir.File(".", ".")
	switch denies := self.Mode&0o700 != 0o700; {
	case err != nil:
		return err
	case self.Filesystem != s.on:
		return errors.New("it lies on another filesystem or subvolume")
	case denies && os.Geteuid() != 0:
		return unix.Fchmod(dir.fd, self.Mode|0o700)
	}
	return nil
}

// makeAccessible gives the owner of a directory that cannot be opened all rights to it.
func (d *Dir) makeAccessible(name string) error {
	fd, err := openAt(d.fd, name, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return os.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), 0o700)
}

// Lstat describes an entry of a directory.
func Lstat(dir *os.File, name string) (st unix.Stat_t, err error) {
	if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return st, &os.PathError{Op: "lstat", Path: filepath.Join(dir.Name(), name), Err: err}
	}
	return st, nil
}
