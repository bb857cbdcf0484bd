package engine

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"btrfs-backup/btrfs"
	"btrfs-backup/retention"
)

// Receiving is a folder that prunes itself, whoever brings the backups.
type Receiving interface {
	List(ctx context.Context) (btrfs.Listing, error)
	Origins(ctx context.Context) (map[btrfs.UUID]btrfs.UUID, error)
	Delete(ctx context.Context, names []string) (deleted []string, err error)
}

// PruneReceived applies a policy after the backup name was received: to the complete backups of the same series and the same
// source, as far as that is on record.
func PruneReceived(ctx context.Context, f Receiving, name string, keep retention.Policy, now time.Time, log *slog.Logger) error {
	listing, err := f.List(ctx)
	if err != nil {
		return err
	}
	origins, err := f.Origins(ctx)
	if err != nil {
		return err
	}
	naming, ok := namingOf(name)
	if !ok {
		return nil
	}
	backups := side{Listing: listing, naming: naming}
	var origin btrfs.UUID
	for _, b := range backups.series() {
		if b.Name == name {
			origin = origins[b.ReceivedUUID]
		}
	}
	var candidates []retention.Snapshot
	for _, b := range backups.series() {
		if isComplete(b) && !origin.IsZero() && origins[b.ReceivedUUID] == origin {
			t, _ := naming.Time(b.Name)
			candidates = append(candidates, retention.Snapshot{Name: b.Name, Time: t})
		}
	}
	names := deletions(retention.Decide(keep, now, candidates))
	if len(names) == 0 {
		return nil
	}
	log.Info(fmt.Sprintf("deleting %d: %s", len(names), abbreviate(names)))
	_, err = f.Delete(ctx, names)
	return err
}

// namingOf gives the series that a name belongs to.
func namingOf(name string) (Naming, bool) {
	n := Naming{Prefix: name[:max(len(name)-len(timeLayout), 0)]}
	return n, n.Ours(name)
}
