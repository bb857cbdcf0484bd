package engine

import (
	"context"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/engine/ladder"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

// updateLedger changes the ledger and writes it. A dry run changes it in memory only, as one does whose source is
// read-only.
func (r *run) updateLedger(ctx context.Context, change func(*lock.Ledger)) {
	r.ledgerMu.Lock()
	defer r.ledgerMu.Unlock()
	if r.snapshots.Ledger != nil {
		change(r.snapshots.Ledger)
		r.writeLedger(ctx)
	}
}

// writeLedger brings the file up to date. If that fails, what the file says is kept, too, and conclude tries again.
func (r *run) writeLedger(ctx context.Context) {
	content := string(r.snapshots.Ledger.Marshal())
	if r.DryRun || r.found.ReadOnly || content == r.written {
		r.unwritten = nil
		return
	}
	if r.unwritten = r.history.WriteLedger(ctx, r.snapshots.Ledger); r.unwritten == nil {
		r.written = content
	}
}

// ledgerFile gives what the file of the ledger says besides, if it could not be written. For lack of space that does not count about
// destinations which hold the newest snapshot: this one stays anyway, and what the file names may be all that can make room.
func (r *run) ledgerFile(newest string) (*lock.Ledger, error) {
	if r.unwritten == nil {
		return nil, nil
	}
	file, err := lock.ParseLedger([]byte(r.written), r.Naming.Ours)
	if err == nil && ladder.IsAboutSpace(r.unwritten) {
		for _, d := range r.Destinations {
			if r.snapshots.Ledger.IsCommon(d.String(), newest) {
				file.Forget(d.String())
			}
		}
	}
	return file, err
}

// settleLedger writes the ledger if that was not possible so far. What was deleted makes room only after a while.
func (r *run) settleLedger(ctx context.Context) {
	for range 60 {
		r.updateLedger(ctx, func(*lock.Ledger) {})
		if r.unwritten == nil || !ladder.IsAboutSpace(r.unwritten) || len(r.report.Deleted) == 0 || ctx.Err() != nil {
			break
		}
		_ = pause(ctx, time.Second)
	}
	if r.unwritten != nil {
		r.report.fail(r.unwritten)
	}
}
