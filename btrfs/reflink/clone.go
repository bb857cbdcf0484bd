package reflink

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Clone lets an empty file have the content of another, holes included, on the same extents: nothing is read or written. Where
// that is not possible, the error is ErrCannotShare, and the file is as it was.
func Clone(from, to *os.File) error {
	err := unix.IoctlFileCloneRange(int(to.Fd()), &unix.FileCloneRange{Src_fd: int64(from.Fd())}) // of length 0: all
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOTTY), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EXDEV),
		errors.Is(err, unix.EPERM), errors.Is(err, unix.ETXTBSY):
		return fmt.Errorf("%w: %w", ErrCannotShare, err)
	case err != nil:
		return fmt.Errorf("cloning the extents of %s: %w", from.Name(), err)
	}
	return nil
}
