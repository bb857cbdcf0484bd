package restore

import (
	"context"
	"fmt"
	"path"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/plan"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/transport"
)

// remember notes that the target continues what the backup is of, so that the retention of its backups goes on: beside the backup, and in
// the records of this machine, for whatever other destinations it has.
func (r *run) remember(ctx context.Context) error {
	made := r.report.Replace.UUID
	if made.IsZero() {
		return nil
	}
	known, err := r.State.Source(r.report.Target)
	if err != nil {
		return r.unremembered(err)
	}
	origin := r.origin().Subvolume
	certain := origin == r.old() || len(known) > 0 && known[0] == origin.String() // it lives no more, at least not there
	if lives := r.lives(origin, known); lives != "" {
		r.report.Lives = lives
		origin = btrfs.UUID{}
	}
	if !origin.IsZero() && r.source != nil {
		c := host.Continuation{Source: host.Origin{Subvolume: made, Origin: host.OriginOf(r.To, r.Target)}, MayLive: !certain,
			Older: []btrfs.UUID{origin}}
		if old := r.old(); r.goesOn(old, origin) {
			c.Older, c.MayLive = []btrfs.UUID{old}, false
		}
		if err := r.source.Continue(ctx, c); err != nil {
			return hint.Newf(fmt.Errorf("%s is restored, but that it goes on with the history of its backups could not be recorded: %w",
				r.report.Target, err), "btrfs-backup adopt %s", transport.Quote(r.report.Target, r.report.folder))
		}
	}
	uuids := slices.Clone(known)
	for _, uuid := range []btrfs.UUID{made, origin, r.old()} {
		if uuid.IsZero() {
			continue
		}
		before, err := r.State.ContinuedBy(uuid.String())
		if err != nil {
			return r.unremembered(err)
		}
		uuids = append(append(uuids, uuid.String()), before...)
	}
	if err := r.noteCommon(ctx); err != nil {
		r.Log.Warn(fmt.Sprintf("%s: that %s holds %s could not be noted: %v", r.report.Target, r.report.folder, r.backup.Name, err))
	}
	slices.Sort(uuids)
	uuids = slices.DeleteFunc(slices.Compact(uuids), func(uuid string) bool { return uuid == made.String() })
	if err := r.State.SetSource(context.WithoutCancel(ctx), r.report.Target, slices.Insert(uuids, 0, made.String())); err != nil {
		return r.unremembered(err)
	}
	return nil
}

func (r *run) unremembered(err error) error {
	r.Log.Warn(fmt.Sprintf("%s: cannot be remembered, so that it may look like a clone: %v", r.report.Target, err))
	return nil
}

// goesOn tells that what gave its place up is on record beside the backup as going on with a source, or as having begun with its history.
func (r *run) goesOn(old, source btrfs.UUID) bool {
	_, about, err := r.holds.RecordedOwn(r.source.String())
	if err != nil || old.IsZero() || old == source {
		return false
	}
	if slices.Contains(about.Sources[source].Apart, old) {
		return true
	}
	for range about.Sources {
		if old = about.Sources[old].Continues; old == source {
			return true
		}
	}
	return false
}

// old is what gave its place up.
func (r *run) old() btrfs.UUID {
	if !r.InPlace {
		return btrfs.UUID{}
	}
	return r.place.target.Status().Subvolume.UUID
}

// lives gives the name of the subvolume that the backup is of, if that is still there and is not what gave its place up: then the
// target is a source of its own.
func (r *run) lives(origin btrfs.UUID, known []string) string {
	if origin.IsZero() || origin == r.old() || slices.Contains(known, origin.String()) {
		return ""
	}
	for _, s := range r.place.all {
		if s.UUID == origin && !s.ReadOnly {
			return s.Name
		}
	}
	return ""
}

// noteCommon lets the ledger of the target keep the copy for the destination that it came from, unless it has something newer.
func (r *run) noteCommon(ctx context.Context) error {
	if !r.report.Kept || r.report.folder == "" || r.source != nil && !r.isBackup() { // it is a snapshot, of no destination
		return nil
	}
	folder := r.place.receive
	if r.place.folder != "" {
		folder = path.Join(r.Target, r.place.folder)
	}
	dir, err := r.To.Open(ctx, folder)
	if err != nil {
		return err
	}
	defer dir.Close()
	found, err := dir.List(ctx)
	if err != nil {
		return err
	}
	ledger, err := host.ParseLedger(folder, found.Ledger, nil)
	if err != nil {
		return err
	}
	names := plan.NamesOf(found.InDirectory)
	if ledger.DropMissing(func(name string) bool { return slices.Contains(names, name) }); ledger.Knows(r.report.folder) {
		return nil
	}
	ledger.SetCommon(r.report.folder, r.present[0].Name)
	return dir.WriteLedger(ctx, ledger.Marshal())
}
