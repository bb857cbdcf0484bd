package plan

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// Chains tells how the backups of a source build on each other at a destination that keeps each as the stream which made it: to
// restore one takes all that it builds on. A nil one is that of a destination whose backups are complete in themselves.
type Chains struct {
	On           map[string]string    // of each backup that is there, the one that its stream builds on; "" of a complete one
	Unfinished   []string             // backups that uploads under way build on, perhaps those of other runs
	Locked       map[string]time.Time // of those that nobody can delete before, which is to come
	Until        map[string]time.Time // the same of all, past times included; nil where nothing is locked
	MaxParentAge time.Duration        // by how much a parent may be older than what builds on it; 0: by any time
}

// Line gives the backup and all that it builds on, the complete one first. If one of these is missing, lost is its name, and there
// is no line.
func (c *Chains) Line(name string) (line []string, lost string) {
	for at := name; at != ""; at = c.On[at] {
		if _, there := c.On[at]; !there || len(line) > len(c.On) { // longer than all there are: a circle
			return nil, at
		}
		line = append(line, at)
	}
	slices.Reverse(line)
	return line, ""
}

// Steps gives for each backup whose line is whole of how many streams that is made.
func (c *Chains) Steps() map[string]int {
	const broken = -1
	steps := make(map[string]int, len(c.On))
	var count func(name string) int
	count = func(name string) int {
		on, there := c.On[name]
		if n := steps[name]; n != 0 || name == "" {
			return n
		}
		steps[name] = broken // as what stands in a circle stays
		if !there {
			return broken
		}
		if n := count(on); n != broken {
			steps[name] = n + 1
		}
		return steps[name]
	}
	for name := range c.On {
		count(name)
	}
	maps.DeleteFunc(steps, func(_ string, n int) bool { return n == broken })
	return steps
}

// Add notes a backup that was made, by the UUID of the one that it builds on, as both are listed.
func (c *Chains) Add(made btrfs.Subvolume, there []btrfs.Subvolume) {
	if c == nil {
		return
	}
	on := ""
	for _, b := range there {
		if !made.ParentUUID.IsZero() && b.UUID == made.ParentUUID {
			on = b.Name
		}
	}
	c.On[made.Name] = on
}

// untilOf gives until when all that a backup builds on is locked, and itself.
func (c *Chains) untilOf(name string) (until time.Time) {
	line, _ := c.Line(name)
	for i, at := range line {
		if u := c.Until[at]; i == 0 || u.Before(until) {
			until = u
		}
	}
	return until
}

// Clone gives a copy to be changed.
func (c *Chains) Clone() *Chains {
	if c == nil {
		return nil
	}
	clone := *c
	if clone.On = maps.Clone(c.On); clone.On == nil {
		clone.On = make(map[string]string)
	}
	return &clone
}

// lost tells why a backup cannot be restored: what of its line is missing. Else it is "".
func (c *Chains) lost(name string) string {
	if c == nil {
		return ""
	}
	if _, there := c.On[name]; !there { // it is none of them
		return ""
	}
	if _, lost := c.Line(name); lost != "" {
		return fmt.Sprintf("cannot be restored: %s is missing, on which it builds", lost)
	}
	return ""
}

// Apart parts from the candidates those that cannot be restored, since something is missing on which they build. They are left alone,
// and no policy counts them: what can be restored must not go on account of what cannot.
func (c *Chains) Apart(candidates []retention.Snapshot) (whole []retention.Snapshot, broken []retention.Verdict) {
	for _, s := range candidates {
		if why := c.lost(s.Name); why != "" {
			broken = append(broken, retention.Verdict{Name: s.Name, Keep: true, Held: true, Reasons: []string{why}})
			continue
		}
		whole = append(whole, s)
	}
	return whole, broken
}

// ParentOf begins the reason to keep what a kept backup builds on.
const ParentOf = "parent of "

// HoldChains keeps what a policy would delete, oldest first, and others need: what is kept builds on it, or an upload under way does; or
// it is one of the two newest complete ones, so that no single loss takes all.
func HoldChains(verdicts []retention.Verdict, c *Chains) []retention.Verdict {
	if c == nil {
		return verdicts
	}
	held := c.held(verdicts)
	at, kept := make(map[string]int, len(verdicts)), make([]string, 0, len(verdicts))
	verdicts = slices.Clone(verdicts)
	keep := func(i int, why string) {
		v := &verdicts[i]
		v.Keep, v.Held, v.Reasons = true, true, []string{why}
		kept = append(kept, v.Name)
	}
	for i, v := range slices.Backward(verdicts) {
		at[v.Name] = i
		if why, ok := held[v.Name]; ok && !v.Keep {
			keep(i, why)
		} else if v.Keep {
			kept = append(kept, v.Name)
		}
	}
	for n := 0; n < len(kept); n++ { // which grows
		on := c.On[kept[n]]
		if i, ok := at[on]; ok && !verdicts[i].Keep {
			keep(i, ParentOf+kept[n])
		}
	}
	return verdicts
}

// held gives the reasons to keep backups that do not depend on what else is kept.
func (c *Chains) held(verdicts []retention.Verdict) map[string]string {
	held := make(map[string]string)
	var complete []string
	for _, v := range slices.Backward(verdicts) {
		if on, there := c.On[v.Name]; there && on == "" {
			complete = append(complete, v.Name)
		}
		if why := c.lost(v.Name); why != "" {
			held[v.Name] = why
		}
	}
	if len(complete) > 1 {
		for _, name := range complete[:2] {
			held[name] = "one of the two newest complete copies"
		}
	}
	for name, until := range c.Locked {
		held[name] = "locked until " + until.Local().Format(time.DateOnly)
	}
	for _, name := range c.Unfinished {
		held[name] = "an upload under way builds on it"
	}
	return held
}

// withPlanned gives the chains as they will be when the transfers are done.
func (p Planner) withPlanned(r relation, transfers []Transfer) *Chains {
	c := p.Chains.Clone()
	if c == nil {
		return nil
	}
	for _, t := range transfers {
		c.On[t.Snapshot.Name] = t.ParentName()
		if t.Parent == nil {
			continue
		}
		for _, name := range r.holds(*t.Parent) {
			if _, there := p.Chains.On[name]; there && p.Chains.lost(name) == "" {
				c.On[t.Snapshot.Name] = name
			}
		}
	}
	return c
}
