package store

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/object"
)

// CallBack asks for those parts of backups that are in an archive; needed tells which parts, nil: all. It tells how many there are, and
// when all of them can be read, as far as that is known.
func (s *Store) CallBack(ctx context.Context, backups []*Backup, needed func(b *Backup, part int) bool) (archived int, ready time.Time, err error) {
	var keys []string
	for _, b := range backups {
		for n := range b.Parts {
			if needed == nil || needed(b, n) {
				keys = append(keys, partKey(b.Dir, dataName, n))
			}
		}
	}
	var mu sync.Mutex
	var errs []error
	_ = InParallel(len(keys), func(i int) error { // none is given, so that all are asked for
		err := s.touch(ctx, keys[i])
		mu.Lock()
		defer mu.Unlock()
		var e *object.ArchivedError
		switch {
		case err == nil:
		case !errors.As(err, &e):
			errs = append(errs, err)
		default:
			if archived++; e.Ready.After(ready) {
				ready = e.Ready
			}
		}
		return nil
	})
	return archived, ready, errors.Join(errs...)
}

// touch reads a byte of an object.
func (s *Store) touch(ctx context.Context, key string) error {
	body, err := s.bucket.Get(ctx, object.Ref{Key: key}, 0, 1)
	if err != nil {
		return err
	}
	return body.Close()
}
