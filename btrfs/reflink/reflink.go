// Package reflink lets files share their space, on btrfs and on other filesystems that can.
package reflink

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Errors of sharing extents.
var (
	// ErrCannotShare tells that the filesystem, or these two files on it, cannot share extents.
	ErrCannotShare = errors.New("extents cannot be shared")
	// ErrContentsDiffer tells that the kernel found a difference.
	ErrContentsDiffer = errors.New("the contents differ")
)

// maxShared is how much the kernel compares at once. linux/fs/btrfs/reflink.c: BTRFS_MAX_DEDUPE_LEN
const maxShared = 16 << 20

// Share lets the first length bytes of a file occupy the extents of another, on btrfs and on other filesystems that can.
// The kernel compares the contents first; neither content nor times of the files change. Both are open for reading, which
// suffices for root and the owner. length is a multiple of the block size or the size of both. Holes of the file that is to share
// stay; one without data cannot share. shared is how many bytes share extents now, also if there is an error.
func Share(ctx context.Context, from, to *os.File, length int64) (shared int64, err error) {
	for at := int64(0); at < length; {
		if ctx.Err() != nil {
			return shared, context.Cause(ctx)
		}
		start, end := nextData(to, at, length)
		if start == length && at == 0 {
			return 0, fmt.Errorf("%w: %s holds no data", ErrCannotShare, to.Name())
		}
		if start == length {
			break
		}
		n, err := shareRange(from, to, start, min(end-start, maxShared))
		shared += n
		at = start + n
		if err != nil {
			return shared, fmt.Errorf("sharing the extents of %s with %s: %w", from.Name(), to.Name(), err)
		}
	}
	return shared, nil
}

// Range lets a range of a file occupy the extents of another one at an offset, in place of what it holds there. All are multiples
// of the block size, or end where both files do.
func Range(from, to *os.File, offset, length, target int64) error {
	if err := RangeOf(int(from.Fd()), int(to.Fd()), offset, length, target); err != nil {
		return fmt.Errorf("cloning from %s to %s at %d: %w", from.Name(), to.Name(), target, err)
	}
	return nil
}

// RangeOf is Range for descriptors. The error is the kernel's.
func RangeOf(from, to int, offset, length, target int64) error {
	return unix.IoctlFileCloneRange(to, &unix.FileCloneRange{
		Src_fd: int64(from), Src_offset: uint64(offset), Src_length: uint64(length), Dest_offset: uint64(target)})
}

// nextData gives the next range of a file that is no hole.
func nextData(file *os.File, at, length int64) (start, end int64) {
	start, err := unix.Seek(int(file.Fd()), at, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return length, length
	}
	if err != nil {
		return at, length
	}
	end, err = unix.Seek(int(file.Fd()), start, unix.SEEK_HOLE)
	if err != nil {
		end = length
	}
	return min(start, length), min(end, length)
}

func shareRange(from, to *os.File, offset, length int64) (int64, error) {
	request := unix.FileDedupeRange{
		Src_offset: uint64(offset), Src_length: uint64(length),
		Info: []unix.FileDedupeRangeInfo{{Dest_fd: int64(to.Fd()), Dest_offset: uint64(offset)}},
	}
	err := unix.IoctlFileDedupeRange(int(from.Fd()), &request)
	result := request.Info[0]
	if err == nil && result.Status < 0 {
		err = unix.Errno(-result.Status)
	}
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOTTY), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EXDEV):
		return 0, fmt.Errorf("%w: %w", ErrCannotShare, err)
	case err != nil:
		return 0, err
	case result.Status == unix.FILE_DEDUPE_RANGE_DIFFERS:
		return 0, ErrContentsDiffer
	case result.Bytes_deduped == 0: // or the caller would ask for ever
		return 0, ErrCannotShare
	}
	return int64(min(result.Bytes_deduped, uint64(length))), nil
}
