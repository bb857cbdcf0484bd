package received

import (
	"os"
	"path"
	"slices"
	"strings"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/tree/verify"

	"golang.org/x/sys/unix"
)

// mostLooked is at how many extents of a damaged part it is looked for others that share them.
const mostLooked = 64

// sharers gives the other files that share a damaged part of a file, as far as that can be told.
func (s *reading) sharers(name string, d *verify.Damage) (all []string) {
	fd, err := unix.Openat2(int(s.root.Fd()), name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
	if err != nil {
		return nil
	}
	file := os.NewFile(uintptr(fd), name)
	defer file.Close()
	folder, err := btrfs.Path(s.dir)
	if err != nil {
		return nil
	}
	extents, err := btrfs.Extents(file, d.Offset, d.Length)
	if err != nil {
		return nil
	}
	for _, e := range extents[:min(len(extents), mostLooked)] {
		sharers, err := btrfs.Sharers(file, max(e.Offset, d.Offset))
		if err != nil {
			return nil
		}
		for _, o := range sharers {
			all = append(all, fromFolder(path.Join(o.Subvolume, o.File), folder))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// fromFolder gives a path from the top of the filesystem as one from the folder, which has a path from the top too.
func fromFolder(fromTop, folder string) string {
	if below, ok := strings.CutPrefix(strings.TrimPrefix(fromTop, "/"), strings.Trim(folder, "/")+"/"); ok {
		return below
	}
	if strings.Trim(folder, "/") == "" {
		return strings.TrimPrefix(fromTop, "/")
	}
	return "/" + strings.TrimPrefix(fromTop, "/")
}
