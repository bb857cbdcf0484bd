package inventory

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/plan"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// JoinMembers tells the sources of a store, by their names there, which of them are members of one set: as the newest backup of each
// tells. Of each backup that is one of a set, it finds out which members lack one of its name: nothing else marks a complete set.
func JoinMembers(sources map[string]*Streams) {
	for name, s := range sources {
		var members []string
		for i := range s.Content {
			e := &s.Content[i]
			if e.Kind != Backup || len(e.Members) == 0 {
				continue
			}
			members, e.Lacks = e.Members, nil
			for _, m := range e.Members {
				if of := sources[m]; of == nil || !of.holds(e.Name) {
					e.Lacks = append(e.Lacks, m)
				}
			}
			if len(e.Lacks) > 0 {
				e.note("INCOMPLETE set, without " + strings.Join(e.Lacks, ", "))
			} else {
				e.note(fmt.Sprintf("set of %d", len(e.Members)))
			}
		}
		s.others = nil
		for _, m := range members {
			if of := sources[m]; of != nil && m != name {
				s.others = append(s.others, of)
			}
		}
	}
}

// InSet tells that a backup in a store is one of a complete set.
func (l Entry) InSet() bool {
	return l.Kind == Backup && l.Complete && len(l.Members) > 0 && len(l.Lacks) == 0
}

// holds tells that there is a backup of a name that can be restored.
func (s *Streams) holds(name string) bool {
	return slices.ContainsFunc(s.Content, func(e Entry) bool { return e.Kind == Backup && e.Complete && e.Name == name })
}

// decideAmong applies a policy to candidates of one series as if the backups of the other members of the set were there, too, and
// tells when what it keeps now will go. The newest complete set stays.
func (s *Streams) decideAmong(o Policy, now time.Time, naming engine.Naming, candidates []retention.Snapshot) (
	verdicts []retention.Verdict, goes map[string]time.Time,
) {
	own, goes := make(map[string]bool), make(map[string]time.Time)
	for _, c := range candidates {
		own[c.Name] = true
	}
	all := candidates
	for _, other := range s.others {
		all = append(slices.Clip(all), other.peers(o, now, naming)...)
	}
	newest := Entry{} // complete set
	for _, e := range s.Content {
		if e.InSet() && own[e.Name] && !e.Time.Before(newest.Time) {
			newest = e
		}
	}
	if newest.Name != "" {
		c, _ := naming.Snapshot(newest.Name)
		c.Holds = []string{"the newest complete set"}
		all = append(slices.Clip(all), c)
	}
	o.decide(o.Backups, now, retention.Merge(all), func(v retention.Verdict, at time.Time) {
		if own[v.Name] {
			verdicts, goes[v.Name] = append(verdicts, v), at
		}
	})
	return verdicts, goes
}

// peers gives what counts of a series where a policy is applied to another member of the set: what must stay of it, must stay there.
func (s *Streams) peers(o Policy, now time.Time, naming engine.Naming) (peers []retention.Snapshot) {
	for _, e := range s.Content {
		of, dated := engine.NamingOf(e.Name)
		if e.Kind == Backup && e.Complete && dated && of == naming {
			c, _ := naming.Snapshot(e.Name)
			peers = append(peers, c)
		}
	}
	policy, _ := o.Backups.As(o.Rule) // which was checked
	for _, v := range plan.HoldChains(retention.Decide(policy, now, peers), s.Chains) {
		i := slices.IndexFunc(peers, func(p retention.Snapshot) bool { return p.Name == v.Name })
		if v.Held {
			peers[i].Holds = v.Reasons
		}
	}
	return peers
}
