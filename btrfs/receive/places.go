package receive

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"

	"golang.org/x/sys/unix"
)

// A place is where something stands: an open directory and the name in it, which is "." for the root.
type place struct {
	dir     int
	name    string
	passing bool // what is made there inherits attributes
}

// inside is how paths of a stream are opened: beneath the subvolume, through no link and into no mount.
const inside = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// mostDirectories are kept open.
const mostDirectories = 64

// directories keeps directories of the subvolume open, by their present paths.
type directories struct {
	root    int
	passing *bool // of the root; nil: not known
	open    map[string]place
	used    []string // the oldest first
}

// at gives the place of a path.
func (d *directories) at(path string) (place, error) {
	if path == "" {
		return place{dir: d.root, name: "."}, nil
	}
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		if d.passing == nil {
			passing := passesOn(d.root)
			d.passing = &passing
		}
		return place{d.root, path, *d.passing}, nil
	}
	above, name := path[:i], path[i+1:]
	dir, known := d.open[above]
	if !known {
		fd, err := openInside(d.root, above, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return place{}, err
		}
		dir = place{dir: fd, passing: passesOn(fd)}
		d.keep(above, dir)
	}
	return place{dir.dir, name, dir.passing}, nil
}

// both gives the places of two paths, neither of which closes the directory of the other.
func (d *directories) both(from, to string) (old, new place, err error) {
	if _, err = d.at(from); err == nil {
		new, err = d.at(to)
	}
	if err == nil {
		old, err = d.at(from)
	}
	return old, new, err
}

// inherited are the attributes that a directory passes on to what is made in it. A sender does not expect that: it lets all be made in the
// root of the subvolume first.
var inherited = []string{aclDefault, btrfs.CompressionProperty}

const (
	aclDefault = "system.posix_acl_default"
	aclAccess  = "system.posix_acl_access" // which it becomes

	inheritedFlags = btrfs.NoCowFlag | btrfs.NoCompressFlag
)

// passesOn tells that a directory has such attributes or flags, or that its attributes are too many to be looked at.
func passesOn(dir int) bool {
	if flags, err := btrfs.FlagsAt(dir); err != nil || flags&inheritedFlags != 0 {
		return true
	}
	list := make([]byte, 1<<10)
	n, err := unix.Listxattr("/proc/self/fd/"+strconv.Itoa(dir), list)
	return err != nil || slices.ContainsFunc(strings.Split(string(list[:n]), "\x00"), func(name string) bool { return slices.Contains(inherited, name) })
}

// disinherit removes what something that was just made has of its directory.
func (p place) disinherit() error {
	if fd, err := p.openNode(); err == nil {
		_, err = clearFlags(fd, inheritedFlags)
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	for _, name := range append(inherited, aclAccess) {
		err := unix.Lremovexattr(p.proc(), name)
		if err != nil && err != unix.ENODATA && err != unix.EOPNOTSUPP {
			return err
		}
	}
	return nil
}

// changed forgets what directories pass on.
func (d *directories) changed() {
	d.moved("")
	d.passing = nil
}

func (d *directories) keep(path string, dir place) {
	if d.open == nil {
		d.open = make(map[string]place)
	}
	if len(d.used) == mostDirectories {
		d.forget(d.used[0])
		d.used = d.used[1:]
	}
	d.open[path] = dir
	d.used = append(d.used, path)
}

func (d *directories) forget(path string) {
	unix.Close(d.open[path].dir)
	delete(d.open, path)
}

// moved forgets a path, and what is below it.
func (d *directories) moved(path string) {
	kept := d.used[:0]
	for _, p := range d.used {
		if isWithin(p, path) {
			d.forget(p)
		} else {
			kept = append(kept, p)
		}
	}
	d.used = kept
}

func (d *directories) close() { d.moved("") }

// isWithin tells that a path is that of a directory or below it; "" is the root.
func isWithin(path, dir string) bool {
	return dir == "" || strings.HasPrefix(path, dir) && (len(path) == len(dir) || path[len(dir)] == '/')
}

func openInside(dir int, path string, flags uint64) (int, error) {
	for {
		fd, err := unix.Openat2(dir, path, &unix.OpenHow{Flags: flags | unix.O_CLOEXEC | unix.O_NOFOLLOW, Resolve: inside})
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// openRegular opens a regular file, and nothing else, not even for a moment.
func openRegular(at place, flags uint64) (fd int, st unix.Stat_t, err error) {
	if err := unix.Fstatat(at.dir, at.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return -1, st, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return -1, st, errNotRegular
	}
	if fd, err = openInside(at.dir, at.name, flags|unix.O_NONBLOCK|unix.O_NOCTTY); err != nil {
		return -1, st, err
	}
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errNotRegular
	}
	if err != nil {
		unix.Close(fd)
	}
	return fd, st, err
}

// openNode opens a regular file or a directory for reading.
func (p place) openNode() (int, error) {
	fd, err := openInside(p.dir, p.name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		fd, _, err = openRegular(p, unix.O_RDONLY)
	}
	return fd, err
}

// clearFlags takes flags away from what is open, and tells whether it had any of them.
func clearFlags(fd int, away btrfs.Flags) (bool, error) {
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	file := os.NewFile(uintptr(own), "")
	defer file.Close()
	flags, err := btrfs.FlagsOf(file)
	if err != nil || flags&away == 0 {
		return false, err
	}
	return true, btrfs.SetFlags(file, flags&^away)
}

var errNotRegular = errors.New("it is no regular file")

// proc is for calls that take no descriptor: a path that leads to the place, where such a call does not follow a link.
func (p place) proc() string { return "/proc/self/fd/" + strconv.Itoa(p.dir) + "/" + p.name }

// descriptor borrows the descriptor of a file.
func descriptor(f *os.File) int { return int(f.Fd()) }
