package removal

import (
	"fmt"
	"slices"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/internal/when"
)

// chosen is one name that a Choice gives.
type chosen struct {
	name    string
	set     bool
	reasons []string
}

// Named are the names of what is to go.
type Named []string

func (Named) named() bool { return true }

func (Named) spares(judge, inventory.Entry) string { return "" }

func (n Named) of(p inventory.Place) (all []chosen, err error) {
	var errs []error
	entries := p.Entries("")
	for _, name := range n {
		i := slices.IndexFunc(entries, func(e inventory.Entry) bool { return e.Name == name })
		_, isLatest := host.LatestOf(name)
		switch {
		case slices.ContainsFunc(all, func(c chosen) bool { return c.name == name }):
		case isLatest:
			errs = append(errs, hint.New(fmt.Errorf("%s/%s: it means another one after each run", p.Folder, name), "what is to be deleted must be named"+newestOf(p, name)))
		case i >= 0:
			all = append(all, chosen{name: name, set: entries[i].Kind == inventory.Set})
		case slices.Contains(p.Others, name) || slices.Contains(p.Trees.Others, name):
			errs = append(errs, hint.Newf(fmt.Errorf("%s/%s: is no snapshot or backup that this program made", p.Folder, name),
				"`btrfs-backup list %s` shows what there is; delete other things by other means", p.Folder))
		default:
			errs = append(errs, hint.Newf(fmt.Errorf("%s/%s: there is no such snapshot or backup", p.Folder, name),
				"`btrfs-backup list %s` shows what there is", p.Folder))
		}
	}
	if len(errs) > 0 {
		return nil, &refusedError{errs}
	}
	return all, nil
}

// newestOf tells what a link to the newest means, if anything.
func newestOf(p inventory.Place, link string) string {
	prefix, _ := host.LatestOf(link)
	if newest, ok := p.Newest(prefix); ok {
		return "; the newest complete one, " + newest.Name + ", always stays"
	}
	return ""
}

// Older is all that is older than a date.
type Older when.Span

func (Older) named() bool { return false }

func (Older) spares(judge, inventory.Entry) string { return "" }

func (o Older) of(p inventory.Place) (all []chosen, err error) {
	isOld := func(t time.Time) bool { return !t.IsZero() && when.Span(o).Before(t) }
	if len(p.Sets) > 0 {
		for _, below := range p.Below {
			for _, e := range below.Entries("") {
				again := slices.ContainsFunc(all, func(c chosen) bool { return c.name == e.Name })
				if e.Kind == inventory.Backup && isOld(e.Time) && p.IsMember(below) && !again {
					all = append(all, chosen{name: e.Name, set: true})
				}
			}
		}
		return all, nil
	}
	for _, e := range p.Entries("") {
		if (e.Kind == inventory.Snapshot || e.Kind == inventory.Backup) && isOld(e.Time) {
			all = append(all, chosen{name: e.Name})
		}
	}
	return all, nil
}

// ByPolicy is what a policy gives up.
type ByPolicy struct {
	inventory.Policy
	Now          time.Time
	Naming       *engine.Naming    // nil: names of any series
	Of           []inventory.Owner // the policy is for backups of these; none: of any
	Destinations []string          // that snapshots are sent to: what the next increment to each needs must be known
}

func (ByPolicy) named() bool { return false }

func (b ByPolicy) spares(j judge, e inventory.Entry) string {
	isOf := func(o inventory.Owner) bool { return j.IsOf(e, o) }
	if e.Kind == inventory.Backup && b.Of != nil && !slices.ContainsFunc(b.Of, isOf) {
		return "not known to be a backup of the source of the job that has the policy"
	}
	return ""
}

func (b ByPolicy) of(p inventory.Place) (all []chosen, err error) {
	decided, err := p.Decide(b.Policy, b.Now)
	if err != nil {
		return nil, err
	}
	snapshots := false
	for _, d := range decided {
		if !d.Keep && (b.Naming == nil || b.Naming.Ours(d.Name)) {
			all = append(all, chosen{name: d.Name, set: d.Kind == inventory.Set, reasons: d.Reasons})
			snapshots = snapshots || d.Kind == inventory.Snapshot
		}
	}
	for _, e := range p.Entries("") {
		if p.Stored && e.Kind == inventory.Deleting {
			all = append(all, chosen{name: e.Name, reasons: e.Notes})
		}
	}
	for _, s := range p.Sets {
		again := slices.ContainsFunc(all, func(c chosen) bool { return c.name == s.Name })
		if len(s.Missing) == len(s.Members) && !again {
			all = append(all, chosen{name: s.Name, set: true, reasons: []string{"its backups are gone"}})
		}
	}
	if snapshots {
		err = b.checkKnown(p)
	}
	return all, err
}

// checkKnown fails where a destination may still need any snapshot, as a run does that cannot look at it.
func (b ByPolicy) checkKnown(p inventory.Place) error {
	ledger, err := host.ParseLedger(p.Folder, p.Ledger, nil)
	if err != nil {
		return err
	}
	for _, d := range b.Destinations {
		if !slices.ContainsFunc(p.InDirectory, func(s btrfs.Subvolume) bool { return ledger.IsCommon(d, s.Name) }) {
			return hint.Newf(fmt.Errorf("%s: no snapshots are deleted, since %s may still need them: no backup there is on record", p.Folder, d),
				"a run that reaches it tells what it needs; if it is gone for good: btrfs-backup forget SOURCE %s", d)
		}
	}
	return nil
}
