package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"

	"golang.org/x/sys/unix"
)

// maxSize has room for more than 10,000 jobs.
const maxSize = 4 << 20

// readPrivate reads a file that nobody but root and the caller can change, replace, or link to another one. The directories are
// looked at first, from the root on: what is in one that is private stays what it is.
func readPrivate(file string) ([]byte, error) {
	file, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	dir, dirErr := filepath.EvalSymlinks(filepath.Dir(file))
	real, err := filepath.EvalSymlinks(file)
	if err = cmp.Or(dirErr, err); err != nil {
		return nil, hint.New(fmt.Errorf("reading the configuration: %s: %w", file, hint.WithoutPath(err, file)), "btrfs-backup config init writes one")
	}
	for _, above := range append(ancestors(dir), ancestors(filepath.Dir(real))...) {
		var st unix.Stat_t
		if err := unix.Lstat(above, &st); err != nil {
			return nil, fmt.Errorf("%s: %w", above, err)
		}
		if err := checkPrivate(file, above, &st); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(real, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0) // so that no pipe is waited for
	if err != nil {
		return nil, fmt.Errorf("%s: not read: %w", file, hint.WithoutPath(err, real))
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, fmt.Errorf("%s: %w", real, err)
	}
	if err := checkPrivate(file, real, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, hint.New(fmt.Errorf("%s: not read, since it is no file", file), "move it elsewhere")
	}
	content, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err == nil && len(content) > maxSize {
		err = hint.New(errors.New("it is larger than 4 MiB"), "divide it: "+DropIns+" takes several files")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: not read: %w", file, err)
	}
	return content, nil
}

// ancestors gives a directory and those above it, from the root on.
func ancestors(dir string) (all []string) {
	for ; dir != "/"; dir = filepath.Dir(dir) {
		all = append(all, dir)
	}
	all = append(all, dir)
	slices.Reverse(all)
	return all
}

// checkPrivate refuses what others can change. In a sticky directory they cannot replace what is another user's.
func checkPrivate(file, path string, st *unix.Stat_t) error {
	sticky := st.Mode&unix.S_IFMT == unix.S_IFDIR && st.Mode&unix.S_ISVTX != 0
	switch {
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return hint.Newf(fmt.Errorf("%s: not read, since %s belongs to another user, who could run commands by it", file, path),
			"chown root %s", path)
	case st.Mode&0o022 != 0 && !sticky:
		return hint.Newf(fmt.Errorf("%s: not read, since others can write to %s, and could run commands by it", file, path),
			"chmod go-w %s", path)
	}
	return nil
}
