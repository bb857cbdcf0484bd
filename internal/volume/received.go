package volume

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/engine"
	"btrfs-backup/internal/engine/copies"
	"btrfs-backup/internal/engine/kin"
	"btrfs-backup/internal/host"
	"btrfs-backup/retention"
)

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
func (p *ReceivedPruner) Received(ctx context.Context, f host.Folder, name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	naming, ok := engine.NamingOf(name)
	if !ok {
		return nil
	}
	content, err := f.List(ctx)
	if err != nil {
		return err
	}
	origins, err := host.ParseOrigins(content.Origins)
	if err != nil {
		return nil // the sender tells of it, since it lists the folder, too
	}
	series := slices.DeleteFunc(content.InDirectory, func(b btrfs.Subvolume) bool { return !naming.Ours(b.Name) })
	var names []string
	for _, v := range retention.DecideInOrder(p.Last, p.candidates(series, origins, name)) {
		if !v.Keep {
			names = append(names, v.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	p.Log.Info(fmt.Sprintf("deleting %d: %s", len(names), strings.Join(names, " ")))
	_, err = f.Delete(ctx, names, host.DeleteOptions{})
	return err
}

// candidates gives those of the series that are of the same source as the named backup, in the order in which they were received.
func (p *ReceivedPruner) candidates(series []btrfs.Subvolume, origins host.Origins, name string) []retention.Snapshot {
	if p.brought == nil {
		p.brought = make(map[btrfs.UUID]bool)
	}
	var origin btrfs.UUID
	for _, b := range series {
		if b.ReadOnly && b.Name == name {
			origin = origins[b.ReceivedUUID]
			p.brought[b.UUID] = true
		}
	}
	slices.SortFunc(series, kin.ByAge)
	var candidates []retention.Snapshot
	for _, b := range series {
		if !copies.IsComplete(b) || origin.IsZero() || origins[b.ReceivedUUID] != origin {
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
