package walk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A sweep removes files below a directory, and refuses to leave the subvolume that it began in. Directories that deny their owner
// access are made accessible on the way; of other files nothing is changed but the number of their names, since older backups
// may share them.
type sweep struct {
	dev    uint64
	doomed func(dir *os.File, name string) (bool, error) // of anything but directories
	dirs   bool                                          // directories are removed too
}

// Remove removes a directory with all that is in it, but for what is pinned: that is a PinnedError.
func Remove(ctx context.Context, parent *os.File, name string) error {
	s := sweep{dirs: true, doomed: func(*os.File, string) (bool, error) { return true, nil }}
	return s.begin(ctx, parent, name)
}

// Unshare removes names of inodes that have several, so that what is written to the remaining ones is seen nowhere else. With
// keepOne, the first name of each inode is left: that is for inodes all of whose names are below the directory.
func Unshare(ctx context.Context, parent *os.File, name string, keepOne bool) error {
	seen := make(map[uint64]struct{})
	s := sweep{doomed: func(dir *os.File, name string) (bool, error) {
		st, err := Lstat(dir, name)
		if err != nil || st.Nlink < 2 {
			return false, err
		}
		_, again := seen[st.Ino]
		if keepOne {
			seen[st.Ino] = struct{}{}
		}
		return again || !keepOne, nil
	}}
	return s.begin(ctx, parent, name)
}

// begin sweeps a directory, whose device is the one to stay on.
func (s *sweep) begin(ctx context.Context, parent *os.File, name string) error {
	st, err := Lstat(parent, name)
	if err != nil {
		return err
	}
	s.dev = st.Dev
	return s.directory(ctx, parent, name)
}

func (s *sweep) directory(ctx context.Context, parent *os.File, name string) error {
	dir, err := s.open(parent, name)
	if err != nil {
		return err
	}
	defer dir.Close()
	files, subdirs, err := s.read(ctx, dir)
	if err != nil {
		return err
	}
	var pinned *PinnedError // the rest takes space, too
	for _, file := range files {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := unlinkAt(dir, file, 0); err != nil && !errors.As(err, &pinned) {
			return err
		}
	}
	for _, subdir := range subdirs {
		if err := s.directory(ctx, dir, subdir); err != nil && !errors.As(err, &pinned) {
			return err
		}
	}
	if pinned != nil {
		return pinned
	}
	if s.dirs {
		return unlinkAt(parent, name, unix.AT_REMOVEDIR)
	}
	return nil
}

// read gives the files of a directory that are to be removed, and its directories. Nothing is removed while a directory is
// read: not every filesystem would go on to show the rest.
func (s *sweep) read(ctx context.Context, dir *os.File) (files, subdirs []string, err error) {
	const batch = 1024
	for {
		entries, err := dir.ReadDir(batch)
		for _, entry := range entries {
			if entry.IsDir() {
				subdirs = append(subdirs, entry.Name())
				continue
			}
			doomed, err := s.doomed(dir, entry.Name())
			if err != nil {
				return nil, nil, err
			}
			if doomed {
				files = append(files, entry.Name())
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return files, subdirs, nil
		case err != nil:
			return nil, nil, err
		case ctx.Err() != nil:
			return nil, nil, context.Cause(ctx)
		}
	}
}

// open opens a directory for its entries to be removed.
func (s *sweep) open(parent *os.File, name string) (*os.File, error) {
	dir, err := Open(parent, name)
	if errors.Is(err, fs.ErrPermission) && makeAccessible(parent, name) == nil {
		dir, err = Open(parent, name)
	}
	if err != nil {
		return nil, err
	}
	fd := int(dir.Fd())
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil {
		switch denies := st.Mode&0o700 != 0o700; {
		case st.Dev != s.dev:
			err = errors.New("it lies on another filesystem or subvolume")
		case denies && os.Geteuid() != 0:
			err = unix.Fchmod(fd, st.Mode&0o7777|0o700)
		}
	}
	if err != nil {
		dir.Close()
		return nil, fmt.Errorf("removing the content of %s: %w", dir.Name(), err)
	}
	return dir, nil
}

// makeAccessible gives the owner of a directory that cannot be opened all rights to it.
func makeAccessible(parent *os.File, name string) error {
	fd, err := openAt(int(parent.Fd()), name, unix.O_PATH|unix.O_DIRECTORY)
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

func unlinkAt(dir *os.File, name string, flags int) error {
	if err := unix.Unlinkat(int(dir.Fd()), name, flags); err != nil {
		return Explain(&os.PathError{Op: "remove", Path: filepath.Join(dir.Name(), name), Err: err}, dir, name)
	}
	return nil
}
