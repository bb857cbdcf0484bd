package dedup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"

	"golang.org/x/sys/unix"
)

// opened is a regular file that is held (O_PATH) together with its directory, so that what is checked is what is used.
type opened struct {
	*os.File
	dir  *os.File
	name string // in dir
	stat unix.Stat_t
}

// open holds a regular file of the folder. Neither a symbolic link nor a mount leads out of it, and nothing but a regular file
// is touched: to open a device may do something.
func (x *Index) open(name string) (*opened, error) {
	dir, err := x.openAt(path.Dir(name), unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	file, err := x.openAt(name, 0)
	if err != nil {
		dir.Close()
		return nil, err
	}
	o := &opened{File: file, dir: dir, name: path.Base(name)}
	if err := o.restat(); err != nil {
		o.Close()
		return nil, err
	}
	if o.stat.Mode&unix.S_IFMT != unix.S_IFREG {
		o.Close()
		return nil, fmt.Errorf("%s is not a regular file", file.Name())
	}
	return o, nil
}

// openAt holds what stands at a path of the folder.
func (x *Index) openAt(path string, flags uint64) (*os.File, error) {
	return btrfs.OpenUnmounted(x.folder, path, unix.O_PATH|flags)
}

func (o *opened) Close() error { return errors.Join(o.File.Close(), o.dir.Close()) }

func (o *opened) restat() error { return os.NewSyscallError("fstat", unix.Fstat(int(o.Fd()), &o.stat)) }

// magicLink is a path that leads to an open file whatever became of its name.
func magicLink(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// reader opens the file for reading, without a trace in its access time where that is allowed.
func (o *opened) reader() (*os.File, error) {
	const flags = unix.O_RDONLY | unix.O_CLOEXEC
	fd, err := unix.Open(magicLink(o.File), flags|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) {
		fd, err = unix.Open(magicLink(o.File), flags, 0)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: o.Name(), Err: err}
	}
	return os.NewFile(uintptr(fd), o.Name()), nil
}

// digest reads the content, which an entry describes, from the disk.
func (o *opened) digest(ctx context.Context, e manifest.Entry) (sum manifest.Digest, err error) {
	file, err := o.reader()
	if err != nil {
		return sum, err
	}
	defer file.Close()
	// What is in memory says nothing about the disk. That it may stay there is no failure.
	_ = unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED)
	return e.Content(ctx, int(file.Fd()), make([]byte, 1<<20), manifest.Watcher{})
}

// xattrs gives the digest of the extended attributes.
func (o *opened) xattrs() (manifest.Digest, error) {
	return manifest.Xattrs(magicLink(o.dir) + "/" + o.name)
}
