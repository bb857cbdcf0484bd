package receive

import (
	"bytes"
	"errors"
	"slices"
	"strconv"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"

	"golang.org/x/sys/unix"
)

// attribute lets a command be applied to the file whose work is being gathered, in its order, or at once to anything else.
func (r *receiver) attribute(c *command, path string, toFile func(fd int) error, toPlace func(place) error) error {
	if c.bad != nil {
		return nil
	}
	if f := r.current; f != nil && f.path == path {
		if c.kind != sendstream.CmdUtimes {
			f.owned = nil
		}
		r.add(f, step{number: c.number, kind: c.kind, xattr: string(c.values[sendstream.AttrXattrName]),
			size: len(c.values[sendstream.AttrXattrData]), do: toFile})
		return nil
	}
	at, err := r.dirs.at(path)
	if err != nil {
		return err
	}
	if r.current != nil || r.pool.isBusy() {
		var st unix.Stat_t
		if err := unix.Fstatat(at.dir, at.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if r.current != nil && r.current.inode == st.Ino { // by another name
			r.flush()
		}
		r.pool.waitFor(st.Ino)
	}
	return r.unlocked(func() error { return toPlace(at) })
}

func (r *receiver) setXattr(c *command) error {
	path, name, data := c.pathOrRoot(), c.text(sendstream.AttrXattrName), bytes.Clone(c.bytes(sendstream.AttrXattrData, 0))
	return r.xattr(c, path, name, func(fd int) error { return r.uncompressed(name, setXattrOf(fd, name, data)) },
		func(at place) error { return r.uncompressed(name, setXattrAt(at, name, data)) })
}

// uncompressed counts, and tolerates, that something cannot be compressed: it has content without checksums, so that it must stay without
// them. Nothing of its content is lost by that.
func (r *receiver) uncompressed(name string, err error) error {
	if err != unix.EINVAL || name != btrfs.CompressionProperty {
		return err
	}
	r.pool.uncompressed.Add(1)
	return nil
}

func setXattrOf(fd int, name string, data []byte) error {
	set := func() error { return unix.Fsetxattr(fd, name, data, 0) }
	err := set()
	switch {
	case err == unix.ENOSPC && unix.Fremovexattr(fd, name) == nil:
		return set()
	case err == unix.EINVAL && name == btrfs.CompressionProperty:
		// The flag that excludes it may be there still. So it was at the sender, who tells flags later.
		if had, clearErr := clearFlags(fd, btrfs.NoCowFlag); had && clearErr == nil {
			return set()
		}
	}
	return err
}

// setXattrAt sets an attribute of anything. In place of a smaller value the kernel writes only what fits into the same block.
func setXattrAt(at place, name string, data []byte) error {
	set := func() error { return unix.Lsetxattr(at.proc(), name, data, 0) }
	err := set()
	switch {
	case err == unix.ENOSPC && unix.Lremovexattr(at.proc(), name) == nil:
		return set()
	case err == unix.EINVAL && name == btrfs.CompressionProperty:
		fd, openErr := at.openNode()
		if openErr != nil {
			return err
		}
		defer unix.Close(fd)
		return setXattrOf(fd, name, data)
	}
	return err
}

func (r *receiver) removeXattr(c *command) error {
	path, name := c.pathOrRoot(), c.text(sendstream.AttrXattrName)
	return r.xattr(c, path, name, func(fd int) error { return wasUncompressed(name, unix.Fremovexattr(fd, name)) },
		func(at place) error { return wasUncompressed(name, unix.Lremovexattr(at.proc(), name)) })
}

// wasUncompressed tolerates that what an earlier stream could not set is not there.
func wasUncompressed(name string, err error) error {
	if name == btrfs.CompressionProperty && err == unix.ENODATA {
		return nil
	}
	return err
}

func (r *receiver) xattr(c *command, path, name string, toFile func(fd int) error, toPlace func(place) error) error {
	err := r.attribute(c, path, toFile, toPlace)
	if slices.Contains(inherited, name) {
		r.dirs.changed()
	}
	return err
}

func (r *receiver) chown(c *command) error {
	path, uid, gid := c.pathOrRoot(), int(c.uint64(sendstream.AttrUID)), int(c.uint64(sendstream.AttrGID))
	if f := r.current; f != nil && f.path == path && f.owned != nil && *f.owned == (owner{uid, gid}) {
		return nil
	}
	return r.attribute(c, path, func(fd int) error { return chown(place{dir: fd}, uid, gid) },
		func(at place) error { return chown(at, uid, gid) })
}

// chown leaves the mode as it is. The kernel takes the set-id bits away from what gets another owner, but a sender tells the mode only if it
// changed.
func chown(at place, uid, gid int) error {
	flags := unix.AT_SYMLINK_NOFOLLOW
	if at.name == "" {
		flags = unix.AT_EMPTY_PATH
	}
	var st unix.Stat_t
	if err := unix.Fstatat(at.dir, at.name, &st, flags); err != nil || int(st.Uid) == uid && int(st.Gid) == gid {
		return err
	}
	err := unix.Fchownat(at.dir, at.name, uid, gid, flags)
	if err != nil || st.Mode&(unix.S_ISUID|unix.S_ISGID) == 0 || st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return err
	}
	if at.name == "" {
		return unix.Fchmod(at.dir, st.Mode&0o7777)
	}
	return chmodAt(at, st.Mode&0o7777)
}

func (r *receiver) chmod(c *command) error {
	path, mode := c.pathOrRoot(), uint32(c.uint64(sendstream.AttrMode))&0o7777
	return r.attribute(c, path, func(fd int) error { return unix.Fchmod(fd, mode) },
		func(at place) error { return chmodAt(at, mode) })
}

// chmodAt never follows a symbolic link. Before Linux 6.6 there is no call for that.
func chmodAt(at place, mode uint32) error {
	err := unix.Fchmodat(at.dir, at.name, mode, unix.AT_SYMLINK_NOFOLLOW)
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	fd, err := openInside(at.dir, at.name, unix.O_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return unix.EOPNOTSUPP
	}
	return unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), mode)
}

func (r *receiver) utimes(c *command) error {
	path, times := c.pathOrRoot(), [2]unix.Timespec{c.time(sendstream.AttrAtime), c.time(sendstream.AttrMtime)}
	if c.bad == nil && path == "" {
		r.times = times
	}
	return r.attribute(c, path, func(fd int) error { return utimes(fd, "", times) },
		func(at place) error { return utimes(at.dir, at.name, times) })
}

// utimes sets the times of what stands in a directory, or of what is open.
func utimes(fd int, name string, times [2]unix.Timespec) error {
	flags := unix.AT_SYMLINK_NOFOLLOW
	if name == "" {
		flags = unix.AT_EMPTY_PATH
	}
	return unix.UtimesNanoAt(fd, name, times[:], flags)
}

// locks keep even root from changing something. The root of a backup has none: it could be neither renamed nor deleted.
const locks = btrfs.ImmutableFlag | btrfs.AppendFlag

// setFlags notes flags: what is immutable can be changed no more, not even by what comes later in the stream.
func (r *receiver) setFlags(c *command) error {
	path, flags := c.pathOrRoot(), btrfs.FlagsOfItem(c.uint64(sendstream.AttrFileattr))
	if c.bad != nil {
		return nil
	}
	if path == "" {
		flags &^= locks
	}
	at, err := r.dirs.at(path)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(at.dir, at.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return nil // chattr sets none of anything else, and a device is not to be opened
	}
	r.flags = append(r.flags, flagged{c.number, path, st.Ino, flags})
	return nil
}

func (r *receiver) applyFlags(f flagged) error {
	s, err := btrfs.Info(r.root)
	if err != nil {
		return err
	}
	file, err := btrfs.OpenInode(r.root, s.ID, f.inode, unix.O_RDONLY|unix.O_NONBLOCK, f.path)
	if err != nil {
		if f.number == 0 && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESTALE)) { // the stream has removed it
			return nil
		}
		return err
	}
	defer file.Close()
	return btrfs.SetFlags(file, f.flags)
}

// unlocked does what a file or directory of the parent may forbid, even to root: it is immutable or append-only until the stream tells
// otherwise, if at all. What is so is found only then, since all inodes have to be looked at, and becomes so again at the end.
func (r *receiver) unlocked(do func() error) error {
	err := do()
	if !errors.Is(err, unix.EPERM) || r.parent == nil || r.open {
		return err
	}
	r.open = true
	var locked []flagged
	if err := btrfs.Inodes(r.root, 0, func(i btrfs.Inode) {
		if i.Flags&locks != 0 {
			locked = append(locked, flagged{inode: i.Number, flags: i.Flags, path: "inode " + strconv.FormatUint(i.Number, 10)})
		}
	}); err != nil {
		return err
	}
	for _, f := range locked {
		now := f
		now.flags &^= locks
		if err := r.applyFlags(now); err != nil {
			return err
		}
	}
	r.flags = append(locked, r.flags...)
	return do()
}

func (r *receiver) enableVerity(c *command) error {
	path, v := c.path(), btrfs.Verity{
		Algorithm: c.bytes(sendstream.AttrVerityAlgorithm, 1)[0], BlockSize: c.uint32(sendstream.AttrVerityBlockSize),
		Salt: bytes.Clone(c.bytes(sendstream.AttrVeritySalt, 0)), Signature: bytes.Clone(c.bytes(sendstream.AttrVeritySignature, 0)),
	}
	if c.bad != nil {
		return nil
	}
	f, err := r.file(path)
	if err != nil {
		return err
	}
	r.add(f, step{number: c.number, kind: c.kind, do: func(int) error {
		if err := f.reopen(); err != nil { // what is open for writing cannot be sealed
			return err
		}
		return btrfs.EnableVerity(f.fd, v)
	}})
	return nil
}
