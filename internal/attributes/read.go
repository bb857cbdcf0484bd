package attributes

import (
	"os"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"
)

// A Folder is an open folder of snapshots or backups.
type Folder struct {
	dir   *os.File
	state state.Files
}

// In gives the folder that dir is open on. It borrows dir.
func In(dir *os.File) Folder { return Folder{dir, state.In(dir)} }

// A subvolume is an open one.
type subvolume struct {
	*os.File
	btrfs.Subvolume
}

func (f Folder) open(name string) (s subvolume, err error) {
	if s.File, err = btrfs.OpenDirAt(f.dir, name); err != nil {
		return s, err
	}
	if s.Subvolume, err = btrfs.Info(s.File); err != nil {
		s.Close()
	}
	return s, err
}

// set are the flags of inodes, which are not none.
type set map[uint64]flagged

type flagged struct {
	generation uint64
	flags      btrfs.Flags
}

// Of tells of the files of a subvolume in the folder: of a backup, as is on record, of anything else as it is. With a parent in the
// folder, only what differs is told. It needs CAP_SYS_ADMIN.
func (f Folder) Of(name, parent string) (List, error) {
	s, err := f.open(name)
	if err != nil {
		return List{}, err
	}
	defer s.Close()
	if parent == "" {
		all, err := f.all(s)
		if err != nil {
			return List{}, err
		}
		return s.list(all, false)
	}
	p, err := f.open(parent)
	if err != nil {
		return List{}, err
	}
	defer p.Close()
	differ, err := f.differing(s, p)
	if err != nil {
		return List{}, err
	}
	return s.list(differ, true)
}

// isRecorded tells a backup, in which the kernel sets no flags.
func (s subvolume) isRecorded() bool { return s.ReadOnly && s.Received() }

// all gives the flags of all inodes.
func (f Folder) all(s subvolume) (set, error) {
	if s.isRecorded() {
		return f.recorded(s.UUID)
	}
	all := make(set)
	err := btrfs.Inodes(s.File, 0, func(i btrfs.Inode) {
		if i.Flags != 0 {
			all[i.Number] = flagged{i.Generation, i.Flags}
		}
	})
	return all, err
}

// differing gives the flags of the inodes of s that are not as those in p; none is one of those.
func (f Folder) differing(s, p subvolume) (set, error) {
	isLater := !s.isRecorded() && !p.isRecorded() && s.ReadOnly && p.ReadOnly && s.ParentUUID == p.ParentUUID && !s.ParentUUID.IsZero() &&
		p.CreatedIn < s.CreatedIn
	if isLater {
		return changed(s, p)
	}
	now, err := f.all(s)
	if err != nil {
		return nil, err
	}
	before, err := f.all(p)
	if err != nil {
		return nil, err
	}
	for number, was := range before {
		is, flagged := now[number]
		if flagged && is == was {
			delete(now, number)
			continue
		}
		if flagged {
			continue
		}
		if i, there, err := btrfs.InodeIn(s.File, s.ID, number); err != nil {
			return nil, err
		} else if there && i.Generation == was.generation {
			was.flags = 0
			now[number] = was
		}
	}
	return now, nil
}

// changed gives what differs between two snapshots of one subvolume: whatever changes flags writes the inode.
func changed(s, p subvolume) (set, error) {
	var candidates []btrfs.Inode
	err := btrfs.Inodes(s.File, p.CreatedIn+1, func(i btrfs.Inode) {
		if i.ChangedIn > p.CreatedIn && (i.Flags != 0 || i.Generation <= p.CreatedIn) {
			candidates = append(candidates, i)
		}
	})
	if err != nil {
		return nil, err
	}
	differ := make(set)
	for _, i := range candidates {
		if i.Generation <= p.CreatedIn {
			was, there, err := btrfs.InodeIn(p.File, p.ID, i.Number)
			if err != nil {
				return nil, err
			}
			if there && was.Generation == i.Generation && was.Flags == i.Flags {
				continue
			}
		}
		differ[i.Number] = flagged{i.Generation, i.Flags}
	}
	return differ, nil
}

// list gives inodes by path, without those that are gone.
func (s subvolume) list(all set, since bool) (List, error) {
	l := List{Since: since}
	paths, err := btrfs.PathsIn(s.File)
	if err != nil {
		return l, err
	}
	for number, i := range all {
		at := []string{"."}
		if number != btrfs.RootDirectory {
			if at, err = paths.Of(number); err != nil {
				return l, err
			}
		}
		if len(at) > 0 {
			l.Files = append(l.Files, File{at[0], i.flags})
		}
	}
	slices.SortFunc(l.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return l, nil
}
