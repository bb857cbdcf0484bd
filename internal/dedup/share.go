package dedup

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/btrfs/reflink"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"

	"golang.org/x/sys/unix"
)

// candidate is a file of the folder whose content is known.
type candidate struct {
	*opened
	place
}

// openNew holds the new file if it is as e describes it.
func (x *Index) openNew(path string, e manifest.Entry) (*opened, error) {
	o, err := x.open(path)
	if err != nil {
		return nil, err
	}
	if o.stat.Size != e.Size || manifest.TimeOf(o.stat.Mtim) != e.ModTime || o.stat.Ino != e.Inode {
		o.Close()
		return nil, fmt.Errorf("%s was changed", o.Name())
	}
	return o, nil
}

// openKnown holds the file that is on record, or the one at its path in a backup near its own if that is gone: a file that does
// not change has the same path in all of them.
func (x *Index) openKnown(p place, e manifest.Entry) (*candidate, error) {
	c, err := x.openPlace(p, e)
	if !errors.Is(err, fs.ErrNotExist) {
		return c, err
	}
	for _, p.Backup = range x.near(p.Backup) {
		if c, err := x.openPlace(p, e); err == nil {
			return c, nil
		}
	}
	return nil, err
}

func (x *Index) openPlace(p place, e manifest.Entry) (*candidate, error) {
	root := p.Backup
	if p.Backup == x.backup {
		root = x.root
	}
	o, err := x.open(root + "/" + p.Path)
	if err != nil {
		return nil, err
	}
	if o.stat.Size != e.Size || manifest.TimeOf(o.stat.Mtim) != p.ModTime {
		o.Close()
		return nil, fmt.Errorf("%s was replaced by another file", o.Name())
	}
	return &candidate{o, p}, nil
}

// near gives the backups whose names are next to that of one which is gone, newer ones first: there its files are most likely.
func (x *Index) near(backup string) []string {
	const newer, older = 3, 1
	if x.backups == nil {
		x.backups, _ = state.In(x.folder).Recorded() // those that can be read are enough
	}
	i, found := slices.BinarySearch(x.backups, backup)
	next := i
	if found {
		next++
	}
	return slices.Concat(x.backups[next:min(next+newer, len(x.backups))], x.backups[max(i-older, 0):i])
}

// share lets the file take the space of the candidate, and updates what is known of it.
func (x *Index) share(ctx context.Context, from *candidate, file *opened, e manifest.Entry) (int64, error) {
	if from.stat.Dev == file.stat.Dev && from.stat.Ino == file.stat.Ino {
		return 0, nil
	}
	if x.sharing != byLinks {
		shared, err := x.shareExtents(ctx, from, file, e)
		switch {
		case x.sharing == byExtents:
			return shared, err
		case errors.Is(err, unix.EOPNOTSUPP):
			x.sharing = byLinks
		case errors.Is(err, reflink.ErrCannotShare): // these two, perhaps others
		case err == nil, errors.Is(err, reflink.ErrContentsDiffer):
			x.sharing = byExtents
			return shared, err
		default:
			return shared, err
		}
	}
	return x.link(ctx, from, file, e)
}

func (x *Index) shareExtents(ctx context.Context, from *candidate, file *opened, e manifest.Entry) (int64, error) {
	if e.Size <= x.inline {
		return 0, nil
	}
	source, err := from.reader()
	if err != nil {
		return 0, err
	}
	defer source.Close()
	target, err := file.reader()
	if err != nil {
		return 0, err
	}
	defer target.Close()
	shared, err := reflink.Share(ctx, source, target, e.Size)
	// The new file was read just now, so it is the known one that is to be doubted.
	if errors.Is(err, reflink.ErrContentsDiffer) || errors.Is(err, unix.EIO) {
		err = errors.Join(err, x.check(ctx, from, e))
	}
	return shared, errors.Join(err, file.restat())
}

// link replaces the file by a link to the candidate, if nothing at all tells them apart.
func (x *Index) link(ctx context.Context, from *candidate, file *opened, e manifest.Entry) (int64, error) {
	_, linked := x.linked[from.stat.Ino]
	switch {
	case linked, from.Backup == x.backup, x.InUse != nil && x.InUse(from.stat.Ino), file.stat.Nlink > 1:
		return 0, errors.New("they are two files in the source")
	case from.stat.Mode != file.stat.Mode, from.stat.Uid != file.stat.Uid, from.stat.Gid != file.stat.Gid,
		from.stat.Mtim != file.stat.Mtim:
		return 0, fmt.Errorf("%s has another mode, owner or time", from.Name())
	}
	if xattrs, err := from.xattrs(); err != nil {
		return 0, err
	} else if xattrs != e.Xattrs {
		return 0, fmt.Errorf("%s has other extended attributes", from.Name())
	}
	if err := x.check(ctx, from, e); err != nil {
		return 0, err
	}
	if err := x.replace(file, from.opened); err != nil {
		return 0, err
	}
	x.linked[from.stat.Ino] = struct{}{}
	err := from.restat()
	file.stat = from.stat
	return e.Size, err
}

// check reads the candidate, and warns if it is damaged.
func (x *Index) check(ctx context.Context, c *candidate, e manifest.Entry) error {
	got, err := c.digest(ctx, e)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		err = fmt.Errorf("%s cannot be read any more: %w", c.Name(), err)
	case got != e.SHA256:
		err = fmt.Errorf("%s is damaged: its content changed, but neither its size nor its time", c.Name())
	default:
		return nil
	}
	x.Log.Warn(fmt.Sprintf("%v; its content is stored anew, and `btrfs-backup verify %s` finds other damaged files",
		err, x.folder.Name()+"/"+c.Backup))
	return err
}

// replace puts a link to the other file in the place of a file, whose name is never missing meanwhile.
func (x *Index) replace(file, other *opened) error {
	dir := int(file.dir.Fd())
	var was unix.Stat_t
	if err := unix.Fstat(dir, &was); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	temporary := ".dedup-" + rand.Text()
	err := unix.Linkat(unix.AT_FDCWD, magicLink(other.File), dir, temporary, unix.AT_SYMLINK_FOLLOW)
	if err != nil {
		return &os.LinkError{Op: "link", Old: other.Name(), New: file.Name(), Err: err}
	}
	err = os.NewSyscallError("renameat", unix.Renameat(dir, temporary, dir, file.name))
	if err != nil {
		err = errors.Join(err, os.NewSyscallError("unlinkat", unix.Unlinkat(dir, temporary, 0)))
	}
	times := []unix.Timespec{was.Atim, was.Mtim}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, magicLink(file.dir), times, 0); err != nil {
		x.Log.Warn(fmt.Sprintf("the time of the directory of %s could not be set again: %v", file.Name(), err))
	}
	return err
}
