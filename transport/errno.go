package transport

import (
	"strings"

	"golang.org/x/sys/unix"
)

// errnoMessages are those of the C library, in the C locale.
var errnoMessages = []struct {
	errno unix.Errno
	text  string
}{
	{unix.ENOSPC, "No space left on device"},
	{unix.EDQUOT, "Disk quota exceeded"},
	{unix.EROFS, "Read-only file system"},
	{unix.EPERM, "Operation not permitted"},
	{unix.EACCES, "Permission denied"},
	{unix.ENOTEMPTY, "Directory not empty"},
	{unix.EBUSY, "Device or resource busy"},
	{unix.EIO, "Input/output error"},
	{unix.ENAMETOOLONG, "File name too long"},
	{unix.ENOTDIR, "Not a directory"},
	{unix.EEXIST, "File exists"},
	{unix.ENOENT, "No such file or directory"},
	{unix.EINVAL, "Invalid argument"},
	{unix.EOPNOTSUPP, "Operation not supported"},
	{unix.E2BIG, "Argument list too long"},
	{unix.ERANGE, "Numerical result out of range"},
	{unix.EMLINK, "Too many links"},
}

// ErrnoIn gives the errno whose message stands last in what a program said, or 0: the program stopped at that. What comes before
// may be from a login shell's start-up files.
func ErrnoIn(text string) unix.Errno {
	last, errno := -1, unix.Errno(0)
	for _, m := range errnoMessages {
		if i := strings.LastIndex(text, m.text); i > last {
			last, errno = i, m.errno
		}
	}
	return errno
}
