package btrfstest

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Populate fills dir with a tree of everything that a backup can get wrong:
// every kind of file, of name, of extent and of metadata. The same seed makes
// the same tree. It works on other filesystems than btrfs too, and without root
// leaves out what needs root.
func Populate(t testing.TB, dir string, seed int64) {
	t.Helper()
	tr := newTree(t, dir, "populate", seed)
	tr.regularFiles()
	tr.extents()
	tr.links()
	tr.specialFiles()
	tr.names()
	tr.movables()
	tr.modes()
	tr.xattrs()
	if os.Geteuid() == 0 {
		tr.privileged()
	}
	tr.times()
}

func (tr *tree) regularFiles() {
	tr.write("files/empty", nil)
	tr.write("files/inline", tr.random(100))
	tr.write("files/one-block", tr.random(4<<10))
	tr.write("files/compressible", bytes.Repeat([]byte("all work and no play\n"), 50_000))
	tr.write("files/large", tr.random(5<<20+123))
	tr.write("files/grows", tr.random(100_000))
	tr.write("files/shrinks", tr.random(1<<20))
}

// extents makes files whose size and content do not tell how they are stored.
func (tr *tree) extents() {
	tr.mkdir("extents")
	tr.writeAt("extents/sparse", tr.random(5000), 1<<20)
	tr.writeAt("extents/sparse", tr.random(10), 8<<20)
	tr.edit("extents/hole-only", func(f *os.File) error { return f.Truncate(3 << 20) })
	tr.write("extents/hole-at-end", tr.random(70_000))
	tr.edit("extents/hole-at-end", func(f *os.File) error { return f.Truncate(2 << 20) })
	tr.write("extents/punched", tr.random(1<<20))
	tr.write("extents/preallocated", tr.random(10_000))
	tr.edit("extents/preallocated", func(f *os.File) error {
		return unix.Fallocate(int(f.Fd()), 0, 0, 1<<20)
	})
	tr.write("extents/preallocated-beyond-end", tr.random(10_000))
	tr.edit("extents/preallocated-beyond-end", func(f *os.File) error {
		return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, 1<<20)
	})
	tr.reflink("files/large", "extents/reflinked", 1<<20)
}

// reflink makes a file that shares length bytes from the middle of another one,
// or just has the same bytes where the filesystem cannot share.
func (tr *tree) reflink(from, to string, length int) {
	const offset = 64 << 10
	src, err := os.Open(tr.path(from))
	tr.check(err)
	defer src.Close()
	tr.edit(to, func(dst *os.File) error {
		err := unix.IoctlFileCloneRange(int(dst.Fd()), &unix.FileCloneRange{
			Src_fd:     int64(src.Fd()),
			Src_offset: offset,
			Src_length: uint64(length),
		})
		if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOTTY) {
			return err
		}
		data := make([]byte, length)
		if _, err := src.ReadAt(data, offset); err != nil {
			return err
		}
		_, err = dst.WriteAt(data, 0)
		return err
	})
}

func (tr *tree) links() {
	tr.write("links/hard-1", tr.random(300))
	tr.mkdir("links/elsewhere")
	tr.link("links/hard-1", "links/hard-2")
	tr.link("links/hard-1", "links/elsewhere/hard-3")
	for name, target := range map[string]string{
		"absolute":  "/etc/passwd",
		"relative":  "../files/inline",
		"directory": "elsewhere",
		"dangling":  "no such\nfile",
		"escaping":  "../../../../../../etc",
		"long":      strings.Repeat("x/", 500), // xfs takes up to 1023 bytes
	} {
		tr.check(os.Symlink(target, tr.path("links/"+name)))
	}
}

func (tr *tree) specialFiles() {
	tr.mkdir("special")
	tr.check(unix.Mknod(tr.path("special/fifo"), unix.S_IFIFO|0o640, 0))
	tr.check(unix.Mknod(tr.path("special/socket"), unix.S_IFSOCK|0o600, 0))
	tr.link("special/fifo", "special/fifo-linked")
}

func (tr *tree) names() {
	for _, name := range []string{
		" spaces around ", "new\nline", `quotes'"` + "`", "-leading-dash", `back\slash`, "$(echo shell)", "*?[glob]",
		"latin1-\xe9\xff", "ünïcödé", "u\u0308-decomposed", ".hidden", "...", "%s%n", "~", "#", "tab\there",
		strings.Repeat("n", 255), strings.Repeat("\xff", 255),
	} {
		tr.write("names/"+name, tr.random(20))
	}
	tr.mkdir("names/directory \n\xfe")
	tr.write("deep/"+strings.Repeat(strings.Repeat("level", 15)+"/", 20)+"bottom", tr.random(50))
	tr.mkdir("empty directory")
}

// movables makes what Change renames, replaces and deletes.
func (tr *tree) movables() {
	for _, name := range []string{"swap/one", "swap/two", "move/file", "move/dir-1/inside", "move/outer/inner/file", "replace/1"} {
		tr.write(name, tr.random(1000))
	}
	tr.write("replace/2/inside", tr.random(1000))
	for _, name := range []string{"a", "b", "c", "d"} {
		tr.write("daily/"+name, tr.random(20_000))
	}
}

func (tr *tree) modes() {
	tr.mkdir("modes/sticky")
	tr.mkdir("modes/setgid")
	tr.mkdir("modes/read-only")
	tr.write("modes/setgid/inside", tr.random(10))
	tr.write("modes/setuid", tr.random(10))
	tr.write("modes/read-only-file", tr.random(10))
	for name, mode := range map[string]uint32{
		"sticky": 0o1777, "setgid": 0o2775, "read-only": 0o555, "setuid": 0o4755, "read-only-file": 0o400,
	} {
		tr.check(unix.Chmod(tr.path("modes/"+name), mode))
	}
}

func (tr *tree) xattrs() {
	tr.write("xattrs/user", tr.random(10))
	tr.setxattr("xattrs/user", "user.text", []byte("value"))
	tr.setxattr("xattrs/user", "user.empty", nil)
	tr.setxattr("xattrs/user", "user.with space\n\xff", []byte("\x00\xff"))
	tr.setxattr("xattrs/user", "user.large", tr.random(2000))
	tr.mkdir("xattrs/directory")
	tr.setxattr("xattrs/directory", "user.directory", []byte("value"))
	tr.setxattr(".", "user.root", []byte("value"))

	tr.write("xattrs/acl", tr.random(10))
	tr.setxattr("xattrs/acl", aclAccess, namedUserACL(5))
	tr.mkdir("xattrs/inherits")
	tr.setxattr("xattrs/inherits", aclDefault, namedUserACL(7))
	tr.write("xattrs/inherits/inside", tr.random(10))
}

// privileged makes what only root can make.
func (tr *tree) privileged() {
	tr.check(unix.Mknod(tr.path("special/char"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	tr.check(unix.Mknod(tr.path("special/block"), unix.S_IFBLK|0o660, int(unix.Mkdev(300, 70_000))))

	tr.write("owners/file", tr.random(10))
	tr.mkdir("owners/directory")
	tr.check(os.Symlink("file", tr.path("owners/symlink")))
	tr.write("owners/setuid", tr.random(10))
	tr.write("owners/capable", tr.random(10))
	for _, name := range []string{"file", "directory", "symlink", "setuid", "capable"} {
		tr.check(os.Lchown(tr.path("owners/"+name), 1234, 5678))
	}
	// After the owner, whose change takes both away.
	tr.check(unix.Chmod(tr.path("owners/setuid"), 0o6755))
	tr.setxattr("owners/capable", capability, bindServiceCapability())

	tr.write("modes/none", tr.random(10))
	tr.check(os.Chmod(tr.path("modes/none"), 0))
	tr.write("modes/closed/inside", tr.random(10))
	tr.check(os.Chmod(tr.path("modes/closed"), 0))
}

// times gives every file an odd time, at last because making files changes the
// times of directories.
func (tr *tree) times() {
	tr.check(filepath.WalkDir(tr.root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return setTime(path, time.Unix(1_000_000_000+tr.rng.Int64N(700_000_000), tr.rng.Int64N(1_000_000_000)))
	}))
	tr.check(setTime(tr.path("extents/hole-only"), time.Date(1965, 1, 2, 3, 4, 5, 678_901_234, time.UTC)))
	tr.check(setTime(tr.path("files/compressible"), time.Date(2107, 1, 2, 3, 4, 5, 999_999_999, time.UTC)))
}

// setTime sets the access and modification time of a file, or of the symlink itself.
func setTime(path string, to time.Time) error {
	ts, err := unix.TimeToTimespec(to)
	if err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}
