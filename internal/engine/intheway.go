package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/internal/engine/plan"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

// tellInTheWay tells of versions whose names are taken. It is a failure only if the newest one cannot be saved.
func (v *visit) tellInTheWay() {
	older := v.plan.InTheWay
	if v.plan.Blocked {
		last := len(older) - 1
		v.saved.fail(hint.New(fmt.Errorf("sending %s to %s: %w: its name is taken there, but not by an exact copy of it",
			older[last], v.to, fs.ErrExist), v.planner.PastName(older[last])))
		older = older[:last]
	}
	if len(older) > 0 {
		v.Log.Warn(fmt.Sprintf("%s: %s not saved: the name is taken there, but not by an exact copy (one of the two may have been altered); "+
			"move that away or rename it, unless it is a backup of another source", v.to, Few(older)))
	}
}

// tellAltered tells of versions that are not what they were received as, and so are not sent.
func (r *run) tellAltered() {
	if r.history == nil || r.NoTransfer || len(r.Destinations) == 0 {
		return
	}
	all := r.snapshots.TakenOf(r.source)
	altered := plan.NamesOf(slices.DeleteFunc(slices.Clone(all), plan.CanBeSent))
	if len(altered) == 0 {
		return
	}
	what := fmt.Sprintf("%s: %s not sent: altered since it was received, so the received UUID is wrong", r.Source, Few(altered))
	if !plan.CanBeSent(all[len(all)-1]) {
		r.report.fail(hint.New(errors.New(what), "`btrfs subvolume snapshot` makes a writable copy of it, which is a source of its own"))
		return
	}
	r.Log.Warn(what)
}

// tellPartial tells of writable subvolumes that are not in the way of a version, so that nothing else tells of them.
func (v *visit) tellPartial() {
	partial := slices.DeleteFunc(v.planner.Partial(), func(name string) bool { return slices.Contains(v.plan.InTheWay, name) })
	if len(partial) > 0 && !v.planner.Clean {
		v.Log.Warn(fmt.Sprintf("%s: %s: writable, so no backup, and left alone; --clean-partial deletes what an interrupted "+
			"btrfs receive left", v.to, Few(partial)))
	}
}
