package picture

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/removal"
	"github.com/btrfs-backup/btrfs-backup/internal/standing"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

func timeIn(name string) time.Time { return inventory.TimeIn(name) }

// quickly is how long it may take to find out what deleting backups would free, as of list.
const quickly = time.Second

// errNothing tells that a place can be written to, but not be looked at: the standing says so.
var errNothing = errors.New("not looked at")

// looking is a look at one place.
type looking struct {
	removal.ByPolicy // what the job keeps there, and whose backups are meant
	now, until       time.Time
	standing         standing.Place
	sent             map[string]int64 // by runs, by name

	folder   string
	versions map[string]Version
	outlook  []time.Time
}

// at lists a place, and decides as explain does.
func (l *looking) at(ctx context.Context, m *job.Machines, at job.Place, snapshotFolder string) error {
	switch at.(type) {
	case job.Local, job.Machine, job.Store:
	default:
		return errNothing
	}
	place, err := m.Look(ctx, at, snapshotFolder)
	if err != nil {
		return err
	}
	l.versions, l.folder = make(map[string]Version), place.Folder
	folders, certain := place.Folders(), false
	for i := range folders {
		if folders[i], err = folders[i].Whole(ctx); err != nil {
			return err
		}
		certain = certain || l.isOurs(folders[i])
	}
	var errs []error
	for _, folder := range folders {
		if folder.Streams == nil || l.isOurs(folder) || !certain {
			errs = append(errs, l.in(ctx, folder))
		}
	}
	l.foresee()
	return errors.Join(errs...)
}

// isOurs tells that a source in a store is certainly that of the job.
func (l *looking) isOurs(p inventory.Place) bool {
	return p.Streams != nil && slices.ContainsFunc(p.ByTime(), func(e inventory.Entry) bool {
		return e.Kind == inventory.Backup && slices.ContainsFunc(l.Of, func(o inventory.Owner) bool { return p.Streams.IsOf(e, o) })
	})
}

// in adds what a folder holds of the job.
func (l *looking) in(ctx context.Context, folder inventory.Place) error {
	decided, err := folder.Decide(l.Policy, l.now)
	if err != nil {
		return err
	}
	listed, err := folder.Survey(ctx, l.Prefix, quickly) // what cannot be read is missing
	isOf := func(inventory.Entry) bool { return false }
	if judge, judgeErr := folder.Judge(); judgeErr == nil && folder.Streams == nil {
		isOf = func(e inventory.Entry) bool {
			return slices.ContainsFunc(l.Of, func(o inventory.Owner) bool { return judge.IsOf(e, o) })
		}
	}
	entries := make(map[string][]inventory.Entry)
	for _, e := range slices.Concat(listed.Entries, listed.Below) {
		entries[e.Name] = append(entries[e.Name], e)
	}
	for _, d := range decided {
		of := entries[d.Name]
		isKnown := slices.Contains(l.standing.Names, d.Name) || d.Kind == inventory.Set || d.Kind == inventory.Snapshot && l.standing.Destination == ""
		if l.Naming.Ours(d.Name) && (isKnown || slices.ContainsFunc(of, isOf)) {
			l.add(d, of)
		}
	}
	return err
}

// add adds a version. Those of several folders under one name, as members of a set have them, are one.
func (l *looking) add(d inventory.Decided, entries []inventory.Entry) {
	v, again := l.versions[d.Name]
	if !again {
		v = Version{Name: d.Name, Time: d.Time, Keep: d.Keep, Why: d.Reasons, Goes: d.Goes, Complete: true}
	}
	for _, e := range entries {
		if e.Kind != inventory.Set && e.Kind != d.Kind && d.Kind != inventory.Set {
			continue
		}
		v.Complete = v.Complete && e.Complete
		v.Sent, v.Freed, v.Size = sum(v.Sent, e.Sent), sum(v.Freed, e.Freed), sum(v.Size, e.Size)
		v.Files += e.Files
		if v.Damaged = v.Damaged || e.Damaged; e.Verified.After(v.Verified) {
			v.Verified = e.Verified
		}
		v.Notes = append(v.Notes, e.Notes...)
		if e.Source != "" && e.Size != nil {
			l.weighCopy(&v, e)
		}
	}
	l.versions[d.Name] = v
}

// weighCopy tells what of a copied directory was new, and what was linked to what was there.
func (l *looking) weighCopy(v *Version, e inventory.Entry) {
	copied, ok := l.sent[e.Name]
	if size := int64(*e.Size); ok && e.Shared <= copied && copied <= size {
		fresh, linked := copied-e.Shared, size-copied+e.Shared
		v.Sent, v.New, v.Linked = &copied, &fresh, &linked
	}
}

func sum[T int64 | uint64](a, b *T) *T {
	if a == nil || b == nil {
		return cmp.Or(a, b)
	}
	n := *a + *b
	return &n
}

// foresee tells what the policy will have left.
func (l *looking) foresee() {
	policy := l.policy()
	if policy == (retention.Policy{}) {
		return
	}
	var kept []retention.Snapshot
	for _, v := range l.versions {
		if s, ok := l.Naming.Snapshot(v.Name); ok && v.Keep {
			kept = append(kept, s)
		}
	}
	for _, s := range retention.Outlook(policy, l.now, kept, retention.Interval(l.now, kept), l.until) {
		l.outlook = append(l.outlook, s.Time)
	}
}

// policy gives the one that counts at the place.
func (l *looking) policy() retention.Policy {
	policy := l.Backups
	if l.standing.Destination == "" {
		policy = l.Snapshots
	}
	policy, _ = policy.As(l.Rule) // which was checked
	return policy
}

// tell adds to a place what was found.
func (l *looking) tell(p *Place) {
	p.Folder, p.Outlook = engine.PlaceName(l.folder), l.outlook
	p.Versions = slices.SortedFunc(maps.Values(l.versions), func(a, b Version) int { return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(b.Name, a.Name)) })
	if p.Versions == nil {
		p.Versions = []Version{}
	}
}
