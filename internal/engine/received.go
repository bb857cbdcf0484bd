package engine

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"btrfs-backup/btrfs"
	"btrfs-backup/retention"
)

// Receiving is a folder that prunes itself, whoever brings the backups.
type Receiving interface {
	List(ctx context.Context) (btrfs.Listing, error)
	Origins(ctx context.Context) (map[btrfs.UUID]btrfs.UUID, error)
	Delete(ctx context.Context, names []string) (deleted []string, err error)
}

// A ReceivedPruner prunes what one client brings. The newest are those received last, whatever their names say: the client
// makes these up. What this client brought is never deleted.
type ReceivedPruner struct {
	Last int // as many are kept
	Log  *slog.Logger

	mu      sync.Mutex
	brought map[btrfs.UUID]bool
}

// Received applies the policy after the backup name was received: to the complete backups of the same series and the same
// source, as far as that is on record.
func (p *ReceivedPruner) Received(ctx context.Context, f Receiving, name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	naming, ok := namingOf(name)
	if !ok {
		return nil
	}
	listing, err := f.List(ctx)
	if err != nil {
		return err
	}
	origins, err := f.Origins(ctx)
	if err != nil {
		return err
	}
	names := deletions(retention.DecideInOrder(p.Last, p.candidates(side{Listing: listing, naming: naming}, origins, name)))
	if len(names) == 0 {
		return nil
	}
	p.Log.Info(fmt.Sprintf("deleting %d: %s", len(names), abbreviate(names)))
	_, err = f.Delete(ctx, names)
	return err
}

// candidates gives those of the series that are of the same source as the named backup, in the order in which they were received.
func (p *ReceivedPruner) candidates(backups side, origins map[btrfs.UUID]btrfs.UUID, name string) []retention.Snapshot {
	if p.brought == nil {
		p.brought = make(map[btrfs.UUID]bool)
	}
	var origin btrfs.UUID
	for _, b := range backups.series() {
		if b.Name == name {
			origin = origins[b.ReceivedUUID]
			p.brought[b.UUID] = true
		}
	}
	var candidates []retention.Snapshot
	for _, b := range backups.series() {
		if !isComplete(b) || origin.IsZero() || origins[b.ReceivedUUID] != origin {
			continue
		}
		c := retention.Snapshot{Name: b.Name}
		if p.brought[b.UUID] {
			c.Holds = []string{"just received"}
		}
		if why := b.InUse(); why != "" {
			c.Holds = append(c.Holds, why)
		}
		candidates = append(candidates, c)
	}
	return candidates
}

// namingOf gives the series that a name belongs to.
func namingOf(name string) (Naming, bool) {
	n := Naming{Prefix: name[:max(len(name)-len(timeLayout), 0)]}
	return n, n.Ours(name)
}
