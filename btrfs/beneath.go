package btrfs

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// OpenBeneath opens what is at a path below dir, following no symbolic link and leaving dir by no other way.
func OpenBeneath(dir *os.File, path string, flags uint64) (*os.File, error) {
	return openAt(dir, path, flags, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
}

// OpenUnmounted is OpenBeneath, and enters nothing that is mounted there.
func OpenUnmounted(dir *os.File, path string, flags uint64) (*os.File, error) {
	return openAt(dir, path, flags, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_XDEV)
}

// OpenDirAt opens a directory as OpenBeneath does.
func OpenDirAt(dir *os.File, path string) (*os.File, error) {
	return OpenBeneath(dir, path, unix.O_RDONLY|unix.O_DIRECTORY)
}

func openAt(dir *os.File, path string, flags, resolve uint64) (*os.File, error) {
	full := filepath.Join(dir.Name(), path)
	if !strings.HasPrefix(full, dir.Name()) { // what is refused is named as it was asked for
		full = dir.Name() + "/" + path
	}
	for {
		fd, err := unix.Openat2(int(dir.Fd()), path, &unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: resolve})
		switch err {
		case nil:
			return os.NewFile(uintptr(fd), full), nil
		case unix.EINTR:
		default:
			return nil, &os.PathError{Op: "open", Path: full, Err: err}
		}
	}
}
