// Package draft drafts a first configuration: it finds what could be backed up and where to, and writes what a user chose as a
// file with comments. It changes nothing, and reads nothing but the mount table and the lists of subvolumes.
package draft

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Found is what is on a machine.
type Found struct {
	Sources []string // subvolumes that somebody works in, in the order of their paths
	Disks   []Disk   // filesystems that are there for other things, such as backups
}

// A Disk is a btrfs filesystem.
type Disk struct {
	Mount string
	UUID  btrfs.UUID
}

// mount is a mounted subvolume, and those that lie in it.
type mount struct {
	path       string
	filesystem btrfs.UUID
	btrfs.Subvolume
	inner []inner
}

type inner struct {
	path string // from the mount
	btrfs.Subvolume
}

// Look looks at what is mounted. Of what cannot be looked at, nothing is known.
func Look() (Found, error) {
	table, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("btrfs"))
	if err != nil {
		return Found{}, err
	}
	var mounts []mount
	for _, entry := range table {
		if m, err := lookAt(entry.Mountpoint); err == nil {
			mounts = append(mounts, m)
		}
	}
	return find(mounts), nil
}

func lookAt(path string) (m mount, err error) {
	dir, err := os.Open(path)
	if err != nil {
		return m, err
	}
	defer dir.Close()
	m.path = path
	if err := btrfs.CheckSubvolume(dir); err != nil { // a directory can be mounted, too
		return m, err
	}
	if m.filesystem, err = btrfs.FilesystemID(dir); err != nil {
		return m, err
	}
	if m.Subvolume, err = btrfs.Info(dir); err != nil {
		return m, err
	}
	children, err := btrfs.Children(dir)
	for _, c := range children {
		if s, err := btrfs.InfoAt(dir, c.Path); err == nil {
			m.inner = append(m.inner, inner{c.Path, s})
		}
	}
	return m, err
}

// find tells sources from disks: a filesystem is a disk if it is mounted only where disks are.
func find(mounts []mount) (found Found) {
	slices.SortFunc(mounts, func(a, b mount) int { // of two paths, the shorter is the usual one
		return cmp.Or(cmp.Compare(len(a.path), len(b.path)), strings.Compare(a.path, b.path))
	})
	type place struct {
		filesystem btrfs.UUID
		id         uint64
	}
	seen := make(map[place]bool)
	add := func(path string, filesystem btrfs.UUID, s btrfs.Subvolume) {
		at := place{filesystem, s.ID}
		if !seen[at] && !s.ReadOnly && !isPassedOver(path) {
			found.Sources = append(found.Sources, path)
		}
		seen[at] = true
	}
	isSystem := func(filesystem btrfs.UUID) bool {
		return slices.ContainsFunc(mounts, func(m mount) bool { return m.filesystem == filesystem && !isForDisks(m.path) })
	}
	for _, m := range mounts {
		isNew := !slices.ContainsFunc(found.Disks, func(d Disk) bool { return d.UUID == m.filesystem })
		switch {
		case !isSystem(m.filesystem):
			if isNew {
				found.Disks = append(found.Disks, Disk{m.path, m.filesystem})
			}
		case !isForDisks(m.path):
			add(m.path, m.filesystem, m.Subvolume)
		}
	}
	for _, m := range mounts {
		for _, i := range m.inner {
			if isSystem(m.filesystem) && i.ParentUUID.IsZero() && i.ReceivedUUID.IsZero() {
				add(filepath.Join(m.path, i.path), m.filesystem, i.Subvolume)
			}
		}
	}
	slices.Sort(found.Sources)
	return found
}

// isForDisks tells that other disks are mounted there.
func isForDisks(path string) bool {
	return isBelow(path, []string{"/mnt", "/media", "/run/media"}) || strings.Contains(strings.ToLower(filepath.Base(path)), "backup")
}

// isPassedOver tells that a subvolume holds snapshots, or what programs make for themselves.
func isPassedOver(path string) bool {
	if isBelow(path, []string{"/tmp", "/var/tmp", "/var/cache", "/run", "/dev", "/boot", "/var/lib/docker", "/var/lib/containers", "/var/lib/machines",
		"/var/lib/portables", "/var/lib/lxd", "/var/lib/incus"}) {
		return true
	}
	return slices.ContainsFunc(strings.Split(path, "/"), func(name string) bool {
		return slices.Contains([]string{"snapshot", "snapshots", ".snapshots", "timeshift-btrfs"}, name)
	})
}

func isBelow(path string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") })
}

// DiskOf gives the disk that a path is on.
func (f Found) DiskOf(path string) (Disk, bool) {
	best := Disk{}
	for _, d := range f.Disks {
		if isBelow(path, []string{d.Mount}) && len(d.Mount) > len(best.Mount) {
			best = d
		}
	}
	return best, best.Mount != ""
}

// A Filesystem is one of any kind.
type Filesystem struct {
	Device uint64     // 0 for btrfs, of which each subvolume has another one
	UUID   btrfs.UUID // of a btrfs
}

// IsBtrfs tells that it is a btrfs.
func (f Filesystem) IsBtrfs() bool { return !f.UUID.IsZero() }

// FilesystemAt gives the filesystem on which a path is, or would be made.
func FilesystemAt(path string) (f Filesystem, err error) {
	dir, err := os.Open(path)
	for errors.Is(err, fs.ErrNotExist) {
		path = filepath.Dir(path)
		dir, err = os.Open(path)
	}
	if err != nil {
		return f, err
	}
	defer dir.Close()
	err = btrfs.CheckFilesystem(dir)
	if err == nil {
		f.UUID, err = btrfs.FilesystemID(dir)
		return f, err
	}
	if !errors.Is(err, btrfs.ErrNotBtrfs) {
		return f, err
	}
	var st unix.Stat_t
	err = unix.Fstat(int(dir.Fd()), &st)
	return Filesystem{Device: st.Dev}, err
}

// SourceAt gives the source that a directory is.
func SourceAt(path string) (Source, error) {
	dir, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Source{}, hint.New(fmt.Errorf("there is no directory %s", path), "check the spelling; several are divided by blanks or commas")
	}
	if err != nil {
		return Source{}, err
	}
	defer dir.Close()
	if info, err := dir.Stat(); err != nil || !info.IsDir() {
		return Source{}, cmp.Or(err, fmt.Errorf("%s is no directory", path))
	}
	return Source{Path: path, Subvolume: btrfs.CheckSubvolume(dir) == nil}, nil
}
