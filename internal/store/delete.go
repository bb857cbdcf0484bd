package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

// Delete deletes backups of a source, in this order, and tells of which it did. The index, which is a copy, tells nothing of them before
// that: else they would seem to have lost their manifests if this was cut short. A backup is none any more as soon as its manifest is
// gone: the rest is garbage then, whatever happens.
func (s *Store) Delete(ctx context.Context, source string, backups []*Backup) (deleted []*Backup, err error) {
	listed := make(map[string][]byte)
	err = s.changeIndex(ctx, source, func(manifests map[string][]byte) {
		for _, b := range backups {
			if m, ok := manifests[b.Dir]; ok {
				listed[b.Dir] = m
			}
			delete(manifests, b.Dir)
		}
	})
	if err != nil {
		return nil, mayNot(fmt.Errorf("deleting from the index of %s: %w", s, err))
	}
	failpoint.Reach("index without deleted")
	var errs []error
	for _, b := range backups {
		if err := s.bucket.Delete(ctx, []string{b.Dir + manifestName}); err != nil {
			errs = append(errs, mayNot(fmt.Errorf("deleting %s of %s: %w", b.Name, s, err)))
			break // what it builds on is not deleted before it
		}
		deleted = append(deleted, b)
		failpoint.Reach("manifest deleted")
	}
	for _, b := range deleted {
		delete(listed, b.Dir)
	}
	if len(listed) > 0 { // they are there still
		err := s.changeIndex(ctx, source, func(manifests map[string][]byte) { maps.Copy(manifests, listed) })
		if err != nil {
			s.Log.Debug(fmt.Sprintf("%s: putting back what the index tells: %v", s, err))
		}
	}
	for _, b := range deleted {
		var keys []string
		for _, o := range b.objects() {
			keys = append(keys, o.key)
		}
		if err := s.bucket.Delete(ctx, keys); err != nil {
			errs = append(errs, mayNot(fmt.Errorf("deleting what is left of %s of %s: %w", b.Name, s, err)))
		}
	}
	return deleted, errors.Join(errs...)
}

// DeleteRest deletes what is no backup.
func (s *Store) DeleteRest(ctx context.Context, r Rest) error {
	if r.Foreign {
		return fmt.Errorf("%s of %s may be somebody else's backup", r.Dir, s)
	}
	if err := s.bucket.Delete(ctx, r.Keys); err != nil {
		return mayNot(fmt.Errorf("deleting what is left of %s of %s: %w", r.Name, s, err))
	}
	return nil
}

func mayNot(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return hint.New(err, "these credentials may only add, which is safe: prune with others, on another machine")
	}
	return err
}

// Chain gives a backup and all that it is built upon, the complete one first. The UUID is of what is missing, if something is.
func (c *Catalog) Chain(b *Backup) (chain []*Backup, missing btrfs.UUID) {
	of := make(map[btrfs.UUID]*Backup)
	for i := range c.Backups {
		of[c.Backups[i].UUID] = &c.Backups[i]
	}
	for range c.Backups {
		chain = append([]*Backup{b}, chain...)
		if b.Full() {
			return chain, btrfs.UUID{}
		}
		parent := of[b.Parent]
		if parent == nil {
			return chain, b.Parent
		}
		b = parent
	}
	return chain, b.Parent // they are built upon each other
}

// SortForDeletion puts what builds on others before these.
func (c *Catalog) SortForDeletion(backups []*Backup) {
	depth := make(map[*Backup]int)
	for _, b := range backups {
		chain, _ := c.Chain(b)
		depth[b] = len(chain)
	}
	slices.SortStableFunc(backups, func(a, b *Backup) int { return cmp.Compare(depth[b], depth[a]) })
}
