package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"

	"golang.org/x/sys/unix"
)

// mostLinks is how many symbolic links are followed in a path, as the kernel does (linux/namei.h: MAXSYMLINKS).
const mostLinks = 40

// Locate tells what a path means. It goes down from the root and stops at the first snapshot or backup: what is in that came from
// elsewhere, and its links lead nowhere here.
func (h *Host) Locate(_ context.Context, path string) (host.Location, error) {
	if h.confine != nil {
		return host.Location{}, errors.New("a confined client may not look for backups")
	}
	return h.locate(filepath.Clean(path), mostLinks)
}

func (h *Host) locate(path string, links int) (host.Location, error) {
	at := "/"
	for rest := components(path); len(rest) > 0; rest = rest[1:] {
		within := filepath.Join(rest[1:]...)
		found, target, err := h.locateIn(at, rest[0])
		if target != "" {
			if links == 0 {
				return host.Location{}, &fs.PathError{Op: "open", Path: path, Err: unix.ELOOP}
			}
			if !filepath.IsAbs(target) {
				target = filepath.Join(at, target)
			}
			var led host.Location
			led, err = h.locate(filepath.Join(target, within), links-1)
			if isLatest(rest[0]) || err == nil && led.IsVersion() {
				return led, err
			}
			err = nil // it is shown by the name that its user gave it
		}
		switch {
		case err != nil:
			return host.Location{}, err
		case found != nil && found.Set != nil && within != "":
			return h.locateMember(*found, rest[1:])
		case found != nil:
			found.Within = within
			return *found, nil
		}
		at = filepath.Join(at, rest[0])
	}
	return h.locateFolder(at)
}

func components(path string) []string {
	return slices.DeleteFunc(strings.Split(path, "/"), func(name string) bool { return name == "" })
}

// locateIn tells what a name in a directory means: a snapshot, backup or set, or a symbolic link, or nothing of ours.
func (h *Host) locateIn(folder, name string) (found *host.Location, target string, err error) {
	d, err := h.OpenDir(folder)
	if errors.Is(err, fs.ErrPermission) { // it may still lead to what this user may read
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	defer d.Close()
	st, err := walk.Lstat(d.dir, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, "", d.missing(name)
	case err != nil:
		return nil, "", err
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		target, err = d.follow(name)
		return nil, target, err
	case st.Mode&unix.S_IFMT != unix.S_IFDIR || strings.HasPrefix(name, "."):
		return nil, "", nil
	}
	found, err = d.version(name, st)
	return found, "", err
}

// follow reads a symbolic link. That to the newest snapshot or backup leads to a name beside it.
func (d *Dir) follow(name string) (target string, err error) {
	buffer := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(d.dir.Fd()), name, buffer)
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: filepath.Join(d.status.Path, name), Err: err}
	}
	target = string(buffer[:n])
	if !isLatest(name) {
		return target, nil
	}
	if target == "" || target == "." || target == ".." || strings.Contains(target, "/") {
		return "", hint.New(fmt.Errorf("%s leads to %q, out of the folder", filepath.Join(d.status.Path, name), target),
			"this program makes no such link: name the backup")
	}
	if _, err := walk.Lstat(d.dir, target); errors.Is(err, fs.ErrNotExist) {
		return "", hint.Newf(fmt.Errorf("%s leads to %s, which is gone: %w", filepath.Join(d.status.Path, name), target, fs.ErrNotExist),
			"name another; there is %s", d.nearest(target))
	}
	return target, nil
}

func isLatest(name string) bool {
	_, ok := host.LatestOf(name)
	return ok
}

// version describes the directory of that name if it is a snapshot, backup or set; nil if not.
func (d *Dir) version(name string, st unix.Stat_t) (*host.Location, error) {
	l := &host.Location{Folder: d.status.Path, Name: name}
	if d.status.Btrfs && isSubvolume(st) {
		s, err := btrfs.DescribeAt(d.dir, name)
		if err != nil {
			return nil, err
		}
		if s.ReadOnly && s.Container == d.status.Subvolume.ID && s.DirID == d.status.DirID.Inode { // else it is mounted here
			l.Subvolume = s
		}
	}
	record, err := d.trees().Backup(name)
	switch {
	case err == nil:
		l.Record, l.Tree = &record, true
		l.Subvolume.AlteredIn = 0 // it was made writable, and filled
	case errors.Is(err, fs.ErrPermission):
		l.Tree = l.Subvolume.ID == 0
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	if l.Tree || l.Subvolume.ID != 0 {
		return l, nil
	}
	set, err := d.set(name)
	if errors.Is(err, errNotSet) {
		return nil, nil
	}
	l.Set = &set
	return l, err
}

// locateMember tells what a path in a set means: a member, and what is in its backup.
func (h *Host) locateMember(l host.Location, rest []string) (host.Location, error) {
	if !slices.Contains(l.Set.Members, rest[0]) {
		return host.Location{}, hint.Newf(fmt.Errorf("%s has no member %s: %w", l.Path(), rest[0], fs.ErrNotExist),
			"it has %s", strings.Join(l.Set.Members, ", "))
	}
	found, _, err := h.locateIn(filepath.Join(l.Folder, rest[0]), l.Name)
	if err == nil && found == nil {
		err = fmt.Errorf("%s/%s is no backup", filepath.Join(l.Folder, rest[0]), l.Name)
	}
	if err != nil {
		return host.Location{}, err
	}
	found.Within = filepath.Join(rest[1:]...)
	return *found, nil
}

// locateFolder describes a directory that is no snapshot or backup, or a file, whose directory cannot be told to be one.
func (h *Host) locateFolder(path string) (host.Location, error) {
	d, err := h.OpenDir(path)
	if err != nil {
		return host.Location{}, err
	}
	defer d.Close()
	l := host.Location{Folder: path}
	if d.status.IsRoot {
		l.Subvolume = d.status.Subvolume
	}
	_, err = walk.Lstat(d.dir, tree.StateDir)
	l.Marked = err == nil
	return l, nil
}

// missing is the error about a name that is not in the directory.
func (d *Dir) missing(name string) error {
	err := &fs.PathError{Op: "open", Path: filepath.Join(d.status.Path, name), Err: unix.ENOENT}
	if near := d.nearest(name); near != "" {
		return hint.Newf(err, "there is %s", near)
	}
	return err
}

// nearest gives the names of directories that are most like one, for people to read.
func (d *Dir) nearest(name string) string {
	const most = 3
	all, err := names(d.dir, maxOthers)
	if err != nil {
		return ""
	}
	all = slices.DeleteFunc(all, func(name string) bool { return strings.HasPrefix(name, ".") })
	slices.SortFunc(all, strings.Compare)
	near := hint.Nearest(name, all)
	near = slices.DeleteFunc(near, func(name string) bool {
		st, err := walk.Lstat(d.dir, name)
		return err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR
	})
	return strings.Join(near[:min(len(near), most)], ", ")
}
