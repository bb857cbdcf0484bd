package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/seal"
	"github.com/btrfs-backup/btrfs-backup/internal/store"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

// verifyStream decrypts a backup, checks its stream, and compares that with the sum that was taken when it was stored.
func verifyStream(ctx context.Context, s *store.Store, m *store.Manifest, ids seal.Identities, read func(bytes int64)) error {
	private, err := m.Private(ids)
	if err != nil {
		return err
	}
	content := s.Stream(ctx, m, ids)
	defer content.Close()
	sum := xxh3.New()
	r := sendstream.NewReader(io.TeeReader(content, sum))
	for {
		c, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if read != nil {
			read(int64(len(c.Raw)))
		}
	}
	if got := sum.Sum128().Bytes(); !bytes.Equal(got[:], private.Stream) {
		return fmt.Errorf("the stream of %s %w: it is another one than was stored", m.Name, store.ErrDamaged)
	}
	return nil
}

// record remembers on this machine whether backups of a source are whole.
func (s Stored) record(ctx context.Context, c *store.Catalog, whole map[*store.Backup]bool, now time.Time) error {
	verified := make(map[string]lock.Verified)
	for b, isWhole := range whole {
		verified[path.Base(b.Dir)] = lock.Verified{At: now, Damaged: !isWhole}
	}
	isThere := func(dir string) bool {
		return slices.ContainsFunc(c.Backups, func(b store.Backup) bool { return path.Base(b.Dir) == dir }) ||
			slices.ContainsFunc(c.Rest, func(r store.Rest) bool { return path.Base(r.Dir) == dir }) // stored once more, since it is damaged
	}
	return lock.State{Dir: s.State}.SetVerified(ctx, s.ID+" "+c.Source, verified, isThere)
}
