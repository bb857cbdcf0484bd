package plan

import (
	"slices"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/copies"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/kin"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// Kept sums up snapshots or backups of one series.
type Kept struct {
	Number         int
	Oldest, Newest time.Time // zero: there is none
	// Ahead are more, dated after now. While the clock is wrong they tell nothing of the present.
	Ahead int
}

// SumUp counts the named, which are all of the series.
func (n Naming) SumUp(now time.Time, names []string) (k Kept) {
	for _, name := range names {
		t := n.timeBefore(now, name)
		if t.After(now) {
			k.Ahead++
			continue
		}
		if k.Number++; k.Oldest.IsZero() || t.Before(k.Oldest) {
			k.Oldest = t
		}
		if t.After(k.Newest) {
			k.Newest = t
		}
	}
	return k
}

// timeBefore gives the time in a name. Of an hour that the clock shows twice, it is the last one that is not after now.
func (n Naming) timeBefore(now time.Time, name string) time.Time {
	t, _ := n.Time(name)
	for _, pass := range []time.Duration{time.Hour, 0, -time.Hour} {
		if at := t.Add(pass); at.Format(time.DateTime) == t.Format(time.DateTime) && !at.After(now) {
			return at
		}
	}
	return t
}

// mayLive gives what must stay since its source may live: what is on record as that, and the newest backups of sources that this one
// continues only as far as is known of a restored copy.
func (p Planner) mayLive() map[string]string {
	names := make(map[string]string)
	if !p.History {
		return names
	}
	origins := p.Snapshots.Record.Origins
	restored := p.Snapshots.Line(p.Source).Restored
	newest := make(map[btrfs.UUID]btrfs.Subvolume)
	for _, b := range p.Backups.InDirectory {
		origin := origins[b.ReceivedUUID]
		if why, ok := p.MayLive[b.Name]; ok && origin != p.Source.UUID {
			names[b.Name] = why
		}
		if restored[origin] && copies.IsComplete(b) && b.CreatedIn > newest[origin].CreatedIn {
			newest[origin] = b
		}
	}
	for _, b := range newest {
		if names[b.Name] == "" {
			names[b.Name] = "the newest of what was restored, which may live"
		}
	}
	return names
}

// lastWhole names the newest complete backup of a history whose records tell of that, if incomplete ones came after it; "" if none
// did, or a newer version is to be saved, which is taken to become complete.
func (p Planner) lastWhole(r relation, own []string, newest *btrfs.Subvolume) string {
	if !p.History || newest != nil && len(r.holds(*newest)) == 0 {
		return ""
	}
	behind := false
	for _, c := range slices.Backward(p.Recorded) {
		switch {
		case !slices.Contains(own, c.Name):
		case !c.Complete:
			behind = true
		case behind:
			return c.Name
		default:
			return ""
		}
	}
	return ""
}

// Complete gives the names of the complete backups that are certainly the source's, oldest first.
func (p Planner) Complete() []string {
	incomplete := make(map[string]bool)
	for _, c := range p.Recorded {
		incomplete[c.Name] = !c.Complete
	}
	return slices.DeleteFunc(p.relation().own(), func(name string) bool { return incomplete[name] })
}

// CompleteOf gives the names of the complete backups that are on record as those of the subvolumes: the source itself is not seen.
func (p Planner) CompleteOf(sources []btrfs.UUID) []string {
	r := &byUUID{Planner: p, line: kin.Line{UUIDs: make(map[btrfs.UUID]bool), Clone: true}}
	for _, uuid := range sources {
		r.line.UUIDs[uuid] = true
	}
	return NamesOf(r.ownBackups())
}

// Settle gives what the ledger is to say when the plan was carried out as far as what was sent: the snapshots that the destination
// holds, too, and needs here for what comes; and the newest that it lacks, or "".
func (p Planner) Settle(made Plan, sent map[string]bool) (common []string, lacking string) {
	if !p.History {
		return nil, ""
	}
	pairs := copies.New(p.Snapshots.All, p.Backups.Listing)
	planned := make(map[string]bool)
	var done []Transfer // of a rehearsal
	for _, t := range made.Transfers {
		if planned[t.Snapshot.Name] = true; sent[t.Snapshot.Name] && len(pairs.Of(t.Snapshot)) == 0 {
			done = append(done, t)
		}
	}
	for _, s := range p.Snapshots.SeriesOf(p.Source) {
		if len(pairs.Of(s)) > 0 || sent[s.Name] {
			common, lacking = []string{s.Name}, "" // no increment needs an older one
		} else if planned[s.Name] {
			lacking = s.Name
		}
	}
	if made.Blocked {
		lacking = made.InTheWay[len(made.InTheWay)-1]
	}
	if p.Chains != nil {
		common = p.Parents(done)
	}
	return common, lacking
}

// Deletions gives the names of what is not kept.
func Deletions(verdicts []retention.Verdict) (names []string) {
	for _, v := range verdicts {
		if !v.Keep {
			names = append(names, v.Name)
		}
	}
	return names
}

// WhyKept gives the reasons of verdicts, each once; of many, the first.
func WhyKept(verdicts []retention.Verdict) string {
	const most = 3
	var reasons []string
	for _, v := range verdicts {
		reasons = append(reasons, v.Reasons...)
	}
	slices.Sort(reasons)
	if reasons = slices.Compact(reasons); len(reasons) > most {
		reasons = append(reasons[:most], "...")
	}
	return strings.Join(reasons, "; ")
}
