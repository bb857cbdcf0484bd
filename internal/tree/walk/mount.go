package walk

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// MountID tells through which mount an open file is seen (proc_pid_fdinfo(5)). Device numbers do not: each subvolume of a btrfs has
// its own, and two mounts of one filesystem have the same.
func MountID(file *os.File) (id int, err error) {
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", file.Fd()))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(info)) {
		if _, err := fmt.Sscanf(line, "mnt_id: %d", &id); err == nil {
			return id, nil
		}
	}
	return 0, errors.New("the kernel does not tell on which mount " + file.Name() + " lies")
}

// OpenPath opens a directory without the right to read it.
func OpenPath(path string) (*os.File, error) {
	return os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY, 0)
}
