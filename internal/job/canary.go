package job

import (
	"context"
	"errors"
	"log/slog"

	"btrfs-backup/internal/offsite"
	"btrfs-backup/internal/store"
)

// Canary reads what secret keys are tried with in a store.
func (s Stores) Canary(ctx context.Context, p Store, m *Machines, log *slog.Logger) (content []byte, err error) {
	found, err := offsite.Find(ctx, s.At(p, m, log), store.Options{Log: log})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, found.Close()) }()
	return found.Store.Canary(ctx)
}
