// Package btrfs works on subvolumes by the kernel's ioctls: it lists, describes, creates, snapshots and deletes them, and
// sets their read-only flag. It holds the only ioctls of the program.
//
// Directories are given as open files, never looked up in the mount table, so bind mounts, mounts of a subvolume, mounts
// over mounts and symbolic links need no thought. Names are single path components within such a directory.
//
// Nothing here recurses, overwrites or nests: a snapshot whose name is taken and a subvolume that holds another one are
// errors. Errors wrap the kernel's errno.
//
// Except for listing a whole filesystem, deleting, and reading quota groups, the calls work for an ordinary user on
// subvolumes of his own (Linux 4.18).
package btrfs

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// UUID identifies a subvolume. The zero value means that there is none.
type UUID [16]byte

// IsZero tells that there is no UUID.
func (u UUID) IsZero() bool { return u == UUID{} }

// String gives the form with hyphens, or "-" for none.
func (u UUID) String() string {
	if u.IsZero() {
		return "-"
	}
	h := hex.EncodeToString(u[:])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

// MarshalText gives the form with hyphens; no UUID is the empty text.
func (u UUID) MarshalText() ([]byte, error) {
	if u.IsZero() {
		return nil, nil
	}
	return []byte(u.String()), nil
}

// UnmarshalText reads what MarshalText wrote.
func (u *UUID) UnmarshalText(text []byte) error {
	digits := slices.DeleteFunc(append(make([]byte, 0, 36), text...), func(c byte) bool { return c == '-' })
	var read UUID
	n, err := hex.DecodedLen(len(digits)), error(nil)
	if n == len(u) {
		n, err = hex.Decode(read[:], digits)
	}
	if err != nil || n != len(u) && len(digits) != 0 {
		return fmt.Errorf("%q is not a UUID", text)
	}
	*u = read
	return nil
}

// Subvolume describes a subvolume or snapshot.
type Subvolume struct {
	ID        uint64 // number of its tree
	Container uint64 // ID of the subvolume that it lies in; 0 for the top level
	DirID     uint64 // inode number of the directory that it lies in
	Name      string // its name in that directory

	UUID         UUID
	ParentUUID   UUID // what it was a snapshot of
	ReceivedUUID UUID // what it is a received copy of
	ReadOnly     bool
	Default      bool // mounted when none is named, which the kernel does not delete; only List tells
	Mounted      bool // on the machine that lists it, whose host tells

	// Transaction numbers of this filesystem, except SentIn: they grow with each change, whatever the clock does.
	ChangedIn  uint64
	CreatedIn  uint64
	SentIn     uint64 // ChangedIn of the sent snapshot, in the sender's filesystem; of what is Filled its own, until then
	ReceivedIn uint64
	AlteredIn  uint64 // the newest in which somebody altered what is read-only now; 0: never. Only List tells

	Changed    time.Time
	Created    time.Time
	ReceivedAt time.Time
}

// IsTop tells that s is the top level of its filesystem.
func (s Subvolume) IsTop() bool { return s.ID == topLevel }

// InUse tells why s is not to be deleted, or gives "".
func (s Subvolume) InUse() string {
	switch {
	case s.Default:
		return "the default subvolume"
	case s.Mounted:
		return "mounted"
	}
	return ""
}

// Received tells that s itself was received. A read-only snapshot of what was received has the same received UUID.
func (s Subvolume) Received() bool { return !s.ReceivedUUID.IsZero() && s.ReceivedIn >= s.CreatedIn }

// WasReceived tells that s itself was received, and lost its received UUID when somebody made it writable, as btrfs-progs do.
func (s Subvolume) WasReceived() bool {
	return s.ReadOnly && s.ReceivedUUID.IsZero() && s.SentIn == 0 && s.ReceivedIn != 0 && s.ReceivedIn >= s.CreatedIn
}

// Filled tells that s itself got its content otherwise than by receiving, and that SetFilled said when. A snapshot of it is not.
func (s Subvolume) Filled() bool {
	return s.ReceivedUUID.IsZero() && s.SentIn != 0 && s.ReceivedIn >= s.CreatedIn
}

// Identity is the UUID by which copies of s are known: the received one if s is itself a copy.
func (s Subvolume) Identity() UUID {
	if s.ReceivedUUID.IsZero() {
		return s.UUID
	}
	return s.ReceivedUUID
}

// DirID identifies a directory, whatever path leads to it.
type DirID struct {
	Filesystem UUID
	Subvolume  uint64 // ID of the subvolume that holds it
	Inode      uint64
}

// firstFreeObjectID is the inode number of every subvolume's root directory and the lowest ID of a created subvolume.
const firstFreeObjectID = 256 // linux/btrfs_tree.h: BTRFS_FIRST_FREE_OBJECTID

// RootInode is the inode number of the root of every subvolume.
const RootInode = firstFreeObjectID

// ErrNotBtrfs and ErrNotSubvolume tell what a directory is not.
var (
	ErrNotBtrfs     = errors.New("not on a btrfs filesystem")
	ErrNotSubvolume = errors.New("not a btrfs subvolume")
)

// CheckFilesystem returns ErrNotBtrfs unless dir lies on btrfs.
func CheckFilesystem(dir *os.File) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &st); err != nil {
		return os.NewSyscallError("fstatfs", err)
	}
	if uint32(st.Type) != unix.BTRFS_SUPER_MAGIC { // on some CPUs st.Type is an int32
		return ErrNotBtrfs
	}
	return nil
}

// CheckSubvolume returns ErrNotBtrfs or ErrNotSubvolume unless dir is the root directory of a subvolume.
func CheckSubvolume(dir *os.File) error {
	if err := CheckFilesystem(dir); err != nil {
		return err
	}
	ino, err := inode(dir)
	if err != nil {
		return err
	}
	if ino != firstFreeObjectID {
		return ErrNotSubvolume
	}
	return nil
}

func inode(dir *os.File) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return 0, os.NewSyscallError("fstat", err)
	}
	return st.Ino, nil
}

// SyncFilesystem waits until everything written to dir's filesystem so far is on disk.
func SyncFilesystem(dir *os.File) error {
	return os.NewSyscallError("syncfs", unix.Syncfs(int(dir.Fd())))
}

// Reclaim commits what was deleted and lets the kernel begin to free its space, for which it else waits for up to 30 s.
func Reclaim(dir *os.File) error {
	if err := ioctl(dir, iocSync, nil); err != nil {
		return fmt.Errorf("syncing the filesystem of %s: %w", dir.Name(), err)
	}
	return nil
}
