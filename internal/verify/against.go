package verify

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"os"
	"slices"
	"sync"

	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

// A side is one of two trees that are compared.
type side struct {
	Place
	dir         *host.Dir
	manifest    *os.File
	differences []tree.Difference // what could not be read
	read, total int64
	sum         tree.Verified
}

// Against compares a backup with what it is a copy of: the snapshot that was sent, or another copy of that, or the directory that was
// copied as it is now. Each is read on its machine. What streams do not carry is not compared: change and creation times, inode numbers,
// attributes of chattr(1), and the time of the root.
func Against(ctx context.Context, backup, original Place, w Watcher) Result {
	backup, err := backup.meant(ctx)
	original, originalErr := original.meant(ctx)
	r := Result{Backup: backup.String(), Against: original.String(), Read: All, Differences: []tree.Difference{}}
	if err := cmp.Or(err, originalErr); err != nil {
		return r.failed(err)
	}
	err = r.compare(ctx, &side{Place: original}, &side{Place: backup}, w)
	if err != nil {
		return r.failed(err)
	}
	return r
}

func (r *Result) compare(ctx context.Context, want, got *side, w Watcher) error {
	for _, s := range []*side{want, got} {
		if err := s.open(ctx); err != nil {
			return err
		}
		defer s.close()
	}
	if err := r.read(ctx, want, got, w); err != nil {
		return err
	}
	found := func(d tree.Difference) {
		r.Differences = append(r.Differences, d)
		w.Found(d)
	}
	unread := make(map[string]bool)
	for _, s := range []*side{want, got} {
		slices.SortFunc(s.differences, func(a, b tree.Difference) int { return manifest.Compare(a.Path, b.Path) })
		for _, d := range s.differences {
			unread[d.Path] = true
			if s == want { // which is nothing of the backup
				d.Got = "in " + s.String()
			}
			found(d)
		}
	}
	isSubvolume := want.dir.Status().IsRoot && got.dir.Status().IsRoot
	v, digest, err := tree.CompareManifests(ctx, want.manifest, got.manifest, tree.ManifestOptions{
		NoRootTime: isSubvolume, Unread: func(path string) bool { return unread[path] },
	}, found)
	r.Files, r.Bytes = v.Files, want.sum.Bytes+got.sum.Bytes
	r.Digest = hex.EncodeToString(digest[:])
	return err
}

// read writes both manifests at a time.
func (r *Result) read(ctx context.Context, want, got *side, w Watcher) error {
	progress, end := w.Begin(ctx, r.Backup)
	defer end()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var mu sync.Mutex
	tell := func() { progress(want.read+got.read, want.total+got.total) }
	var reading sync.WaitGroup
	for _, s := range []*side{want, got} {
		reading.Go(func() {
			v, err := s.dir.DescribeTree(ctx, s.manifest, func(d tree.Difference) {
				mu.Lock()
				defer mu.Unlock()
				s.differences = append(s.differences, d)
			}, func(read, total int64) {
				mu.Lock()
				defer mu.Unlock()
				s.read, s.total = read, total
				tell()
			})
			s.sum = v
			if err != nil {
				fail(err)
			}
		})
	}
	reading.Wait()
	return context.Cause(ctx)
}

func (s *side) open(ctx context.Context) (err error) {
	if s.dir, err = s.Host.Open(ctx, s.Path); err != nil {
		return err
	}
	if s.manifest, err = os.CreateTemp("", "btrfs-backup-"); err == nil {
		err = os.Remove(s.manifest.Name())
	}
	if err != nil {
		err = errors.Join(err, s.close())
	}
	return err
}

func (s *side) close() error {
	var err error
	if s.manifest != nil {
		err = s.manifest.Close()
	}
	return errors.Join(err, s.dir.Close())
}
