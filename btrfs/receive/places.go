package receive

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A place is where something stands: an open directory and the name in it, which is "." for the root.
type place struct {
	dir  int
	name string
}

// inside is how paths of a stream are opened: beneath the subvolume, through no link and into no mount.
const inside = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// mostDirectories are kept open.
const mostDirectories = 64

// directories keeps directories of the subvolume open, by their present paths.
type directories struct {
	root int
	open map[string]int
	used []string // the oldest first
}

// at gives the place of a path.
func (d *directories) at(path string) (place, error) {
	if path == "" {
		return place{d.root, "."}, nil
	}
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return place{d.root, path}, nil
	}
	above, name := path[:i], path[i+1:]
	if fd, known := d.open[above]; known {
		return place{fd, name}, nil
	}
	fd, err := openInside(d.root, above, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return place{}, err
	}
	d.keep(above, fd)
	return place{fd, name}, nil
}

func (d *directories) keep(path string, fd int) {
	if d.open == nil {
		d.open = make(map[string]int)
	}
	if len(d.used) == mostDirectories {
		d.forget(d.used[0])
		d.used = d.used[1:]
	}
	d.open[path] = fd
	d.used = append(d.used, path)
}

func (d *directories) forget(path string) {
	unix.Close(d.open[path])
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

var errNotRegular = errors.New("it is no regular file")

// proc is for calls that take no descriptor: a path that leads to the place, where such a call does not follow a link.
func (p place) proc() string { return "/proc/self/fd/" + strconv.Itoa(p.dir) + "/" + p.name }

// descriptor borrows the descriptor of a file.
func descriptor(f *os.File) int { return int(f.Fd()) }
