package local

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// maxFile is the largest file of ours that is read.
const maxFile = 16 << 20

// openBeneath opens a file below dir for reading, following no symbolic link and leaving dir by no other way.
func openBeneath(dir *os.File, path string) (*os.File, error) {
	full := dir.Name() + "/" + path
	fd, err := unix.Openat2(int(dir.Fd()), path, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: full, Err: err}
	}
	return os.NewFile(uintptr(fd), full), nil
}

// readAll gives the content of a file, never nil.
func readAll(f *os.File) ([]byte, error) {
	content := make([]byte, 0, 512)
	rest, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(rest) > maxFile {
		err = fmt.Errorf("%s has more than %d bytes", f.Name(), maxFile)
	}
	return append(content, rest...), err
}
