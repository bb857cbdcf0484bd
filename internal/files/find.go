package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"

	"golang.org/x/sys/unix"
)

// Find tells what paths are beneath the root of a backup, which it borrows. One that is missing is fs.ErrNotExist, with what is like it in
// the hint.
func Find(root *os.File, paths []string) ([]Found, error) {
	found := make([]Found, len(paths))
	for i, chosen := range paths {
		at, err := open(root, chosen)
		if err != nil {
			return nil, err
		}
		found[i] = at.Found
		at.dir.Release()
	}
	return found, nil
}

// A place is a chosen path in its open directory.
type place struct {
	Found
	dir  *walk.Dir
	file walk.File
}

// open goes down to a chosen path, by one open directory after the other. It refuses to leave the backup: for another subvolume, for
// what is mounted there, or along a symbolic link.
func open(root *os.File, chosen string) (*place, error) {
	clean, err := Clean(chosen)
	if err != nil {
		return nil, err
	}
	dir, err := walk.OpenDir(root)
	if err != nil {
		return nil, err
	}
	p := &place{Found: Found{Path: clean}, dir: dir}
	top, err := dir.File(".", ".")
	if err != nil {
		dir.Release()
		return nil, &os.PathError{Op: "stat", Path: root.Name(), Err: err}
	}
	p.file = top
	names := strings.Split(clean, "/")
	for i, name := range names {
		here := path.Join(names[:i+1]...)
		if err := p.down(i, name, here, top.Filesystem); err != nil {
			p.dir.Release()
			return nil, explain(err, root, here, clean)
		}
	}
	if p.Entry, err = describe(&p.file); err != nil {
		p.dir.Release()
		return nil, &os.PathError{Op: "lstat", Path: path.Join(root.Name(), clean), Err: err}
	}
	return p, nil
}

// down goes on to a name in the directory that was found last.
func (p *place) down(depth int, name, here string, on uint64) error {
	if depth > 0 {
		above, err := describe(&p.file)
		if err != nil {
			return err
		}
		above.Xattrs, _ = xattrsOf(&p.file)
		above.Name = p.file.Name
		p.Above = append(p.Above, above)
		next, err := p.dir.Dir(p.file.Name)
		if err != nil {
			return err
		}
		p.dir.Release()
		p.dir = next
	}
	file, err := p.dir.File(name, here)
	if errors.Is(err, fs.ErrNotExist) {
		return hint.New(err, likeName(p.dir, name))
	}
	if err != nil {
		return err
	}
	p.file = file
	if file.Filesystem != on {
		return unix.EXDEV
	}
	return nil
}

// explain tells why a path cannot be followed in a backup.
func explain(err error, root *os.File, here, chosen string) error {
	at := path.Join(root.Name(), here)
	switch {
	case errors.Is(err, unix.EXDEV):
		return hint.Newf(fmt.Errorf("%s is a subvolume of its own, or a mounted filesystem, and no part of the backup", at),
			"a backup of it has a name of its own; of what lies there now, `btrfs-backup restore %s` can be tried", at)
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return hint.New(fmt.Errorf("%s is no directory in the backup, so that there is no %s", path.Join(root.Name(), path.Dir(here)), chosen),
			"symbolic links in a backup are not followed: they lead to what is there now")
	case errors.Is(err, fs.ErrNotExist):
		missing := fmt.Errorf("%s holds no %s: %w", root.Name(), here, fs.ErrNotExist)
		if like := hint.Of(err); like != "" {
			return hint.New(missing, like)
		}
		return missing
	case errors.Is(err, fs.ErrPermission):
		return hint.New(&os.PathError{Op: "opening", Path: at, Err: fs.ErrPermission}, "only its owner and root may read it: use sudo")
	}
	return &os.PathError{Op: "opening", Path: at, Err: err}
}

// likeName gives the names that are most like one that is missing.
func likeName(dir *walk.Dir, name string) string {
	const most, shown = 20_000, 3
	again, err := dir.Dir(".")
	if err != nil {
		return ""
	}
	defer again.Release()
	names, err := again.Names(make([]byte, walk.NamesSize))
	if err != nil || len(names) > most {
		return ""
	}
	names = without(names, ".", "..")
	near := hint.Nearest(name, names)
	if len(near) == 0 {
		return ""
	}
	return "there is " + strings.Join(near[:min(len(near), shown)], ", ")
}

func without(names []string, others ...string) []string {
	var rest []string
	for _, name := range names {
		if name != others[0] && name != others[1] {
			rest = append(rest, name)
		}
	}
	return rest
}

// describe gives the entry of a file, without extended attributes.
func describe(f *walk.File) (Entry, error) {
	e := Entry{Type: f.Type, Mode: f.Mode, UID: f.UID, GID: f.GID, Size: f.Size, ModTime: f.ModTime, Device: f.Device}
	var st unix.Stat_t
	if err := unix.Lstat(f.NoFollowPath(), &st); err != nil {
		return e, err
	}
	e.UseTime = manifest.TimeOf(st.Atim)
	if f.Type == manifest.Symlink {
		var err error
		e.Target, err = f.Target()
		return e, err
	}
	return e, nil
}

func xattrsOf(f *walk.File) ([]manifest.Xattr, error) { return manifest.ListXattrs(f.NoFollowPath()) }
