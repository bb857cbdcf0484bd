package grow

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"

	"golang.org/x/sys/unix"
)

// settle gives a directory the attributes that it has in the base. Its time comes last, since all else changes that.
func (l *level) settle() error {
	into := l.into.Descriptor()
	if err := unix.Fchown(into, int(l.entry.UID), int(l.entry.GID)); err != nil {
		return os.NewSyscallError("chown", err)
	}
	if l.entry.Xattrs != (manifest.Digest{}) {
		if err := copyXattrs(l.from, l.into); err != nil {
			return err
		}
	}
	if err := unix.Fchmod(into, l.entry.Mode); err != nil {
		return os.NewSyscallError("chmod", err)
	}
	modified, err := unix.TimeToTimespec(time.Unix(l.entry.ModTime.Sec, int64(l.entry.ModTime.Nsec)))
	if err != nil {
		return err // some CPUs know no later time than 2038
	}
	return os.NewSyscallError("utimensat", unix.UtimesNanoAt(into, ".", []unix.Timespec{{Nsec: unix.UTIME_OMIT}, modified}, 0))
}

// disinherit takes from an empty directory the ACLs that it has of the one above, so that nothing in it gets them.
func disinherit(dir *walk.Dir) error {
	for _, acl := range [...]string{"system.posix_acl_default", "system.posix_acl_access"} {
		err := unix.Fremovexattr(dir.Descriptor(), acl)
		if err != nil && err != unix.ENODATA && err != unix.ENOTSUP {
			return fmt.Errorf("removing %s: %w", acl, err)
		}
	}
	return nil
}

// copyXattrs copies the extended attributes of a directory, ACLs among them.
func copyXattrs(from, into *walk.Dir) error {
	all, err := manifest.ListXattrs(fmt.Sprintf("/proc/self/fd/%d/.", from.Descriptor()))
	if err != nil {
		return err
	}
	for _, x := range all {
		if strings.HasPrefix(x.Name, "trusted.SGI_ACL_") { // how xfs shows ACLs a second time
			continue
		}
		if err := unix.Fsetxattr(into.Descriptor(), x.Name, x.Value, 0); err != nil {
			return fmt.Errorf("setting %s: %w", x.Name, err)
		}
	}
	return nil
}
