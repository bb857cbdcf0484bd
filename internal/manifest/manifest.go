// Package manifest reads and writes the description of a directory tree: one line for each file, sorted by Compare, compressed
// with zstd.
//
// The lines are those of mtree(5), with full paths, so that other programs read them too: "mtree -p TREE -f MANIFEST" compares a
// tree with what was decompressed. What mtree(5) has no keyword for stands in its tags, which those programs pass over:
//
//	#mtree
//	. type=dir mode=0755 uid=0 gid=0 time=1700000000.000000000 tags=inode:256,links:1,ctime:1700000000.000000000
//	./a\040b type=file mode=0644 uid=0 gid=0 size=12 time=-2.500000000 sha256digest=HEX tags=inode:257,links:1,ctime:...,xattrs:HEX
//	./device type=char mode=0600 uid=0 gid=0 time=... device=native,1,3 tags=...
//	./image type=file mode=0600 uid=0 gid=0 size=1000000000000 time=... tags=inode:258,links:1,ctime:...,data:HEX
//	./link type=link mode=0777 uid=0 gid=0 time=... link=TARGET tags=...
//	#end 4
//
// A time is that of stat(2): the nanoseconds are added to the seconds, also to negative ones. The last line tells how many
// entries there are; a manifest without it was cut off.
package manifest

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// A Type is what a file is; its values are the mtree(5) keywords.
type Type string

// The types of files.
const (
	Regular     Type = "file"
	Directory   Type = "dir"
	Symlink     Type = "link"
	BlockDevice Type = "block"
	CharDevice  Type = "char"
	FIFO        Type = "fifo"
	Socket      Type = "socket"
)

// ErrOrder tells that an entry does not belong behind the one before it.
var ErrOrder = errors.New("not in order")

// A Time is one of a file, which may lie far from now: time.Time's nanoseconds do not reach all of them.
type Time struct {
	Sec  int64
	Nsec int32 // 0 to 999999999
}

// A Digest is a SHA-256; the zero Digest is none.
type Digest [sha256.Size]byte

// An Entry describes one file of a tree.
type Entry struct {
	Path    string // slash-separated, relative to the tree's root, any bytes but NUL; "." is the root itself
	Type    Type
	Mode    uint32 // the permissions with the setuid, setgid and sticky bits
	UID     uint32
	GID     uint32
	Size    int64 // bytes; of regular files only
	ModTime Time
	Target  string // of a symlink
	Device  uint64 // of a device, as in st_rdev
	SHA256  Digest // of the content of a regular file
	Sparse  bool   // SHA256 leaves out zeros, see Content: the file has, or had, large holes
	Xattrs  Digest // see XattrDigest

	// What follows recognises an unchanged file of this very copy, and is not compared.
	Inode      uint64
	Links      uint64
	ChangeTime Time
}

// AppendTo appends the line of an entry, with what is compared only.
func (e Entry) AppendTo(b []byte) []byte {
	e.Inode, e.Links, e.ChangeTime = 0, 0, Time{}
	return appendEntry(b, &e)
}

// Equal tells that two entries describe the same, in all that is compared.
func (e Entry) Equal(other Entry) bool {
	for _, of := range []*Entry{&e, &other} {
		of.Inode, of.Links, of.ChangeTime = 0, 0, Time{}
	}
	return e == other
}

// Compare orders paths as a walk meets them that reads each directory sorted by name, bytewise: "." is first, and a directory is
// followed by all that is in it.
func Compare(a, b string) int {
	if a == "." || b == "." {
		return cmp.Compare(depth(a), depth(b))
	}
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return cmp.Compare(rank(a[i]), rank(b[i]))
		}
	}
	return cmp.Compare(len(a), len(b))
}

// depth is 0 for the root and 1 for all below.
func depth(path string) int {
	if path == "." {
		return 0
	}
	return 1
}

// rank puts the end of a name before all that can be in one.
func rank(c byte) byte {
	if c == '/' {
		return 0
	}
	return c
}

// Describe gives the entry of a file as far as stat(2) knows it: all but Target, SHA256 and Xattrs. The type of what has
// none of those known is "", which a Writer refuses.
func Describe(path string, st *unix.Stat_t) Entry {
	e := Entry{
		Path:       path,
		Type:       typeOf(st.Mode),
		Mode:       st.Mode & 0o7777,
		UID:        st.Uid,
		GID:        st.Gid,
		ModTime:    TimeOf(st.Mtim),
		Inode:      st.Ino,
		Links:      uint64(st.Nlink),
		ChangeTime: TimeOf(st.Ctim),
	}
	switch e.Type {
	case Regular:
		e.Size, e.Sparse = st.Size, isSparse(st)
	case BlockDevice, CharDevice:
		e.Device = uint64(st.Rdev)
	}
	return e
}

var types = [...]struct {
	format uint32
	name   Type
}{
	{unix.S_IFREG, Regular},
	{unix.S_IFDIR, Directory},
	{unix.S_IFLNK, Symlink},
	{unix.S_IFBLK, BlockDevice},
	{unix.S_IFCHR, CharDevice},
	{unix.S_IFIFO, FIFO},
	{unix.S_IFSOCK, Socket},
}

// typeOf gives "" for what is none of them.
func typeOf(mode uint32) Type {
	for i := range types {
		if types[i].format == mode&unix.S_IFMT {
			return types[i].name
		}
	}
	return ""
}

// TimeOf gives a time of a file. Both fields are narrower on 32-bit machines.
func TimeOf(t unix.Timespec) Time { return Time{Sec: int64(t.Sec), Nsec: int32(t.Nsec)} }

// check refuses what cannot be in a tree, or could lead out of it.
func (e *Entry) check() error {
	switch e.Type {
	case Regular, Directory, Symlink, BlockDevice, CharDevice, FIFO, Socket:
	default:
		return fmt.Errorf("unknown type %q", string(e.Type))
	}
	device := e.Type == BlockDevice || e.Type == CharDevice
	switch {
	case !isPath(e.Path):
		return errors.New("not a path within a tree")
	case e.Path == "." && e.Type != Directory:
		return errors.New("the root is not a directory")
	case e.Mode > 0o7777:
		return fmt.Errorf("mode %o out of range", e.Mode)
	case e.Size < 0 || e.Type != Regular && e.Size != 0:
		return fmt.Errorf("a %s of %d bytes", e.Type, e.Size)
	case e.Type != Regular && (e.SHA256 != Digest{} || e.Sparse):
		return fmt.Errorf("a %s with a SHA-256", e.Type)
	case (e.Type == Symlink) != (e.Target != "") || strings.IndexByte(e.Target, 0) >= 0:
		return fmt.Errorf("a %s with the target %q", e.Type, e.Target)
	case !device && e.Device != 0:
		return fmt.Errorf("a %s with a device number", e.Type)
	case !e.ModTime.valid() || !e.ChangeTime.valid():
		return errors.New("nanoseconds out of range")
	}
	return nil
}

func (t Time) valid() bool { return t.Nsec >= 0 && t.Nsec < 1e9 }

// isPath tells whether a path is relative, clean, and stays below the root.
func isPath(path string) bool {
	if path == "." {
		return true
	}
	start := 0
	for i := 0; i <= len(path); i++ {
		if i < len(path) && path[i] == 0 {
			return false
		}
		if i < len(path) && path[i] != '/' {
			continue
		}
		if name := path[start:i]; name == "" || name == "." || name == ".." {
			return false
		}
		start = i + 1
	}
	return true
}
