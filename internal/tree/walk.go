package tree

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync/atomic"

	"btrfs-backup/internal/manifest"

	"golang.org/x/sys/unix"
)

// An openDir is an open directory of a walk, which goes on while others still read files in it.
type openDir struct {
	fd    int
	users atomic.Int32
}

func newOpenDir(fd int) *openDir {
	d := &openDir{fd: fd}
	d.users.Store(1)
	return d
}

// hold keeps the directory open until one more release.
func (d *openDir) hold() *openDir {
	d.users.Add(1)
	return d
}

func (d *openDir) release() {
	if d.users.Add(-1) == 0 {
		unix.Close(d.fd)
	}
}

// open opens a file in the directory. A symbolic link is ELOOP, and what is mounted there is EXDEV.
func (d *openDir) open(name string, flags uint64) (int, error) {
	how := unix.OpenHow{
		Flags:   flags | unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	}
	for {
		fd, err := unix.Openat2(d.fd, name, &how)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// path names a file in the directory for calls that take a path. They must not follow it if it is a symbolic link.
func (d *openDir) path(name string) string { return fmt.Sprintf("/proc/self/fd/%d/%s", d.fd, name) }

// names reads the directory through a buffer. It can be done once.
func (d *openDir) names(buffer []byte) ([]string, error) {
	var names []string
	for {
		n, err := unix.Getdents(d.fd, buffer)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, err
		case n == 0:
			slices.Sort(names)
			return names, nil
		}
		_, _, names = unix.ParseDirent(buffer[:n], -1, names)
	}
}

// A walk goes through a tree in the order of manifest.Compare. It follows no symbolic link and enters neither what is mounted
// in the tree nor another subvolume.
type walk struct {
	ctx context.Context
	// visit is told of each file, the root as "." in itself.
	visit func(in *openDir, name string, e manifest.Entry) error
	// unread is told of a directory, after its visit, whose content may not be read.
	unread func(path string, err error) error

	root   string // in messages
	device uint64
	buffer []byte
}

// run walks the tree at root, which it borrows.
func (w *walk) run(root *os.File) error {
	w.root, w.buffer = root.Name(), make([]byte, 64<<10)
	fd, err := unix.Openat(int(root.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: w.root, Err: err}
	}
	dir := newOpenDir(fd)
	defer dir.release()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "stat", Path: w.root, Err: err}
	}
	w.device = uint64(st.Dev)
	if err := w.visit(dir, ".", manifest.Describe(".", &st)); err != nil {
		return err
	}
	return w.directory(dir, "")
}

// directory visits what is in a directory; prefix is its path with a slash at the end.
func (w *walk) directory(dir *openDir, prefix string) error {
	names, err := dir.names(w.buffer)
	if err != nil {
		return w.failed("reading", prefix, err)
	}
	for _, name := range names {
		if w.ctx.Err() != nil {
			return context.Cause(w.ctx)
		}
		path := prefix + name
		var st unix.Stat_t
		if err := unix.Fstatat(dir.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return w.failed("describing", path, err)
		}
		e := manifest.Describe(path, &st)
		if err := w.visit(dir, name, e); err != nil {
			return err
		}
		if e.Type == manifest.Directory && uint64(st.Dev) == w.device {
			if err := w.enter(dir, name, path); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *walk) enter(parent *openDir, name, path string) error {
	fd, err := parent.open(name, unix.O_DIRECTORY)
	switch {
	case err == unix.EXDEV:
		return nil
	case isForbidden(err):
		return w.unread(path, err)
	case err != nil:
		return w.failed("opening", path, err)
	}
	dir := newOpenDir(fd)
	defer dir.release()
	return w.directory(dir, path+"/")
}

func (w *walk) failed(doing, path string, err error) error {
	return fmt.Errorf("%s %s/%s: %w", doing, w.root, path, err)
}
