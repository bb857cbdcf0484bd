package inventory

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/plan"
	"github.com/btrfs-backup/btrfs-backup/lock"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// Streams are the backups of one source in a place that keeps each as the stream which made it: to restore one takes all that it
// builds on.
type Streams struct {
	Shelf
	Source  string                // as people know it; "": that is hidden
	Of      map[string]btrfs.UUID // the subvolume that each backup is of, by name
	Content []Entry               // with their notes
	Chains  *plan.Chains
	// Unknown tells that this machine knows no key that signs backups, so that nobody can say whose they are.
	Unknown bool
	others  []*Streams // of the other members of its set; see JoinMembers
}

// A Shelf is where such backups are kept.
type Shelf interface {
	// Look lists all anew.
	Look(ctx context.Context) (Place, error)
	// Lock keeps other runs of this machine out until release.
	Lock(ctx context.Context, waiting func(*lock.HeldError)) (release func() error, err error)
	// Locked tells until when the server keeps what has one of the names, whoever deletes it.
	Locked(ctx context.Context, names []string) (until map[string]time.Time, err error)
	// Delete deletes what was listed, what builds on others first, and tells what is gone.
	Delete(ctx context.Context, names []string) (deleted []string, err error)
}

func (s *Streams) entries(prefix string) []Entry {
	all := slices.DeleteFunc(slices.Clone(s.Content), func(e Entry) bool { return !strings.HasPrefix(e.Name, prefix) })
	slices.SortStableFunc(all, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// freed sums up what the objects take: no backup shares any with another.
func (s *Streams) freed(groups [][]string) []int64 {
	stored := make(map[string]int64)
	for _, e := range s.Content {
		if e.Freed != nil {
			stored[e.Name] += int64(*e.Freed)
		}
	}
	freed := make([]int64, len(groups))
	for i, group := range groups {
		for _, name := range group {
			freed[i] += stored[name]
		}
	}
	return freed
}

// StoredBytes sums up what the objects of some take in a store.
func (p Place) StoredBytes(names []string) int64 { return p.Streams.freed([][]string{names})[0] }

// Whole gives the place with all that decisions need. Of a store, an index does not tell of what is broken or unfinished.
func (p Place) Whole(ctx context.Context) (Place, error) {
	if p.Streams == nil {
		return p, nil
	}
	return p.Streams.Look(ctx)
}

// ByTime gives the entries, oldest first.
func (p Place) ByTime() []Entry {
	all := p.Entries("")
	slices.SortStableFunc(all, func(a, b Entry) int { return a.Time.Compare(b.Time) })
	return all
}

// IsOf tells that a backup is certainly one of a source.
func (s *Streams) IsOf(e Entry, o Owner) bool {
	return e.Kind != Backup || s.Source != "" && s.Source == o.Origin.Source || slices.Contains(o.UUIDs, s.Of[e.Name])
}

// remark tells what is to be known of all.
func (s *Streams) remark() string {
	if s == nil {
		return ""
	}
	foreign, lacking := 0, 0
	for _, e := range s.Content {
		if e.Kind == Foreign {
			foreign++
		}
		if len(e.Lacks) > 0 {
			lacking++
		}
	}
	switch {
	case foreign > 0:
		return fmt.Sprintf("%d foreign", foreign)
	case s.Unknown:
		return "unknown signers"
	case lacking > 0:
		return fmt.Sprintf("%d in INCOMPLETE sets", lacking)
	}
	return ""
}

// Newest gives the name of the newest backup that can be restored; "" if there is none.
func (s *Streams) Newest() string {
	newest := Entry{}
	for _, e := range s.Content {
		if e.Kind == Backup && e.Complete && !e.Time.Before(newest.Time) {
			newest = e
		}
	}
	return newest.Name
}

// decideStreams applies a policy to backups that are kept as streams.
func (p Place) decideStreams(o Policy, now time.Time) (all []Decided) {
	candidates := make(map[scope][]retention.Snapshot)
	described := make(map[string]Decided)
	newest := p.Streams.Newest()
	for _, e := range p.Entries(o.Prefix) {
		if e.Kind != Backup {
			continue
		}
		d := Decided{Place: p.Folder, Time: e.Time, Kind: e.Kind, Verdict: retention.Verdict{Name: e.Name, Keep: true}}
		naming, dated := engine.NamingOf(e.Name)
		_, twice := described[e.Name]
		switch {
		case !dated:
			d.Reasons = []string{"its name has no date"}
			all = append(all, d)
			continue
		case twice:
			d.Reasons = []string{"another one has its name"}
			all = append(all, d)
			continue
		}
		candidate, _ := naming.Snapshot(e.Name)
		of := scope{naming, e.Kind, p.Streams.Of[e.Name].String()}
		candidates[of] = append(candidates[of], candidate)
		described[e.Name] = d
	}
	for of, candidates := range candidates {
		whole, broken := p.Streams.Chains.Apart(candidates)
		for _, v := range broken {
			d := described[v.Name]
			d.Verdict = v
			all = append(all, d)
		}
		verdicts, goes := p.Streams.decideAmong(o, now, of.Naming, whole)
		for i, v := range verdicts {
			if v.Name == newest && !v.Keep {
				verdicts[i] = retention.Verdict{Name: v.Name, Keep: true, Held: true, Reasons: []string{"the newest one"}}
			}
		}
		verdicts = plan.HoldChains(verdicts, p.Streams.Chains)
		p.Streams.passOn(goes, verdicts)
		for _, v := range verdicts {
			d := described[v.Name]
			d.Verdict, d.Goes = v, goes[v.Name]
			all = append(all, d)
		}
	}
	sortNewestFirst(all)
	return all
}

// passOn lets what others build on go no earlier than these.
func (s *Streams) passOn(goes map[string]time.Time, verdicts []retention.Verdict) {
	stays := make(map[string]bool) // as far as is foreseen
	for _, v := range slices.Backward(verdicts) {
		switch on := s.Chains.On[v.Name]; {
		case !v.Keep:
			continue
		case stays[v.Name], goes[v.Name].IsZero():
			stays[v.Name], stays[on] = true, true
		case goes[on].Before(goes[v.Name]) && (!goes[on].IsZero() || s.heldAsParent(on, verdicts)):
			goes[on] = goes[v.Name]
		}
	}
	for name := range stays {
		delete(goes, name)
	}
}

// heldAsParent tells that nothing but what builds on it keeps a backup.
func (s *Streams) heldAsParent(name string, verdicts []retention.Verdict) bool {
	return slices.ContainsFunc(verdicts, func(v retention.Verdict) bool {
		return v.Name == name && v.Held && strings.HasPrefix(v.Reasons[0], plan.ParentOf)
	})
}
