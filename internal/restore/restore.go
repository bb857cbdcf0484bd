// Package restore brings whole subvolumes back from their backups, on whatever machines both lie.
//
// A restore is planned as a backup is, with the sides exchanged: what the filesystem of the target has of the wanted version, or of
// one that it builds on, is not sent. What comes back is received, checked and committed as a backup is, into the snapshot folder of
// the target, and stays there: it is what the next increment builds on. The target becomes a writable snapshot of it.
//
// All that can be known is looked at before anything is made. The subvolume that is replaced stays as it is until the new one takes its
// place. The same order goes on where an earlier one was interrupted.
package restore

import (
	"context"
	"fmt"
	"path"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/plan"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/replace"
	"github.com/btrfs-backup/btrfs-backup/internal/volume"

	"golang.org/x/time/rate"
)

// An Order tells what is to be restored, and where.
type Order struct {
	Backup inventory.Found // whole
	To     host.Trees
	Target string // absolute path, there

	InPlace        bool   // the target is there, and gives its place up
	SnapshotFolder string // of the target, to which it is relative unless it is absolute; "": the usual one
	LeaveNested    bool   // subvolumes in the target stay in what gives its place up
	RebootNeeded   bool   // the target may be the root of the running system

	engine.Settings
	RateLimit rate.Limit // bytes per second; 0: as many as go
	Progress  *progress.Display
}

// run is an order under way.
type run struct {
	Order
	source *volume.Backups
	backup btrfs.Subvolume
	holds  host.Content // of the folder of the backup
	place  place
	report Report

	of         host.Origin // what the backup is of, where no folder of backups tells it
	attributes []byte      // of the backup, which no stream holds

	present []btrfs.Subvolume // what the target's filesystem has of the wanted version, the best first
	bases   []btrfs.Subvolume // what the version can build upon there, the best first
}

// Run restores a subvolume.
func Run(ctx context.Context, o Order) (*Report, error) {
	r := &run{Order: o, source: volume.NewBackups(o.Backup.Host, o.Backup.Folder, volume.Options{Log: o.Log})}
	r.report = Report{DryRun: o.DryRun, Backup: o.Backup.String(), Target: engine.PlaceName(o.To.String() + o.Target), target: o.Target,
		folder: engine.PlaceName(o.Backup.Host.String() + o.Backup.Folder), option: o.SnapshotFolder}
	defer r.close()
	err := r.source.Open(ctx)
	if err == nil {
		err = r.look(ctx)
	}
	if err == nil {
		err = r.rehearse(ctx)
	}
	if err == nil && !o.DryRun {
		err = r.do(ctx)
	}
	return &r.report, err
}

// do carries the order out, when nothing speaks against it.
func (r *run) do(ctx context.Context) error {
	release, err := r.Lock(ctx, r.source, r.source, !r.NoWait) // so that the backup is not deleted meanwhile
	if err != nil {
		return err
	}
	defer release()
	if r.place.resumes {
		if done, err := r.goOn(ctx, r.isDone); done || err != nil {
			return err
		}
		if err := r.look(ctx); err != nil {
			return err
		}
	}
	unlock, err := r.lockTarget(ctx, r.look)
	if err != nil {
		return err
	}
	err = r.fetch(ctx)
	if err == nil {
		err = r.put(ctx)
	}
	unlock()
	return r.ended(ctx, err)
}

// ended removes what is of no use to the next attempt.
func (r *run) ended(ctx context.Context, err error) error {
	if err != nil && !r.InPlace {
		_, _ = r.place.target.Replace(context.WithoutCancel(ctx), r.order())
	}
	return err
}

func (r *run) close() {
	_ = r.source.Close() // nothing was written
	r.place.close()
}

// look looks at both sides, refuses what cannot be done, and plans.
func (r *run) look(ctx context.Context) (err error) {
	if r.holds, err = r.source.List(ctx); err != nil {
		return err
	}
	if err := r.checkBackup(); err != nil {
		return err
	}
	if err := r.place.open(ctx, r.Order); err != nil {
		return err
	}
	r.readAttributes(ctx)
	return r.plan(ctx)
}

// readAttributes finds what chattr had set of files. Without it, everything else is restored.
func (r *run) readAttributes(ctx context.Context) {
	var err error
	if r.attributes, err = r.source.AllAttributes(ctx, r.backup.Name); err != nil && ctx.Err() == nil {
		r.Log.Warn(fmt.Sprintf("%s: what chattr had set of files is not known: %v", r.report.Backup, err))
	}
}

// checkBackup finds the backup in its folder and refuses what is none.
func (r *run) checkBackup() error {
	for _, s := range r.holds.InDirectory {
		if s.Name == r.Backup.Name {
			r.backup = s
		}
	}
	name := r.Backup.String()
	incomplete := hint.Newf(fmt.Errorf("%s is not complete, and cannot be restored", name), "`btrfs-backup list %s` shows those that are", r.source)
	switch s := r.backup; {
	case s.ID == 0:
		return hint.New(fmt.Errorf("%s is no subvolume", name), "files of it are restored with --path, all with --path .")
	case btrfs.IsIncoming(s.Name):
		return incomplete
	case !s.ReadOnly:
		return hint.New(fmt.Errorf("%s can be written to, so it is no backup", name), "to use it as it is: btrfs subvolume snapshot")
	case !plan.CanBeSent(s) || s.WasReceived():
		return hint.New(fmt.Errorf("%s was altered since it was received, and is no backup any more", name),
			"restore another one; files of this one are restored with --path")
	}
	r.report.Snapshot, r.report.copied = r.backup.Name, r.Backup.Tree
	if !r.isBackup() {
		r.report.folder = "DEST" // it is a snapshot
	}
	return nil
}

// isBackup tells that it is the backup of a snapshot, or a copy by rsync, and no snapshot.
func (r *run) isBackup() bool { return r.backup.Received() || r.Backup.Tree }

// identities are what the backups in the folder are known by.
func (r *run) identities() (all []btrfs.UUID) {
	for _, s := range r.holds.InDirectory {
		all = append(all, s.UUID, s.ReceivedUUID)
	}
	return all
}

// rehearse finds what would be done, and refuses what cannot be.
func (r *run) rehearse(ctx context.Context) (err error) {
	r.report.planned(r.present, r.bases)
	if r.place.folder != "" { // into which the copy moves
		if err := replace.CheckSnapshotName(r.backup.Name); err != nil {
			return err
		}
	}
	if err := r.checkSpace(ctx); err != nil {
		return err
	}
	return r.replace(ctx, true)
}

// replace lets the target be a writable snapshot of what its filesystem has.
func (r *run) replace(ctx context.Context, dryRun bool) (err error) {
	order := r.order()
	if order.DryRun = dryRun; len(r.present) > 0 {
		order.Snapshot = r.present[0].UUID
	}
	if r.report.Replace, err = r.place.target.Replace(ctx, order); err != nil {
		err = fmt.Errorf("target %s: %w", r.report.Target, err)
	}
	return err
}

// order is what the machine of the target is to do.
func (r *run) order() replace.Order {
	o := replace.Order{Attributes: r.attributes, Folder: r.place.folder, LeaveNested: r.LeaveNested, Running: r.RebootNeeded, DryRun: r.DryRun,
		Aside: replace.Aside(path.Base(r.Target), r.Now())}
	if !r.InPlace {
		o.Name = path.Base(r.Target)
	}
	return o
}
