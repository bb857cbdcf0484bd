package replace

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"

	"golang.org/x/sys/unix"
)

// sorted tells which subvolumes in the old one move, and which stay.
type sorted struct{ moved, left []string }

// sort looks at the subvolumes in the old one, before anything is made. The snapshots of it move always, since increments build on them.
func (w *work) sort(old *os.File, into *os.File, covered []string) (s sorted, err error) {
	children, err := btrfs.Children(old)
	if err != nil {
		return s, err
	}
	stay := w.LeaveNested || w.report.Way == Default
	for _, c := range children {
		if slices.Contains(covered, c.Path) {
			if stay {
				s.left = append(s.left, c.Path)
				continue
			}
			return s, hint.New(fmt.Errorf("something is mounted on the subvolume %s, so it cannot be moved into the restored one",
				path.Join(old.Name(), c.Path)), "unmount it, or: "+leaveThem)
		}
		info, err := btrfs.InfoAt(old, c.Path)
		if err != nil {
			return s, err
		}
		_, _, onItsWay := movingOf(path.Base(c.Path))
		isSnapshot := (info.ReadOnly || onItsWay) && w.Folder != "" && path.Dir(c.Path) == path.Clean(w.Folder)
		if !isSnapshot && stay {
			s.left = append(s.left, c.Path)
			continue
		}
		if isSnapshot && !onItsWay {
			if err := CheckSnapshotName(path.Base(c.Path)); err != nil {
				return s, err
			}
		}
		if err := w.checkMovable(old, into, c.Path, info.ReadOnly && !isSnapshot); err != nil {
			return s, err
		}
		s.moved = append(s.moved, c.Path)
	}
	slices.Sort(s.moved)
	return s, nil
}

const leaveThem = "--leave-nested leaves the subvolumes in it where they are, in what is kept"

func (w *work) checkMovable(old, into *os.File, at string, isPinned bool) error {
	full := path.Join(old.Name(), at)
	if isPinned {
		return hint.New(fmt.Errorf("the subvolume %s is read-only, and cannot be moved into the restored one", full), leaveThem)
	}
	if into == nil {
		return nil
	}
	var st unix.Stat_t
	for dir := path.Dir(at); dir != "."; dir = path.Dir(dir) {
		if err := lstatIn(into, dir, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return w.inTheWay(full, dir)
		}
	}
	if lstatIn(into, at, &st) != nil {
		return nil
	}
	dir, err := btrfs.OpenDirAt(into, at)
	if err != nil {
		return w.inTheWay(full, at)
	}
	defer dir.Close()
	if names, err := namesIn(dir); err != nil || len(names) > 0 {
		return w.inTheWay(full, at)
	}
	return nil
}

func (w *work) inTheWay(full, at string) error {
	return hint.New(fmt.Errorf("the subvolume %s cannot be moved into the restored one, which has something else at %s", full, at), leaveThem)
}

// lstatIn describes what is at a path below a directory, and follows no links.
func lstatIn(dir *os.File, at string, st *unix.Stat_t) error {
	above, err := btrfs.OpenDirAt(dir, path.Dir(at))
	if err != nil {
		return err
	}
	defer above.Close()
	return unix.Fstatat(int(above.Fd()), path.Base(at), st, unix.AT_SYMLINK_NOFOLLOW)
}

// moveAll moves subvolumes from the old one into the new one.
func (w *work) moveAll(ctx context.Context, old, made *os.File, paths []string) error {
	for _, at := range paths {
		if err := moveOne(old, made, at); err != nil {
			return fmt.Errorf("moving the subvolume %s into the restored one: %w", at, err)
		}
		w.report.Moved = append(w.report.Moved, shown(at))
		failpoint.Reach("nested subvolume moved")
	}
	if w.Folder == "" {
		return nil
	}
	from, err := btrfs.OpenDirAt(old, w.Folder)
	if errors.Is(err, fs.ErrNotExist) {
		return tidyFolder(made, w.Folder)
	}
	if err != nil {
		return err
	}
	defer from.Close()
	folder, err := makeDirs(made, old, w.Folder)
	if err != nil {
		return err
	}
	defer folder.Close()
	return errors.Join(arriveAll(folder), removeStubs(folder), passFolder(ctx, from, folder))
}

// tellLeft tells which subvolumes must be deleted before the old one.
func (w *work) tellLeft() error {
	if err := w.relist(); err != nil {
		return err
	}
	within := []uint64{w.report.AsideID}
	for i := 0; i < len(within); i++ {
		for _, s := range w.all.All {
			if s.Container == within[i] {
				within = append(within, s.ID)
			}
		}
	}
	w.report.LeftIDs = within[1:]
	slices.Reverse(w.report.LeftIDs)
	return nil
}

func moveOne(old, made *os.File, at string) error {
	from, err := btrfs.OpenDirAt(old, path.Dir(at))
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := makeDirs(made, old, path.Dir(at))
	if err != nil {
		return err
	}
	defer to.Close()
	name := path.Base(at)
	info, err := btrfs.InfoAt(from, name)
	if err != nil {
		return err
	}
	if _, _, onItsWay := movingOf(name); info.ReadOnly || onItsWay {
		return moveSnapshot(from, name, to)
	}
	return btrfs.Move(from, name, to, name)
}

// shown is the path of a subvolume by the name that it gets.
func shown(at string) string {
	if name, _, onItsWay := movingOf(path.Base(at)); onItsWay {
		return path.Join(path.Dir(at), name)
	}
	return at
}

// makeDirs opens a directory below another one, and makes what is missing, with the modes and owners that it has in the model, if any.
func makeDirs(dir, model *os.File, at string) (*os.File, error) {
	current, err := btrfs.OpenDirAt(dir, ".")
	if err != nil {
		return nil, err
	}
	below := ""
	for name := range strings.SplitSeq(path.Clean(at), "/") {
		if name == "." {
			continue
		}
		below = path.Join(below, name)
		next, err := btrfs.OpenDirAt(current, name)
		if errors.Is(err, fs.ErrNotExist) {
			next, err = makeDir(current, name, model, below)
		}
		current.Close()
		if err != nil {
			return nil, err
		}
		current = next
	}
	return current, nil
}

func makeDir(dir *os.File, name string, model *os.File, at string) (*os.File, error) {
	st := unix.Stat_t{Mode: 0o755}
	if model != nil {
		if err := lstatIn(model, at, &st); err != nil {
			return nil, &fs.PathError{Op: "stat", Path: path.Join(model.Name(), at), Err: err}
		}
	}
	if err := unix.Mkdirat(int(dir.Fd()), name, 0o700); err != nil {
		return nil, &fs.PathError{Op: "mkdir", Path: path.Join(dir.Name(), name), Err: err}
	}
	made, err := btrfs.OpenDirAt(dir, name)
	if err != nil {
		return nil, err
	}
	err = errors.Join(made.Chown(int(st.Uid), int(st.Gid)), unix.Fchmod(int(made.Fd()), st.Mode&0o7777))
	if err != nil {
		made.Close()
		return nil, err
	}
	return made, nil
}
