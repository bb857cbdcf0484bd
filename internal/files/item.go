package files

import (
	"errors"
	"fmt"
	"os"
	"path"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"

	"golang.org/x/sys/unix"
)

// A tree is an item that is being written.
type tree struct {
	to       string // beneath the directory: its final name
	now      string // the same while it is written
	parent   *os.File
	trail    *walk.Trail // from the parent
	isHidden bool
	isWhole  bool     // an empty directory gives its name up
	lock     *os.File // keeps others off a hidden directory
	made     []above  // directories on the way that were missing
}

// above is a directory on the way to an item.
type above struct {
	path string
	*Entry
}

func (t *tree) close() {
	t.trail.Close()
	t.parent.Close()
	if t.lock != nil {
		t.lock.Close()
	}
}

// beginItem begins an item of the order.
func (u *Unpacker) beginItem(e *Entry) error {
	item, placed := &u.o.Items[e.Item], &u.placed[e.Item]
	u.next, u.skip = e.Item+1, -1
	if item.Type != e.Type {
		return malformed("%s is a %s now, and no %s", item.Path, e.Type, item.Type)
	}
	if placed.Present {
		u.report.Present++
		u.pass(e)
		return nil
	}
	t := &tree{to: placed.To, now: placed.To, isWhole: item.Whole}
	parent, err := u.parent(t, item)
	if err != nil {
		return u.failItem(e, placed.To, err)
	}
	dir, err := walk.OpenDir(parent)
	if err != nil {
		parent.Close()
		return u.failItem(e, placed.To, err)
	}
	t.parent, t.trail = parent, walk.NewTrail(dir)
	u.item = t
	switch {
	case placed.To == ".":
		return u.into(e)
	case e.Type == manifest.Directory && !placed.Replaces:
		return u.hide(e)
	}
	return u.write(e, path.Base(placed.To), u.o.Overwrite)
}

func (u *Unpacker) failItem(e *Entry, at string, err error) error {
	if isFatal(err) {
		return u.explain(err, at)
	}
	u.report.Failures.add(at, "%v", err)
	u.pass(e)
	return nil
}

// into writes what is in the item to the directory itself.
func (u *Unpacker) into(e *Entry) error {
	dir, err := u.item.trail.Last().Dir(".")
	if err != nil {
		return u.fail(e, ".", err)
	}
	return u.down(e, ".", dir, !u.o.Items[e.Item].Whole)
}

// hide makes the directory of an item under a hidden name, or goes on with it.
func (u *Unpacker) hide(e *Entry) error {
	t := u.item
	name := hidden(path.Base(t.to))
	t.now, t.isHidden = path.Join(path.Dir(t.to), name), true
	err := unix.Mkdirat(int(t.parent.Fd()), name, 0o700)
	if errors.Is(err, unix.EEXIST) && isOurs(t.parent, name) {
		err = nil
	}
	if err != nil {
		return u.fail(e, name, err)
	}
	dir, err := t.trail.Last().Dir(name)
	if err != nil {
		return u.fail(e, name, err)
	}
	if t.lock, err = openBeneath(t.parent, name); err == nil {
		err = unix.Flock(int(t.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		dir.Release()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errors.New("another restore is writing it")
		}
		return u.fail(e, name, err)
	}
	sweep(dir)
	u.report.Unfinished = t.now
	return u.down(e, name, dir, false)
}

// endItem ends the item that is being written: a hidden directory gets its name when all in it is on disk.
func (u *Unpacker) endItem() error {
	t := u.item
	if t == nil {
		return nil
	}
	hasTree := len(u.dirs) > 0
	if err := u.up(0); err != nil {
		return err
	}
	if t.isHidden && hasTree {
		if err := unix.Syncfs(int(t.parent.Fd())); err != nil {
			return u.explain(err, t.now)
		}
		if err := t.show(); err != nil {
			return u.explain(err, t.to)
		}
		u.report.Unfinished = ""
		t.now, t.isHidden = t.to, false
	}
	for i := len(t.made) - 1; i >= 0; i-- {
		u.finishAbove(t.made[i])
	}
	t.close()
	u.item = nil
	return nil
}

// show gives a hidden directory its name.
func (t *tree) show() error {
	parent := int(t.parent.Fd())
	err := unix.Renameat2(parent, path.Base(t.now), parent, path.Base(t.to), unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || t.isWhole && errors.Is(err, unix.EEXIST) { // a filesystem that cannot; a directory replaces an empty directory at most
		err = unix.Renameat(parent, path.Base(t.now), parent, path.Base(t.to))
	}
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTEMPTY) {
		return hint.Newf(fmt.Errorf("something of this name was made meanwhile"), "all of it is in %s", path.Base(t.now))
	}
	return err
}

// parent opens the directory of an item, and makes what is missing on the way.
func (u *Unpacker) parent(t *tree, item *Item) (*os.File, error) {
	below := path.Dir(t.to)
	for {
		dir, err := openBeneath(u.root, below)
		if err == nil {
			return dir, nil
		}
		if !errors.Is(err, unix.ENOENT) {
			return nil, throughLink(err, u.root, below)
		}
		if err := u.makeAbove(t, item, below); err != nil {
			return nil, err
		}
	}
}

// makeAbove makes the first directory on a path that is missing.
func (u *Unpacker) makeAbove(t *tree, item *Item, below string) error {
	missing, parent := below, (*os.File)(nil)
	for parent == nil {
		dir, err := openBeneath(u.root, path.Dir(missing))
		switch {
		case err == nil:
			parent = dir
		case errors.Is(err, unix.ENOENT) && path.Dir(missing) != ".":
			missing = path.Dir(missing)
		default:
			return throughLink(err, u.root, path.Dir(missing))
		}
	}
	defer parent.Close()
	mode, depth := uint32(0o755), depthOf(missing)
	if depth < len(item.Above) {
		mode = 0o700
	}
	if err := unix.Mkdirat(int(parent.Fd()), path.Base(missing), mode); err != nil {
		return &os.PathError{Op: "mkdir", Path: path.Join(u.root.Name(), missing), Err: err}
	}
	if depth < len(item.Above) {
		t.made = append(t.made, above{missing, &item.Above[depth]})
	}
	return nil
}

// depthOf tells how many directories a path leads through.
func depthOf(below string) (n int) {
	for dir := path.Dir(below); dir != "."; dir = path.Dir(dir) {
		n++
	}
	return n
}

// finishAbove sets the attributes of a directory that was made on the way, as it is in the backup.
func (u *Unpacker) finishAbove(a above) {
	dir, err := openBeneath(u.root, a.path)
	if err != nil {
		u.report.Lost.add(a.path, "%v", err)
		return
	}
	defer dir.Close()
	u.attributes(int(dir.Fd()), a.Entry, a.path)
}
