package files

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"

	"golang.org/x/sys/unix"
)

// A newFile is a regular file that has no name yet, or on filesystems that know no such files, a name of no meaning.
type newFile struct {
	*os.File
	e         *Entry
	name      string // the final one
	temporary string // the one that it has; "": none
	dir       int    // descriptor of its directory, borrowed
	replaces  bool
	written   int64 // how far
}

func createFile(in *walk.Dir, name string, e *Entry, replaces bool) (*newFile, error) {
	f := &newFile{e: e, name: name, dir: in.Descriptor(), replaces: replaces}
	fd, err := unix.Openat(f.dir, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EINVAL) {
		f.temporary = temporaryName()
		fd, err = unix.Openat(f.dir, f.temporary, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	}
	if err != nil {
		return nil, err
	}
	f.File = os.NewFile(uintptr(fd), name)
	if e.Flags&btrfs.NoCowFlag != 0 { // which only an empty file can be given
		_ = btrfs.SetFlags(f.File, btrfs.NoCowFlag) // that it lacks it is told with the other attributes
	}
	return f, nil
}

// temporaryName gives a name that nobody has.
func temporaryName() string {
	random := make([]byte, 8)
	_, _ = rand.Read(random) // never fails
	return temporaryStart + hex.EncodeToString(random)
}

const temporaryStart = ".btrfs-backup-"

// sweep removes what a restore that was killed left under such names in a directory that is hidden until it is complete.
func sweep(dir *walk.Dir) {
	again, err := dir.Dir(".")
	if err != nil {
		return
	}
	defer again.Release()
	names, _ := again.Names(make([]byte, walk.NamesSize))
	for _, name := range names {
		if random, ok := strings.CutPrefix(name, temporaryStart); ok && len(random) == 16 {
			_ = unix.Unlinkat(dir.Descriptor(), name, 0)
		}
	}
}

// write writes content, which comes in order.
func (f *newFile) write(at int64, content []byte) error {
	if at < f.written || at > f.e.Size || int64(len(content)) > f.e.Size-at {
		return malformed("content at %d of a file of %d bytes", at, f.e.Size)
	}
	for len(content) > 0 {
		n, err := unix.Pwrite(int(f.Fd()), content, at)
		if err != nil && err != unix.EINTR {
			return err
		}
		content, at = content[max(n, 0):], at+int64(max(n, 0))
	}
	f.written = at
	return nil
}

// extend makes a hole of what no content came for.
func (f *newFile) extend() error {
	if f.written == f.e.Size {
		return nil
	}
	return os.NewSyscallError("ftruncate", unix.Ftruncate(int(f.Fd()), f.e.Size))
}

// place gives the file its name.
func (f *newFile) place() (inode uint64, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, os.NewSyscallError("fstat", err)
	}
	if f.replaces { // what was there is lost, so that this must be on disk
		if err := unix.Fsync(int(f.Fd())); err != nil {
			return 0, os.NewSyscallError("fsync", err)
		}
	}
	if f.temporary == "" {
		return st.Ino, nameFile(int(f.Fd()), f.dir, f.name, f.replaces)
	}
	err = rename(f.dir, f.temporary, f.name, f.replaces)
	if err == nil {
		f.temporary = ""
	}
	return st.Ino, err
}

// discard closes the file. Without a final name, it is gone.
func (f *newFile) discard() {
	f.Close()
	if f.temporary != "" {
		_ = unix.Unlinkat(f.dir, f.temporary, 0)
	}
}

// nameFile gives an open file a name, or one more.
func nameFile(fd, dir int, name string, replaces bool) error {
	from := fmt.Sprintf("/proc/self/fd/%d", fd)
	if !replaces {
		return unix.Linkat(unix.AT_FDCWD, from, dir, name, unix.AT_SYMLINK_FOLLOW)
	}
	temporary := temporaryName()
	if err := unix.Linkat(unix.AT_FDCWD, from, dir, temporary, unix.AT_SYMLINK_FOLLOW); err != nil {
		return err
	}
	err := unix.Renameat(dir, temporary, dir, name)
	_ = unix.Unlinkat(dir, temporary, 0) // it is still there if it failed, and if both were names of one file
	return err
}

// rename gives what has a name of no meaning its final one.
func rename(dir int, from, to string, replaces bool) error {
	if replaces {
		return unix.Renameat(dir, from, dir, to)
	}
	err := unix.Renameat2(dir, from, dir, to, unix.RENAME_NOREPLACE)
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	if err := unix.Linkat(dir, from, dir, to, 0); err != nil { // what a filesystem without RENAME_NOREPLACE can do
		return err
	}
	return unix.Unlinkat(dir, from, 0)
}

// special makes what is no regular file and no directory.
func (u *Unpacker) special(e *Entry, name string, replaces bool) error {
	dir := u.item.trail.Last().Descriptor()
	temporary := temporaryName()
	err := makeSpecial(dir, temporary, e)
	if err != nil {
		return u.fail(e, name, err)
	}
	inode, err := u.dress(dir, temporary, e, u.at(name))
	if err == nil {
		err = rename(dir, temporary, name, replaces)
	}
	if err != nil {
		_ = unix.Unlinkat(dir, temporary, 0)
		return u.fail(e, name, err)
	}
	u.links.note(e, u.item, u.below(name), inode)
	u.report.Files++
	return nil
}

func makeSpecial(dir int, name string, e *Entry) error {
	formats := map[manifest.Type]uint32{manifest.FIFO: unix.S_IFIFO, manifest.Socket: unix.S_IFSOCK,
		manifest.CharDevice: unix.S_IFCHR, manifest.BlockDevice: unix.S_IFBLK}
	if e.Type == manifest.Symlink {
		return unix.Symlinkat(e.Target, dir, name)
	}
	err := unix.Mknodat(dir, name, formats[e.Type]|0o600, int(e.Device))
	if errors.Is(err, unix.EPERM) && e.Device != 0 {
		return errors.New("only root can make a device")
	}
	return err
}

// dress gives what was just made the attributes of an entry.
func (u *Unpacker) dress(dir int, name string, e *Entry, at string) (inode uint64, err error) {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, err
	}
	if manifest.Describe(name, &st).Type != e.Type || st.Nlink != 1 || int(st.Uid) != os.Geteuid() {
		return 0, errors.New("somebody else put something in its place")
	}
	u.attributes(fd, e, at)
	return st.Ino, nil
}
