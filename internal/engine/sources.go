package engine

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/kin"
)

// recall reads of which subvolumes there are backups under the source's name.
func (r *run) recall() {
	known, err := r.State.Source(r.Source.String())
	renamed, renamedErr := r.State.SourcesBeside(r.source.UUID.String())
	err = cmp.Or(err, renamedErr)
	if r.snapshots.Record.Lost = err != nil; err != nil {
		r.Log.Warn(fmt.Sprintf("%s: the record of sources cannot be read, so after a rollback its older snapshots and backups are kept: %v",
			r.Source, err))
	}
	r.snapshots.Record.Sources, r.snapshots.Record.Renamed = uuidsIn(known), uuidsIn(renamed)
	r.continued = r.snapshots.Line(r.source).UUIDs
}

func uuidsIn(texts []string) (uuids []btrfs.UUID) {
	for _, text := range texts {
		var uuid btrfs.UUID
		if uuid.UnmarshalText([]byte(text)) == nil && !uuid.IsZero() {
			uuids = append(uuids, uuid)
		}
	}
	return uuids
}

// continueWith adds what the records at a destination tell.
func (r *run) continueWith(l kin.Line) {
	if r.history == nil {
		return
	}
	r.ledgerMu.Lock()
	defer r.ledgerMu.Unlock()
	maps.Copy(r.continued, l.UUIDs)
}

// remember puts the source and those that it continues on record, once a version of it was taken or saved.
func (r *run) remember(ctx context.Context) {
	if r.DryRun || !r.report.madeSome() {
		return
	}
	var uuids []string
	for uuid := range r.continued {
		if !uuid.IsZero() && uuid != r.source.UUID {
			uuids = append(uuids, uuid.String())
		}
	}
	slices.Sort(uuids)
	if !r.source.UUID.IsZero() {
		uuids = slices.Insert(uuids, 0, r.source.UUID.String())
	}
	if err := r.State.SetSource(context.WithoutCancel(ctx), r.Source.String(), uuids); err != nil {
		r.Log.Warn(fmt.Sprintf("%s: cannot be remembered, so that a rollback of it looks like a clone: %v", r.Source, err))
	}
}
