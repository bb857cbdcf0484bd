package store

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// Indexed gives the backups of a source that its index tells of, in one request. Whether their objects are there is not known.
func (s *Store) Indexed(ctx context.Context, source string) (*Catalog, error) {
	indexed, err := s.readIndex(ctx, source)
	if err != nil {
		return nil, err
	}
	c := &Catalog{Source: source}
	for dir, content := range indexed.manifests {
		m, err := s.decode(dir, content)
		if err != nil {
			c.Rest = append(c.Rest, Rest{Dir: dir, Name: titleOf(dir), Why: err.Error(), Foreign: true})
			continue
		}
		c.Backups = append(c.Backups, Backup{Manifest: *m, Committed: m.Made})
	}
	c.sort()
	c.dropSuperseded(nil, s.recipientsID(), len(s.Recipients) > 0)
	return c, nil
}

// sort puts backups in the order in which they were stored. Clocks tell that of what has no sequence, or the same.
func (c *Catalog) sort() {
	slices.SortStableFunc(c.Backups, func(a, b Backup) int {
		return cmp.Or(cmp.Compare(a.Sequence, b.Sequence), a.Made.Compare(b.Made), a.Committed.Compare(b.Committed), cmp.Compare(a.Dir, b.Dir))
	})
}

// LockedUntil asks until when the server keeps a backup, whoever deletes it.
func (s *Store) LockedUntil(ctx context.Context, m *Manifest) (time.Time, error) {
	manifest, err := s.first(ctx, m.Dir+manifestName)
	if err != nil {
		return time.Time{}, err
	}
	info, err := s.bucket.Stat(ctx, manifest)
	return info.Locked, err
}

// atOnce is how many requests about many objects are under way.
const atOnce = 16

// InParallel does things by their numbers, several at a time, and gives the first error, after which no further one is begun.
func InParallel(n int, do func(i int) error) (first error) { return inParallel(atOnce, n, do) }

func inParallel(atOnce, n int, do func(i int) error) (first error) {
	var mu sync.Mutex
	next := 0
	take := func() (i int, ok bool) {
		mu.Lock()
		defer mu.Unlock()
		i, ok = next, next < n && first == nil
		next++
		return i, ok
	}
	var working sync.WaitGroup
	for range min(n, atOnce) {
		working.Go(func() {
			for i, ok := take(); ok; i, ok = take() {
				if err := do(i); err != nil {
					mu.Lock()
					first = cmp.Or(first, err)
					mu.Unlock()
				}
			}
		})
	}
	working.Wait()
	return first
}
