package walk

import (
	"errors"
	"os"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/transport"

	"golang.org/x/sys/unix"
)

// A PinnedError tells that a file or its directory has an attribute of chattr(1) that keeps everybody from removing it.
type PinnedError struct {
	what string
	err  error
}

func (e *PinnedError) Error() string {
	return e.err.Error() + ": " + e.what + " is immutable or append-only"
}

func (e *PinnedError) Unwrap() error { return e.err }

// Explain makes the error of removing or renaming an entry of a directory a PinnedError, if that is the reason.
func Explain(err error, dir *os.File, name string) error { return explain(err, int(dir.Fd()), name) }

func explain(err error, dir int, name string) error {
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	for _, at := range []struct{ name, what string }{{name, "it"}, {"", "its directory"}} {
		if isPinned(dir, at.name) {
			return &PinnedError{at.what, err}
		}
	}
	return err
}

// IsPinned tells that an open directory has such an attribute.
func IsPinned(dir *os.File) bool { return isPinned(int(dir.Fd()), "") }

func isPinned(dir int, name string) bool {
	const pinning = unix.STATX_ATTR_IMMUTABLE | unix.STATX_ATTR_APPEND
	var st unix.Statx_t
	err := unix.Statx(dir, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH, 0, &st)
	return err == nil && st.Attributes&pinning != 0
}

// Unpin adds to a PinnedError how to free a directory of all such attributes.
func Unpin(err error, path string) error {
	if !errors.As(err, new(*PinnedError)) {
		return err
	}
	return hint.Newf(err, "lsattr shows it; after `chattr -R -i -a %s` the next run deletes it", transport.Quote(path))
}

// UnpinSubvolume adds to a PinnedError how to delete a read-only subvolume.
func UnpinSubvolume(err error, path string) error {
	if !errors.As(err, new(*PinnedError)) {
		return err
	}
	path = transport.Quote(path)
	return hint.Newf(err, "delete it by hand: btrfs property set -f %s ro false; chattr -i -a %s; btrfs subvolume delete %s", path, path, path)
}
