package btrfstest

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

var ofMetadata = []operation{
	{5, "set an attribute", (*mutator).setAttribute},
	{1, "set many attributes", (*mutator).setManyAttributes},
	{2, "remove an attribute", (*mutator).removeAttribute},
	{3, "set an ACL", (*mutator).setACL},
	{2, "set a capability", (*mutator).setCapability},
	{4, "change the mode", (*mutator).chmod},
	{4, "change the owner", (*mutator).chown},
	{4, "set times", (*mutator).setTimes},
	{3, "compress otherwise", (*mutator).compress},
	{2, "set flags", (*mutator).flag},
	{2, "lock", (*mutator).lock},
}

// linux/fs.h: FS_IMMUTABLE_FL, FS_APPEND_FL, FS_NODUMP_FL, FS_NOATIME_FL, FS_NOCOMP_FL, FS_NOCOW_FL
const (
	flagImmutable  = 0x10
	flagAppend     = 0x20
	flagNoDump     = 0x40
	flagNoAccess   = 0x80
	flagNoCompress = 0x400
	flagNoCow      = 0x800000
)

// attribute gives a name: one of a few, or one as long as can be. Linux 6.18 sends none whose name begins that of capabilities
// (linux/fs/btrfs/send.c: __process_new_xattr).
func (m *mutator) attribute() string {
	prefix := []string{"trusted.", "security.test-"}[m.rng.IntN(2)]
	if m.rng.IntN(4) == 0 {
		return prefix + strings.Repeat(string(rune('a'+m.rng.IntN(3))), 255-len(prefix))
	}
	return prefix + string(rune('a'+m.rng.IntN(5)))
}

// setAttribute sets one of up to 16 KiB, of which a file has as many as the filesystem takes.
func (m *mutator) setAttribute() {
	n := m.all()
	name, size := m.attribute(), m.rng.IntN(100)
	switch m.rng.IntN(4) {
	case 0:
		size = 0
	case 1:
		size = 15_000 + m.rng.IntN(1384)
	case 2:
		size = m.rng.IntN(5000)
	}
	if n.kind.IsRegular() || n.kind.IsDir() {
		name = strings.Replace(name, "trusted.", "user.", 1)
	}
	m.allow(unix.Lsetxattr(m.path(n.path), name, m.random(size), 0), unix.ENOSPC, "%q of %q with %d bytes", name, n.path, size)
}

func (m *mutator) setManyAttributes() {
	n := m.all()
	count := 20 + m.rng.IntN(80)
	for i := range count {
		m.setxattr(n.path, fmt.Sprintf("trusted.many %d", i), m.random(m.rng.IntN(40)))
	}
	m.note("%d of %q", count, n.path)
}

// removeAttribute removes one, and at times the many, too.
func (m *mutator) removeAttribute() {
	n := m.all()
	attributes, err := readXattrs(m.path(n.path))
	m.check(err)
	names := slices.Sorted(maps.Keys(attributes))
	if len(names) == 0 {
		return
	}
	first := names[m.rng.IntN(len(names))]
	m.did(unix.Lremovexattr(m.path(n.path), first), "%q of %q", first, n.path)
	if m.rng.IntN(4) != 0 {
		return
	}
	for _, name := range names {
		if name != first && strings.HasPrefix(name, "trusted.many") {
			m.check(unix.Lremovexattr(m.path(n.path), name))
		}
	}
}

func (m *mutator) setACL() {
	n, ok := m.pick(func(n node) bool { return n.kind.IsDir() || n.kind.IsRegular() })
	if !ok {
		return
	}
	kind := aclAccess
	if n.kind.IsDir() && m.rng.IntN(2) == 0 {
		kind = aclDefault
	}
	m.did(unix.Lsetxattr(m.path(n.path), kind, namedUserACL(uint16(m.rng.IntN(8))), 0), "%s of %q", kind, n.path)
}

func (m *mutator) setCapability() {
	if n, ok := m.file(); ok {
		m.did(unix.Lsetxattr(m.path(n.path), capability, bindServiceCapability(), 0), "of %q", n.path)
	}
}

func (m *mutator) chmod() {
	if n := m.all(); n.kind != os.ModeSymlink {
		mode := m.rng.Uint32N(0o10000)
		m.did(unix.Chmod(m.path(n.path), mode), "%q to %04o", n.path, mode)
	}
}

func (m *mutator) chown() {
	n, uid, gid := m.all(), m.rng.IntN(3)*1000, m.rng.IntN(1<<31)
	m.did(os.Lchown(m.path(n.path), uid, gid), "%q to %d:%d", n.path, uid, gid)
	if n.kind.IsRegular() && m.rng.IntN(2) == 0 { // what a new owner takes away
		m.did(unix.Chmod(m.path(n.path), 0o6755), "%q to 6755", n.path)
	}
}

func (m *mutator) setTimes() {
	n := m.all()
	to := time.Unix(m.rng.Int64N(1<<33)-1<<32, m.rng.Int64N(1_000_000_000))
	m.did(setTime(m.path(n.path), to), "%q to %v", n.path, to.UTC())
}

// compress changes how a file is compressed, or all new files in a directory, and writes some of it anew.
func (m *mutator) compress() {
	n, ok := m.pick(func(n node) bool { return n.kind.IsDir() || n.kind.IsRegular() })
	if !ok {
		return
	}
	m.note("%q%s", n.path, m.setCompression(n.path))
	if n.kind.IsRegular() {
		m.writeAt(n.path, m.content(), 0)
	}
}

// setCompression is refused for what is nodatacow.
func (m *mutator) setCompression(path string) string {
	kind := []string{"zlib", "lzo", "zstd", "none"}[m.rng.IntN(4)]
	if err := unix.Lsetxattr(m.path(path), "btrfs.compression", []byte(kind), 0); err != nil && err != unix.EINVAL {
		m.t.Fatalf("compressing %q by %s: %v", path, kind, err)
	}
	return ", compressed by " + kind
}

func (m *mutator) flag() {
	n, ok := m.pick(func(n node) bool { return n.kind.IsDir() || n.kind.IsRegular() })
	if !ok {
		return
	}
	flags := []uint32{flagNoDump, flagNoAccess, flagNoCompress, 0}
	if n.kind.IsDir() { // all new files inherit it
		flags = append(flags, flagNoCow)
	}
	m.note("%q%s", n.path, m.setFlags(n.path, flags[m.rng.IntN(len(flags))]))
}

// setFlags is refused where a compression is chosen already.
func (m *mutator) setFlags(path string, flags uint32) string {
	f, err := os.Open(m.path(path))
	m.check(err)
	defer f.Close()
	if err = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags)); err != nil && err != unix.EINVAL {
		m.t.Fatalf("setting flags %#x of %q: %v", flags, path, err)
	}
	return fmt.Sprintf(", flags %#x", flags)
}

// lock notes that something is to be immutable or append-only when all else is done, until more is done to the tree.
func (m *mutator) lock() {
	if n, ok := m.pick(func(n node) bool { return n.kind.IsDir() || n.kind.IsRegular() }); ok {
		m.locked = append(m.locked, n.path)
		m.note("%q", n.path)
	}
}

// lockAll locks what is still there.
func (m *mutator) lockAll() {
	for i, path := range m.locked {
		if st, err := os.Lstat(m.path(path)); err == nil && (st.IsDir() || st.Mode().IsRegular()) {
			m.changeFlags(path, 0, []uint32{flagImmutable, flagAppend}[i%2])
		}
	}
}

func (m *mutator) unlock(path string) { m.changeFlags(path, flagImmutable|flagAppend, 0) }

func (m *mutator) changeFlags(path string, away, add uint32) {
	f, err := os.Open(m.path(path))
	m.check(err)
	defer f.Close()
	before, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	m.check(err)
	if now := uint32(before)&^away | add; now != uint32(before) {
		m.check(unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(now)))
	}
}
