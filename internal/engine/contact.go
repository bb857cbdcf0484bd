package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/lock"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// approachAll looks at the destinations side by side, before anything is made.
func (r *run) approachAll(ctx context.Context) {
	if r.NoTransfer && r.KeepBackups == (retention.Policy{}) && len(r.KeepAt) == 0 {
		return
	}
	r.report.Destinations = make([]DestinationReport, len(r.Destinations))
	var approaching sync.WaitGroup
	for i, d := range r.Destinations {
		v := newVisit(r, d, &r.report.Destinations[i])
		r.visits = append(r.visits, v)
		approaching.Go(func() { v.away = v.approach(ctx) })
	}
	approaching.Wait()
	r.mergeVisits()
}

// mergeVisits serves a folder once that is named twice.
func (r *run) mergeVisits() {
	first := make(map[Position]*visit)
	visits := slices.DeleteFunc(r.visits, func(v *visit) bool {
		at := positionOf(v.to)
		other, again := first[at]
		if again = again && at.Inode != 0 && v.away == nil; again {
			r.Log.Info(fmt.Sprintf("%s: is %s by another name, and served once", v.to, other.to))
		} else if v.away == nil {
			first[at] = v
		}
		return again
	})
	reports := make([]DestinationReport, len(visits))
	r.Destinations = nil
	for i, v := range visits {
		reports[i] = *v.saved
		v.saved = &reports[i]
		r.Destinations = append(r.Destinations, v.to)
	}
	r.visits, r.report.Destinations = visits, reports
}

// isFutile tells that there is nobody to make a backup for: each destination was refused, or could not be reached and never was.
func isFutile(visits []*visit) bool {
	return len(visits) > 0 && !slices.ContainsFunc(visits, func(v *visit) bool { return v.away == nil || v.known || v.isAbsent() })
}

// approach opens the destination unless it is missing.
func (v *visit) approach(ctx context.Context) error {
	v.known = v.isKnown()
	if opener, ok := v.to.(Opener); ok {
		if err := v.open(ctx, opener); err != nil {
			v.refused = true
			return err
		}
	}
	if c, ok := v.to.(Checker); ok && !v.NoTransfer {
		return c.CheckPrograms(ctx)
	}
	return nil
}

func (v *visit) open(ctx context.Context, opener Opener) error {
	if err := v.opened(opener.Open(ctx)); err != nil {
		return err
	}
	if err := v.checkApart(); err != nil || v.known {
		return err
	}
	return v.checkNew(ctx)
}

// opened tells what the result of opening the destination means.
func (v *visit) opened(err error) error {
	var unmakeable *UnmakeableError
	switch v.missing = !errors.As(err, &unmakeable) && errors.Is(err, fs.ErrNotExist); {
	case v.known && (v.missing || unmakeable != nil):
		return hint.New(fmt.Errorf("%w, but backups were made there", err), mountIt)
	case v.missing:
		return nil
	}
	return err
}

// mountIt is the hint where a disk may be missing.
const mountIt = "is its disk mounted? --new-destination begins anew there"

// isKnown tells whether the destination is on record as holding a backup, as any may be when there is no record.
func (v *visit) isKnown() bool {
	if v.NewDestination {
		return false
	}
	if v.history == nil || v.used.Knows(v.to.String()) {
		return v.used.Knows(v.to.String())
	}
	return v.snapshots.Ledger == nil || !v.Forget && v.snapshots.Ledger.Knows(v.to.String())
}

// checkApart refuses the folder of the snapshots, and a subvolume that is the source.
func (v *visit) checkApart() error {
	here, there := positionOf(v.Source).DirID, positionOf(v.to).DirID
	source := btrfs.DirID{Filesystem: here.Filesystem, Subvolume: v.source.ID, Inode: btrfs.RootInode}
	switch {
	case there.Inode == 0:
	case here == there:
		return hint.New(fmt.Errorf("destination %s: is the snapshot folder of the source", v.to), "choose another folder")
	case v.history != nil && source == there:
		return hint.New(fmt.Errorf("destination %s: is the source itself", v.to), "choose another folder")
	}
	return nil
}

func positionOf(v any) Position {
	if p, ok := v.(Placed); ok {
		return p.At()
	}
	return Position{}
}

// checkNew refuses a destination that was not used before if it is hardly meant to be one. What holds backups is.
func (v *visit) checkNew(ctx context.Context) error {
	var found Contents
	if !v.missing && v.lister != nil {
		var err error
		if found, err = v.lister.List(ctx); err != nil {
			return err
		}
	}
	if found.holdBackups() {
		return nil
	}
	if foreign := v.foreign(found); len(foreign) > 0 && !v.NewDestination {
		return hint.New(fmt.Errorf("destination %s: holds other things and no backups: %s", v.to, Few(foreign)),
			"a run has one SOURCE. Name a folder within the destination, or use it as it is with --new-destination")
	}
	return v.checkFilesystem()
}

// checkFilesystem refuses a destination on the source's own filesystem. Histories of directories are kept there on purpose, too: of
// these it refuses what looks as if a disk should be mounted there.
func (v *visit) checkFilesystem() error {
	here, there := positionOf(v.Source), positionOf(v.to)
	if here.Machine != there.Machine || here.Filesystem != there.Filesystem || here.Filesystem.IsZero() || v.SameFilesystem {
		return nil
	}
	err := fmt.Errorf("destination %s: lies on the same filesystem as %s", v.to, v.Source)
	if v.history == nil && !there.Empty {
		v.Log.Warn(fmt.Sprintf("%v, and is lost with it", err))
		return nil
	}
	return hint.New(err, "is its disk mounted? Another machine is HOST:/PATH. --same-filesystem keeps backups there all the same")
}

// holdBackups tells that there is a backup, whoever's.
func (c Contents) holdBackups() bool {
	return len(c.Recorded) > 0 || len(c.Received) > 0 || slices.ContainsFunc(c.InDirectory, func(s btrfs.Subvolume) bool {
		return s.ReadOnly && !btrfs.IsIncoming(s.Name)
	})
}

// foreign gives the names of what no run left in the folder, and no filesystem.
func (v *visit) foreign(found Contents) []string {
	return slices.DeleteFunc(slices.Clone(found.Foreign), func(name string) bool {
		latest := strings.HasPrefix(name, ".") && strings.HasSuffix(name, "latest")
		return btrfs.IsIncoming(name) || latest || name == "lost+found" || v.Naming.Ours(name)
	})
}

// enter creates the destination if it is missing, locks and lists it, and makes the plan.
func (v *visit) enter(ctx context.Context) (release func(), err error) {
	release = func() {}
	switch {
	case v.away != nil:
		return nil, v.away
	case v.missing && (v.DryRun || v.NoTransfer):
		return release, v.prepare(ctx, v.foreseen())
	case v.missing:
		if err := v.create(ctx); err != nil {
			return nil, err
		}
	}
	if v.lister == nil {
		return release, v.prepare(ctx, Contents{})
	}
	if release, err = v.lockInTurn(ctx); err != nil {
		return nil, err
	}
	contents, err := v.lister.List(ctx)
	if err == nil {
		err = v.prepare(ctx, contents)
	}
	if err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// foreseen gives what a destination that is missing holds when it is made.
func (v *visit) foreseen() Contents {
	if p, ok := v.to.(Prospect); ok {
		return p.Foreseen()
	}
	return Contents{}
}

func (v *visit) create(ctx context.Context) error {
	if err := v.to.(Opener).Create(ctx); err != nil {
		return err
	}
	v.missing = false
	return v.checkApart() // the folder of the snapshots may have been made just now
}

// checkMounted refuses the empty place where the disk of a known destination should be mounted.
func (v *visit) checkMounted(found Contents) error {
	isThere := v.used.Has(v.to.String(), found.Identity) || found.Identity != "" && found.holdBackups() || len(found.Received) > 0
	if v.lister == nil || !v.known || isThere {
		return nil
	}
	dated := slices.DeleteFunc(slices.Clone(found.Taken), func(name string) bool { return !v.Naming.Ours(name) })
	if found.Identity == "" && len(dated) > 0 {
		return hint.New(fmt.Errorf("destination %s: there is no record of %s: its .btrfs-backup is gone", v.to, Few(dated)),
			"bring that directory back, or begin anew beside them with --new-destination: they are never deleted")
	}
	return hint.New(fmt.Errorf("destination %s: the backups that were made there are gone", v.to), mountIt)
}

// formerNames gives the names by which the destination was known when its disk was mounted elsewhere.
func (v *visit) formerNames(id string) []string {
	return slices.DeleteFunc(v.used.NamesOf(id), func(name string) bool {
		return slices.ContainsFunc(v.Destinations, func(d Destination) bool { return d.String() == name })
	})
}

// mark gives the destination its identity, if it can have one, and remembers that.
func (v *visit) mark(ctx context.Context) error {
	m, ok := v.to.(Marker)
	if !ok {
		return nil
	}
	id, err := m.Mark(ctx)
	if err != nil {
		return err
	}
	if err := v.State.AddUsed(ctx, v.to.String(), id); err != nil {
		v.Log.Warn(fmt.Sprintf("%s: cannot be remembered, so the next run cannot check whether its disk is mounted: %v", v.to, err))
	}
	return nil
}

// readUsed reads which destinations were used before.
func (r *run) readUsed() {
	var err error
	if r.used, err = r.State.Used(); err != nil {
		r.Log.Warn(fmt.Sprintf("not checked whether disks are mounted: the record of destinations cannot be read: %v", err))
	}
}

// forget drops what the ledger says of the destinations, if that is asked for.
func (r *run) forget(ctx context.Context) {
	if !r.Forget && !r.NewDestination {
		return
	}
	r.updateLedger(ctx, func(l *lock.Ledger) {
		for _, d := range r.Destinations {
			l.Forget(d.String())
		}
	})
}
