package survey

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"
)

// contents are what cannot be told of a file without reading it. All names of a file have the same.
type contents struct {
	sha256, xattrs manifest.Digest
	sparse         bool
	target         string
	changed        manifest.Time // if the reading changed the file
	names          uint64        // of the file, that were not seen yet
}

// A reading is a file that is to be read.
type reading struct {
	file walk.File // whose directory is held until it is done
	into *contents
	done *sync.WaitGroup
}

// readAll reads until the channel is closed, however early the context ends.
func (s *survey) readAll(ctx context.Context) {
	buffer := make([]byte, walk.ReadSize)
	for r := range s.readings {
		if ctx.Err() == nil {
			if err := s.readFile(ctx, r, buffer); walk.IsForbidden(err) {
				s.Unread(r.file.Path, err)
			} else if err != nil && s.Bad != nil && ctx.Err() == nil {
				s.Bad(r.file.Path, 0, 0, err)
			} else if err != nil {
				s.fail(fmt.Errorf("reading %s: %w", filepath.Join(s.root, r.file.Path), err))
			}
		}
		r.file.Dir.Release()
		r.done.Done()
	}
}

func (s *survey) readFile(ctx context.Context, r reading, buffer []byte) (err error) {
	if r.into.xattrs, err = s.xattrs(r.file.NoFollowPath()); err != nil {
		return err
	}
	switch {
	case r.file.Type == manifest.Symlink:
		r.into.target, err = r.file.Target()
	case r.file.Type == manifest.Regular && r.into.sha256 == manifest.Digest{} && (s.Reads == nil || s.Reads(&r.file.Entry)):
		err = s.readContent(ctx, r, buffer)
	}
	return err
}

// xattrs gives the digest of the extended attributes.
func (s *survey) xattrs(path string) (manifest.Digest, error) {
	if !s.Portable {
		return manifest.Xattrs(path)
	}
	all, err := manifest.ListXattrs(path)
	return manifest.XattrDigest(slices.DeleteFunc(all, func(x manifest.Xattr) bool { return strings.HasPrefix(x.Name, "btrfs.") })), err
}

func (s *survey) readContent(ctx context.Context, r reading, buffer []byte) (err error) {
	var zeros zeroFinder
	watcher := manifest.Watcher{FromDisk: s.FromDisk, Read: func(at int64, content []byte) {
		s.Progress(int64(len(content)))
		if s.Holes {
			zeros.add(at, content)
		}
	}}
	if s.Bad != nil {
		watcher.Bad = func(at, length int64) { s.Bad(r.file.Path, at, length, nil) }
	}
	r.into.sha256, err = r.file.Hash(ctx, buffer, watcher)
	if err == nil {
		r.into.changed, err = punch(&r.file, zeros.found())
	}
	return err
}
