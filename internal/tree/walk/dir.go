package walk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/manifest"

	"golang.org/x/sys/unix"
)

const (
	// ReadSize is how much of a file is read at a time, and how often an end is noticed.
	ReadSize = 256 << 10
	// NamesSize is a size for the buffer that names are read through.
	NamesSize = 64 << 10
)

// A Dir is an open directory. Its user releases it, and so does whoever else holds it.
type Dir struct {
	fd    int
	users atomic.Int32
}

// OpenDir opens a directory anew, by an open file that it borrows.
func OpenDir(dir *os.File) (*Dir, error) {
	fd, err := openAt(int(dir.Fd()), ".", unix.O_DIRECTORY)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir.Name(), Err: err}
	}
	return newDir(fd), nil
}

func newDir(fd int) *Dir {
	d := &Dir{fd: fd}
	d.users.Store(1)
	return d
}

// Hold keeps the directory open until one more Release.
func (d *Dir) Hold() *Dir {
	d.users.Add(1)
	return d
}

// Release closes the directory, if nobody else holds it.
func (d *Dir) Release() {
	if d.users.Add(-1) == 0 {
		unix.Close(d.fd)
	}
}

// Dir opens a directory in this one. A symbolic link is unix.ELOOP, and what is mounted there is unix.EXDEV.
func (d *Dir) Dir(name string) (*Dir, error) {
	fd, err := openAt(d.fd, name, unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	return newDir(fd), nil
}

// Below opens a directory below this one, by a path of any length. What Dir refuses on the way is refused.
func (d *Dir) Below(path string) (*Dir, error) {
	below := d.Hold()
	if path == "." {
		return below, nil
	}
	for name := range strings.SplitSeq(path, "/") {
		next, err := below.Dir(name)
		below.Release()
		if err != nil {
			return nil, err
		}
		below = next
	}
	return below, nil
}

// Names reads the names in the directory, sorted, through a buffer. It can be done once.
func (d *Dir) Names(buffer []byte) ([]string, error) {
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

// A File is one that stood in a directory under a name when it was described.
type File struct {
	manifest.Entry // as far as manifest.Describe knows it
	Dir            *Dir
	Name           string
	Filesystem     uint64 // its device number, another one for each subvolume
	Allocated      int64  // bytes on the disk
}

// File describes a file in the directory, which has that path in its tree.
func (d *Dir) File(name, path string) (File, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return File{}, err
	}
	return File{Entry: manifest.Describe(path, &st), Dir: d, Name: name, Filesystem: uint64(st.Dev), Allocated: st.Blocks * 512}, nil
}

// Open opens the file. A symbolic link is unix.ELOOP, and what is mounted there is unix.EXDEV.
func (f *File) Open(flags uint64) (int, error) {
	return openAt(f.Dir.fd, f.Name, flags|unix.O_NOFOLLOW)
}

// Target gives that of a symbolic link.
func (f *File) Target() (string, error) {
	target, err := os.Readlink(f.NoFollowPath())
	if errno := unix.Errno(0); errors.As(err, &errno) { // the name says nothing
		err = os.NewSyscallError("readlink", errno)
	}
	return target, err
}

// NoFollowPath names the file for calls that take a path and do not follow it if it is a symbolic link.
func (f *File) NoFollowPath() string { return fmt.Sprintf("/proc/self/fd/%d/%s", f.Dir.fd, f.Name) }

// SetModTime sets the time of the file's content, and leaves that of its last use.
func (f *File) SetModTime(t manifest.Time) error {
	modified, err := unix.TimeToTimespec(time.Unix(t.Sec, int64(t.Nsec)))
	if err != nil {
		return err // some CPUs know no later time than 2038
	}
	return unix.UtimesNanoAt(f.Dir.fd, f.Name, []unix.Timespec{{Nsec: unix.UTIME_OMIT}, modified}, unix.AT_SYMLINK_NOFOLLOW)
}

// Hash reads a regular file, which must not change meanwhile, through a buffer; see manifest.Entry.Content.
func (f *File) Hash(ctx context.Context, buffer []byte, w manifest.Watcher) (sum manifest.Digest, err error) {
	fd, err := f.Open(unix.O_NONBLOCK)
	if err != nil {
		return sum, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return sum, err
	}
	if st.Ino != f.Inode {
		return sum, errors.New("it was replaced by another file")
	}
	return f.Content(ctx, fd, buffer, w)
}

// IsForbidden tells an error of who asks, rather than of the file.
func IsForbidden(err error) bool {
	return errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)
}

// Open opens a directory in another one. A symbolic link is unix.ELOOP, and what is mounted there is unix.EXDEV.
func Open(parent *os.File, name string) (*os.File, error) {
	full := filepath.Join(parent.Name(), name)
	fd, err := openAt(int(parent.Fd()), name, unix.O_DIRECTORY)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: full, Err: err}
	}
	return os.NewFile(uintptr(fd), full), nil
}

// openAt opens what lies in a directory, and neither leads nor lies elsewhere.
func openAt(dir int, name string, flags uint64) (int, error) {
	how := unix.OpenHow{
		Flags:   flags | unix.O_RDONLY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	}
	for {
		fd, err := unix.Openat2(dir, name, &how)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// Descriptor is the directory's, which stays open as long as somebody holds it.
func (d *Dir) Descriptor() int { return d.fd }
