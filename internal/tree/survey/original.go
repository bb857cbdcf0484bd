package survey

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"

	"golang.org/x/sys/unix"
)

// maxLost is how many files that lost something are named.
const maxLost = 1000

// A Loss is what a copy lost of a file.
type Loss struct{ Path, What string }

// An Original is the directory that a tree was copied from, on this machine. What copies it may believe that a filesystem keeps what it
// takes: so each copy is compared with its original, but for contents.
type Original struct {
	Path string // "" if it is not known
	// Began is when the copying began, by the clock that files get their times from: what changed since then may differ.
	Began   time.Time
	Seconds bool // the copy keeps no nanoseconds, as is told elsewhere
}

// CopyingBegins gives the time for Original.Began.
func CopyingBegins() time.Time {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now) != nil { // as in linux/fs/inode.c: inode_set_ctime_current
		return time.Time{}
	}
	return time.Unix(now.Unix())
}

// A comparison is that of a copy with its original.
type comparison struct {
	Original
	from, to *os.File
	owners   bool // this user may set them
	lost     []Loss
	count    int
}

// compareWith begins a comparison. Without an original, or if that is gone, it is nil.
func compareWith(o Original, copied *os.File) *comparison {
	if o.Path == "" || o.Began.IsZero() {
		return nil
	}
	from, err := walk.OpenPath(o.Path)
	if err != nil {
		return nil
	}
	return &comparison{Original: o, from: from, to: copied, owners: os.Geteuid() == 0}
}

// look notes what a file lost. Attributes are compared if it is a new one: those of others were when they were new.
func (c *comparison) look(e *manifest.Entry, isNew bool) {
	var st unix.Stat_t
	if unix.Fstatat(int(c.from.Fd()), e.Path, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return // it is gone
	}
	was := manifest.Describe(e.Path, &st)
	if was.Type != e.Type || !time.Unix(was.ChangeTime.Sec, int64(was.ChangeTime.Nsec)).Before(c.Began) {
		return
	}
	lost := c.lostOf(&was, e)
	if isNew {
		lost = append(lost, c.attributes(e)...)
	}
	if len(lost) == 0 {
		return
	}
	c.count++
	if len(c.lost) < maxLost {
		c.lost = append(c.lost, Loss{e.Path, strings.Join(lost, ", ")})
	}
}

func (c *comparison) lostOf(was, is *manifest.Entry) (lost []string) {
	if c.owners && (was.UID != is.UID || was.GID != is.GID) {
		lost = append(lost, "owner")
	}
	if was.Mode != is.Mode && is.Type != manifest.Symlink {
		lost = append(lost, "mode")
	}
	if was.ModTime.Sec != is.ModTime.Sec || was.ModTime.Nsec != is.ModTime.Nsec && !c.Seconds {
		lost = append(lost, "time")
	}
	if was.Size != is.Size {
		lost = append(lost, "size")
	}
	if was.Device != is.Device {
		lost = append(lost, "device number")
	}
	return lost
}

// attributes names the extended attributes that differ.
func (c *comparison) attributes(e *manifest.Entry) (lost []string) {
	from, err := manifest.ListXattrs(below(c.from, e.Path))
	if err != nil {
		return nil
	}
	to, err := manifest.ListXattrs(below(c.to, e.Path))
	if err != nil {
		return nil
	}
	from, to = c.kept(from), c.kept(to)
	for _, x := range slices.Concat(without(from, to), without(to, from)) {
		name := x.Name
		switch name {
		case "system.posix_acl_access", "system.posix_acl_default":
			name = "ACL"
		case "security.capability":
			name = "capabilities"
		}
		if !slices.Contains(lost, name) {
			lost = append(lost, name)
		}
	}
	return lost
}

// without gives the attributes that others do not have.
func without(xattrs, others []manifest.Xattr) []manifest.Xattr {
	return slices.DeleteFunc(slices.Clone(xattrs), func(x manifest.Xattr) bool {
		return slices.ContainsFunc(others, func(y manifest.Xattr) bool { return x.Name == y.Name && bytes.Equal(x.Value, y.Value) })
	})
}

// kept leaves out what is not copied: how xfs shows ACLs to root, the properties of a filesystem, and what only root may set.
func (c *comparison) kept(xattrs []manifest.Xattr) []manifest.Xattr {
	return slices.DeleteFunc(xattrs, func(x manifest.Xattr) bool {
		space, _, _ := strings.Cut(x.Name, ".")
		return strings.HasPrefix(x.Name, "trusted.SGI_ACL_") || space == "btrfs" || !c.owners && space != "user" && space != "system"
	})
}

// below names a file for calls that take a path. Those that the kernel does not take are not copied either.
func below(dir *os.File, path string) string {
	return filepath.Join(fmt.Sprintf("/proc/self/fd/%d", dir.Fd()), path)
}
