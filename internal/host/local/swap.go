package local

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"

	"golang.org/x/sys/unix"
)

// explainSwap tells that no snapshot can be taken of a subvolume with a swap file in use: the kernel says "text file busy" then
// (linux/fs/btrfs/ioctl.c: create_snapshot).
func explainSwap(subvolume *os.File, err error) error {
	if !errors.Is(err, unix.ETXTBSY) {
		return err
	}
	which := "a swap file"
	if files := swapFilesIn(subvolume); len(files) > 0 {
		which = "the swap file " + strings.Join(files, ", ")
	}
	return hint.New(fmt.Errorf("%w: %s in it is in use", err, which),
		"put swap files into a subvolume of their own, or `swapoff` them before each run")
}

// swapFilesIn gives the paths of the swap files in use in a subvolume, as far as they can be found.
func swapFilesIn(subvolume *os.File) (files []string) {
	var in unix.Stat_t
	if unix.Fstat(int(subvolume.Fd()), &in) != nil {
		return nil
	}
	table, _ := os.ReadFile("/proc/swaps")
	for line := range strings.Lines(string(table)) {
		// /home/swapfile file 1048572 0 -2
		path, _, _ := strings.Cut(line, " ")
		path = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(path) // proc(5)
		var st unix.Stat_t
		if unix.Stat(path, &st) == nil && st.Dev == in.Dev && st.Mode&unix.S_IFMT == unix.S_IFREG {
			files = append(files, path)
		}
	}
	return files
}
