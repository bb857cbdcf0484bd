package verify

import (
	"context"
	"io"

	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
)

// Unshared gives the paths of regular files that are not the same inodes, with the same contents and in the same place on the disk, under
// the same paths in another tree: their contents are not known from reading that one.
func Unshared(ctx context.Context, of, other io.Reader, inSamePlace func(path string) bool) (map[string]struct{}, error) {
	others, err := manifest.NewReader(other)
	if err != nil {
		return nil, err
	}
	defer others.Close()
	var next manifest.Entry
	more := true
	advance := func() error {
		next, err = others.Next()
		if more = err == nil; err == io.EOF {
			err = nil
		}
		return err
	}
	if err := advance(); err != nil {
		return nil, err
	}
	unshared := make(map[string]struct{})
	return unshared, eachEntry(ctx, of, func(e manifest.Entry) error {
		for more && manifest.Compare(next.Path, e.Path) < 0 {
			if err := advance(); err != nil {
				return err
			}
		}
		same := more && next.Path == e.Path && next.Inode == e.Inode && next.SHA256 == e.SHA256 && next.Size == e.Size
		if e.Type == manifest.Regular && !(same && inSamePlace(e.Path)) {
			unshared[e.Path] = struct{}{}
		}
		return nil
	})
}
