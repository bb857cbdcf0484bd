package received

import (
	"path"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/verify"

	"golang.org/x/sys/unix"
)

// mostLooked is at how many extents of a damaged part it is looked for others that share them.
const mostLooked = 64

// sharers gives the other files that share a damaged part of a file, as far as that can be told.
func (s *reading) sharers(name string, d *verify.Damage) (all []string) {
	file, err := btrfs.OpenUnmounted(s.root, name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil
	}
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
