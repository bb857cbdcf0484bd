package store

import (
	"context"
	"errors"
	"sync"
	"time"

	"btrfs-backup/internal/object"
)

// CallBack asks for those parts of backups that are in an archive; needed tells which parts, nil: all. It tells how many there are, and when all of them can be read, as far
// as that is known.
func (s *Store) CallBack(ctx context.Context, backups []*Backup, needed func(b *Backup, part int) bool) (archived int, ready time.Time, err error) {
	const atOnce = 8
	var asking sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	slots := make(chan struct{}, atOnce)
	for _, b := range backups {
		for n := range b.Parts {
			if needed != nil && !needed(b, n) {
				continue
			}
			slots <- struct{}{}
			asking.Go(func() {
				defer func() { <-slots }()
				err := s.touch(ctx, partKey(b.Dir, dataName, n))
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
			})
		}
	}
	asking.Wait()
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
