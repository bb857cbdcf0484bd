package plan

import (
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// A Role is what a version is at a destination that keeps chains.
type Role struct {
	First string // the longest unit of which it is the first to build on, as a letter of a policy; "": one more of the shortest
	// Until is when nobody needs it any more: the policy has given it up, and all that may come to build on it.
	Until time.Time
}

// margin is for how long a version is needed beyond its time: runs may be late.
const margin = 7 * 24 * time.Hour

// roleOf tells what a version is that is about to be sent.
func (t *tree) roleOf(s *btrfs.Subvolume) (role Role) {
	l, ok := t.leafOf(s.Name)
	if l.snapshot = s; !ok {
		return role
	}
	p := t.placeOf(l)
	level := p.level()
	if level < len(t.levels) {
		role.First = t.levels[level].String()[:1]
	}
	role.Until = LockUntil(t.policy, t.levels, level, p.oldestOf(t.levels), l.Time.In(t.zone), t.every)
	if soon := t.now.Add(margin + t.every); role.Until.Before(soon) { // it is sent late
		role.Until = soon
	}
	return role
}

// LockUntil gives the time until which a version of a time must not be deleted, if others are made at each interval: as long as the
// policy wants it, since it is the oldest of its periods of some units, and as long as it may want what may come to build on it. The
// version is the first of its period on a level; as many as there are levels: of none.
func LockUntil(policy retention.Policy, levels []retention.Unit, level int, oldestOf []retention.Unit, at time.Time, every time.Duration) time.Time {
	until := policy.Until(at, oldestOf, every)
	if level < len(levels) {
		of, below := level, levels[level+1:]
		if leaf := len(levels) - 1; level == leaf && level > 0 { // the others of the next longer period build on it
			of, below = level-1, levels[level:]
		}
		end := policy.EndOf(levels[0], at)
		for _, u := range levels[:of+1] {
			if e := policy.EndOf(u, at); e.Before(end) {
				end = e
			}
		}
		if last := policy.Until(end.Add(-time.Second), below, every); last.After(until) {
			until = last
		}
	}
	return until.Add(margin)
}

// times gives those of all versions that are at the source or the destination.
func (p Planner) times() (all []retention.Snapshot) {
	seen := make(map[string]bool)
	for _, side := range []Side{p.Snapshots, p.Backups} {
		for _, s := range side.InDirectory {
			if c, ok := p.Backups.Naming.Snapshot(s.Name); ok && !seen[s.Name] {
				seen[s.Name] = true
				all = append(all, c)
			}
		}
	}
	return all
}
