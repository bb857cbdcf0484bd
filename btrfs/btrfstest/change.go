package btrfstest

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Change does to a tree made by Populate what a day of use does: it edits,
// renames, replaces, links, deletes and makes files and changes their metadata.
// It may be repeated, with another seed for each day.
func Change(t testing.TB, dir string, seed int64) {
	t.Helper()
	tr := newTree(t, dir, "change", seed)
	tr.editFiles()
	tr.editExtents()
	tr.moveNames()
	tr.replace("replace/1")
	tr.replace("replace/2")
	tr.changeLinks()
	tr.changeMetadata()
	if os.Geteuid() == 0 {
		tr.changeOwners()
	}
	tr.turnover(seed)
}

func (tr *tree) editFiles() {
	tr.writeAt("files/large", tr.random(10_000), tr.rng.Int64N(5<<20))
	tr.writeAt("files/inline", tr.random(10), 50)
	tr.writeAt("files/empty", tr.random(1+tr.rng.IntN(5000)), 0)
	tr.edit("files/grows", func(f *os.File) error {
		st, err := f.Stat()
		if err != nil {
			return err
		}
		_, err = f.WriteAt(tr.random(5000), st.Size())
		return err
	})
	tr.edit("files/shrinks", func(f *os.File) error {
		return f.Truncate(tr.rng.Int64N(1 << 20))
	})
	// The way editors save.
	tr.write("files/one-block~", tr.random(5<<10))
	tr.rename("files/one-block~", "files/one-block")
}

func (tr *tree) editExtents() {
	tr.writeAt("extents/sparse", tr.random(4000), tr.rng.Int64N(8<<20))
	tr.writeAt("extents/preallocated", tr.random(6000), 500_000)
	tr.writeAt("extents/preallocated-beyond-end", tr.random(6000), 10_000)
	tr.reflink("files/large", "extents/reflinked", 128<<10)
	tr.edit("extents/punched", func(f *os.File) error {
		const mode = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
		return unix.Fallocate(int(f.Fd()), mode, tr.rng.Int64N(900_000), 100_000)
	})
}

func (tr *tree) moveNames() {
	tr.alternate("move/file", "swap/file")
	tr.alternate("move/dir-1", "swap/dir-2")
	tr.alternate("names/new\nline", "names/\rreturn")
	tr.check(unix.Renameat2(unix.AT_FDCWD, tr.path("swap/one"), unix.AT_FDCWD, tr.path("swap/two"), unix.RENAME_EXCHANGE))
	// A directory and its child change places, so that neither can be renamed first.
	if tr.exists("move/outer") {
		tr.turnInsideOut("outer", "inner")
	} else {
		tr.turnInsideOut("inner", "outer")
	}
}

// alternate renames whichever of the two names exists to the other.
func (tr *tree) alternate(a, b string) {
	tr.t.Helper()
	if tr.exists(b) {
		a, b = b, a
	}
	tr.rename(a, b)
}

func (tr *tree) turnInsideOut(outer, inner string) {
	tr.rename("move/"+outer+"/"+inner, "move/"+inner)
	tr.rename("move/"+outer, "move/"+inner+"/"+outer)
}

// replace makes a file out of a directory and the reverse.
func (tr *tree) replace(name string) {
	st, err := os.Lstat(tr.path(name))
	tr.check(err)
	tr.check(os.RemoveAll(tr.path(name)))
	if st.IsDir() {
		tr.write(name, tr.random(2000))
	} else {
		tr.write(name+"/inside", tr.random(2000))
	}
}

func (tr *tree) changeLinks() {
	for _, name := range []string{"links/hard-2", "links/elsewhere/hard-4"} {
		if tr.exists(name) {
			tr.check(os.Remove(tr.path(name)))
		} else {
			tr.link("links/hard-1", name)
		}
	}
	tr.check(os.Remove(tr.path("links/dangling")))
	tr.check(os.Symlink(fmt.Sprintf("still nowhere %d", tr.rng.Uint64()), tr.path("links/dangling")))
}

func (tr *tree) changeMetadata() {
	tr.flipMode("modes/setuid", 0o4000)
	tr.flipMode("modes/sticky", 0o1007)
	tr.flipMode("files/compressible", 0o111)

	tr.setxattr(".", "user.root", tr.random(10))
	tr.setxattr("xattrs/user", "user.text", tr.random(30))
	tr.flipXattr("xattrs/user", "user.empty")
	tr.flipXattr("xattrs/directory", "user.more")
	tr.setxattr("xattrs/acl", aclAccess, namedUserACL(uint16(tr.rng.IntN(8))))
	tr.setxattr("xattrs/inherits", aclDefault, namedUserACL(uint16(tr.rng.IntN(8))))

	tr.check(setTime(tr.path("names/-leading-dash"), time.Unix(1_800_000_000, tr.rng.Int64N(1_000_000_000))))
}

func (tr *tree) flipMode(name string, bits uint32) {
	var st unix.Stat_t
	tr.check(unix.Lstat(tr.path(name), &st))
	tr.check(unix.Chmod(tr.path(name), st.Mode&0o7777^bits))
}

func (tr *tree) flipXattr(name, attr string) {
	err := unix.Lremovexattr(tr.path(name), attr)
	if errors.Is(err, unix.ENODATA) {
		tr.setxattr(name, attr, nil)
		return
	}
	tr.check(err)
}

func (tr *tree) changeOwners() {
	for _, name := range []string{"file", "directory", "symlink", "setuid", "capable"} {
		tr.check(os.Lchown(tr.path("owners/"+name), 1000+tr.rng.IntN(1_000_000), 5678))
	}
	// setuid stays without its bits, which its new owner took away.
	tr.setxattr("owners/capable", capability, bindServiceCapability())
}

// turnover deletes an old file or directory and makes a new one of each.
func (tr *tree) turnover(seed int64) {
	old, err := os.ReadDir(tr.path("daily"))
	tr.check(err)
	victim := old[tr.rng.IntN(len(old))]
	tr.check(os.RemoveAll(tr.path("daily/" + victim.Name())))
	tr.write(fmt.Sprintf("daily/file %d", seed), tr.random(30_000))
	tr.write(fmt.Sprintf("daily/directory %d/inside", seed), tr.random(3000))
}
