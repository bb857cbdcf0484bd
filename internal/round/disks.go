package round

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/internal/disk"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
)

// openedDisk is a disk of this round, or why there is none.
type openedDisk struct {
	disk.Disk
	*disk.Opened
	err error
}

// openDisks opens the disks that the entries need. What is on one that is absent is left out.
func (r *Round) openDisks(ctx context.Context, due []*Entry) {
	for _, e := range due {
		if on := r.Config.Disks.Of(e.Spec.Source); on != nil {
			if o := r.openDisk(ctx, *on); o.err != nil {
				e.Skipped = o.err.Error()
				if !o.mayBeAbsent() {
					e.fail(o.err)
				}
				continue
			}
		}
		served := len(e.Spec.Destinations)
		for _, p := range e.Spec.Destinations {
			if e.Spec.Absent(p) != "" {
				served--
			} else if on := r.Config.Disks.Of(p); on != nil && !r.openFor(ctx, e, p, *on) {
				served--
			}
		}
		if len(e.Spec.Destinations) > 0 && served == 0 && (e.Spec.Subvolume.NoSnapshot || e.Standing != nil && !e.Standing.History) {
			e.Skipped = e.whyLeftOut()
		}
	}
}

// openFor opens the disk of a destination, or leaves that out.
func (r *Round) openFor(ctx context.Context, e *Entry, p job.Place, on disk.Disk) bool {
	o := r.openDisk(ctx, on)
	if o.err == nil {
		return true
	}
	e.Spec.LeaveOut(p, o.err.Error())
	if !o.mayBeAbsent() {
		e.fail(fmt.Errorf("%s: %w", p, o.err))
	}
	return false
}

// openDisk opens a disk, once in a round.
func (r *Round) openDisk(ctx context.Context, d disk.Disk) *openedDisk {
	if i := slices.IndexFunc(r.opened, func(o *openedDisk) bool { return o.Name == d.Name }); i >= 0 {
		return r.opened[i]
	}
	o := &openedDisk{Disk: d}
	switch {
	case !r.DryRun:
		o.Opened, o.err = d.Open(ctx, r.Disks)
	case !d.IsMounted():
		o.err = fmt.Errorf("disk %s %w", d.Name, errClosed)
	}
	r.opened = append(r.opened, o)
	return o
}

// errClosed tells that a dry run opens nothing.
var errClosed = errors.New("is closed: what is on it was not looked at")

// mayBeAbsent tells that the disk is not there, which is no failure.
func (o *openedDisk) mayBeAbsent() bool {
	return errors.Is(o.err, errClosed) || o.WhenAbsent == disk.Skip && errors.As(o.err, new(*disk.AbsentError))
}

// closeDisks closes the disks that were opened, the last one first.
func (r *Round) closeDisks(ctx context.Context) error {
	var errs []error
	for _, o := range slices.Backward(r.opened) {
		if o.err == nil {
			errs = append(errs, o.Opened.Close(ctx))
		}
	}
	return errors.Join(errs...)
}
