package btrfs

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// RootDirectory is the inode number of the root of each subvolume.
const RootDirectory = firstFreeObjectID

// An Inode is what the tree of a subvolume has of one.
type Inode struct {
	Number     uint64
	Generation uint64 // transaction in which it was made: a number may be used again
	ChangedIn  uint64 // transaction of its last change
	Mode       uint32
	Flags      Flags
}

// Flags are those that chattr(1) sets and that no send stream holds (linux/fs.h: FS_*_FL). That of compression is a property, which
// is an extended attribute and sent.
type Flags uint32

const (
	SyncFlag       Flags = 0x8
	ImmutableFlag  Flags = 0x10
	AppendFlag     Flags = 0x20
	NoDumpFlag     Flags = 0x40
	NoAtimeFlag    Flags = 0x80
	NoCompressFlag Flags = 0x400
	DirSyncFlag    Flags = 0x10000
	NoCowFlag      Flags = 0x800000
)

// CompressionProperty is the extended attribute that tells how a file is compressed.
const CompressionProperty = "btrfs.compression"

// flagLetters are those of lsattr(1), by the flag in a struct btrfs_inode_item (linux/btrfs_tree.h: BTRFS_INODE_*), with that in a struct
// fsxattr (linux/fs.h: FS_XFLAG_*), which some have.
var flagLetters = []struct {
	item   uint64
	flag   Flags
	letter byte
	attr   uint32
}{
	{1 << 5, SyncFlag, 'S', 0x20}, {1 << 10, DirSyncFlag, 'D', 0}, {1 << 6, ImmutableFlag, 'i', 0x8}, {1 << 7, AppendFlag, 'a', 0x10},
	{1 << 8, NoDumpFlag, 'd', 0x80}, {1 << 9, NoAtimeFlag, 'A', 0x40}, {1 << 1, NoCowFlag, 'C', 0}, {1 << 3, NoCompressFlag, 'm', 0},
}

// KnownFlags are all that there are.
const KnownFlags = SyncFlag | ImmutableFlag | AppendFlag | NoDumpFlag | NoAtimeFlag | NoCompressFlag | DirSyncFlag | NoCowFlag

// String gives the letters that chattr(1) and lsattr(1) use.
func (f Flags) String() string {
	var letters []byte
	for _, l := range flagLetters {
		if f&l.flag != 0 {
			letters = append(letters, l.letter)
		}
	}
	return string(letters)
}

// Inodes calls found for the inodes in blocks of an open subvolume that were written since a transaction, in the order of their numbers.
// It needs CAP_SYS_ADMIN.
func Inodes(subvolume *os.File, since uint64, found func(Inode)) error {
	info, err := Info(subvolume)
	if err == nil {
		from := key{ObjectID: firstFreeObjectID, Kind: inodeItemKey}
		err = searchTree(subvolume, info.ID, since, from, func(k key, item []byte) {
			if i, ok := decodeInode(k, item); ok {
				found(i)
			}
		})
	}
	if err != nil {
		return fmt.Errorf("reading the inodes of %s: %w", subvolume.Name(), err)
	}
	return nil
}

// InodeIn gives one inode of an open subvolume, the root of which has the ID; ok is false if it is not there.
func InodeIn(subvolume *os.File, id, number uint64) (i Inode, ok bool, err error) {
	item := key{ObjectID: number, Kind: inodeItemKey}
	err = searchRange(subvolume, id, 0, item, item, func(k key, item []byte) { i, ok = decodeInode(k, item) })
	if err != nil {
		err = fmt.Errorf("reading inode %d of %s: %w", number, subvolume.Name(), err)
	}
	return i, ok, err
}

// decodeInode reads a struct btrfs_inode_item (linux/btrfs_tree.h).
func decodeInode(k key, item []byte) (i Inode, ok bool) {
	if k.Kind != inodeItemKey || len(item) < 160 || k.ObjectID > lastFreeObjectID {
		return i, false
	}
	i = Inode{Number: k.ObjectID, Generation: le.Uint64(item), ChangedIn: le.Uint64(item[8:]), Mode: le.Uint32(item[52:])}
	i.Flags = FlagsOfItem(le.Uint64(item[64:]))
	return i, true
}

// FlagsOfItem gives the flags that are BTRFS_INODE_* in a struct btrfs_inode_item.
func FlagsOfItem(item uint64) (flags Flags) {
	for _, l := range flagLetters {
		if item&l.item != 0 {
			flags |= l.flag
		}
	}
	return flags
}

// FlagsOf gives the flags of an open file or directory.
func FlagsOf(f *os.File) (Flags, error) { return FlagsAt(int(f.Fd())) }

// FlagsAt is FlagsOf for a descriptor.
func FlagsAt(fd int) (Flags, error) {
	flags, err := unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS)
	if err != nil {
		return 0, os.NewSyscallError("FS_IOC_GETFLAGS", err)
	}
	return Flags(flags) & KnownFlags, nil
}

// SetFlags sets the flags of an open file or directory, and leaves others as they are. What cannot be is passed over: a file that has
// content keeps NoCowFlag, or remains without, and what keeps it does not get NoCompressFlag.
func SetFlags(f *os.File, flags Flags) error {
	const (
		compress   = 0x4 // linux/fs.h: FS_COMPR_FL, which stands for the property
		sealing    = ImmutableFlag | AppendFlag
		exclusive  = NoCowFlag | NoCompressFlag
		iocSetAttr = 0x401c5820 // linux/fs.h: FS_IOC_FSSETXATTR, struct fsxattr
	)
	flags &= KnownFlags
	before, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil || Flags(before)&KnownFlags == flags {
		return os.NewSyscallError("FS_IOC_GETFLAGS", err)
	}
	if flags&exclusive != 0 && Flags(before)&exclusive != 0 && (Flags(before)^flags)&exclusive != 0 { // which is refused at once
		if err := SetFlags(f, flags&^(exclusive|sealing)); err != nil {
			return err
		}
		if before, err = unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS); err != nil {
			return os.NewSyscallError("FS_IOC_GETFLAGS", err)
		}
		if Flags(before)&NoCowFlag != 0 {
			flags &^= NoCompressFlag
		}
	}
	// What is compressed, and how, would become what the mount says.
	property := make([]byte, 64)
	n, err := unix.Fgetxattr(int(f.Fd()), CompressionProperty, property)
	if err != nil {
		err = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, before&^int(KnownFlags)|int(flags))
		return os.NewSyscallError("FS_IOC_SETFLAGS", err)
	}
	err = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, before&^int(KnownFlags|compress)|int(flags&^sealing))
	if err != nil {
		return os.NewSyscallError("FS_IOC_SETFLAGS", err)
	}
	if err = unix.Fsetxattr(int(f.Fd()), CompressionProperty, property[:n], 0); err != nil || flags&sealing == 0 {
		return os.NewSyscallError("fsetxattr", err)
	}
	arg := make([]byte, 28)
	for _, l := range flagLetters {
		if flags&l.flag != 0 {
			native.PutUint32(arg, native.Uint32(arg)|l.attr)
		}
	}
	return os.NewSyscallError("FS_IOC_FSSETXATTR", ioctl(f, iocSetAttr, arg))
}
