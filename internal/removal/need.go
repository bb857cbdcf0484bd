package removal

import (
	"context"
	"fmt"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

// patience is how long the size of a complete copy may take to be measured.
const patience = 10 * time.Second

// A need is what something is needed for.
type need struct {
	why   string // as a reason to keep it
	means func(size string) string
}

// needs gives what an entry is needed for: by the destinations in the ledger, or by the next increment to it.
func (f *folder) needs(e inventory.Entry) (needs []need, err error) {
	ledger, err := host.ParseLedger(f.Folder, f.Ledger, nil)
	if err != nil {
		return nil, err
	}
	series := f.judge.Series(e, f.entries)
	others := len(series) > 1
	for _, h := range ledger.Holds(e.Name) {
		needs = append(needs, need{h.String(), meaningOf(h, others)})
	}
	if len(needs) > 0 || !e.Complete && e.MissingFiles > 0 || !f.judge.IsNewest(e, series) {
		return needs, nil
	}
	of := f.judge.SourceName(e)
	switch {
	case e.Kind == inventory.Snapshot:
		needs = append(needs, need{"the newest snapshot", func(string) string { return "it is the newest snapshot there" }})
	case f.isTree(e.Name):
		needs = append(needs, need{"the newest complete one", func(size string) string {
			if others {
				return "it is the newest complete backup of " + of + " there; the next one would be built upon an older one"
			}
			return "it is the only complete backup of " + of + " there; the next one would copy everything" + size
		}})
	default:
		needs = append(needs, need{"the newest one", func(size string) string {
			if others {
				return "it is the newest backup of " + of + " there; the next one would be built upon an older one, or be complete" + size
			}
			return "it is the only backup of " + of + " there; the next one would be complete" + size
		}})
	}
	return needs, nil
}

func meaningOf(h lock.Hold, others bool) func(size string) string {
	return func(size string) string {
		switch {
		case h.Outstanding:
			return h.Destination + " does not hold it yet"
		case h.Older:
			return fmt.Sprintf("later backups to %s would be built upon other snapshots, or be complete%s", h.Destination, size)
		case others:
			return fmt.Sprintf("the next backup to %s would be built upon an older snapshot, or be complete%s", h.Destination, size)
		}
		return fmt.Sprintf("the next backup to %s would be complete%s", h.Destination, size)
	}
}

// sizeOf tells how much a complete copy is, where that can be known in a reasonable time; else it gives "".
func (f *folder) sizeOf(ctx context.Context, e inventory.Entry) string {
	if f.isTree(e.Name) {
		if e.Size == nil {
			return ""
		}
		return ", " + progress.Bytes(int64(*e.Size))
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	n, err := f.dir.Measure(ctx, host.SendOrder{Snapshot: e.Name, Format: sendstream.Format{Protocol: 1}})
	if err != nil {
		return ""
	}
	return ", " + progress.Bytes(n)
}
