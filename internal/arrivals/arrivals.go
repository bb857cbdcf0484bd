// Package arrivals applies the policy of a receiving machine's owner to what clients bring there, after each backup that arrives.
//
// A client is not trusted: it makes up the names and dates of its backups, and what its clock says. So they count in the order in
// which they arrived, by this machine's clock. What this client brought is never deleted, nor what is younger than the least
// age, nor what is not on record as of the same source as the new one.
package arrivals

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/copies"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/kin"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// A Pruner prunes what one client brings.
type Pruner struct {
	Keep   retention.Policy
	MinAge time.Duration // that a backup has before it is deleted
	Now    func() time.Time
	Log    *slog.Logger

	mu      sync.Mutex
	brought map[string]bool // UUIDs of subvolumes, or names of trees
}

// Advertised gives the policy as a client should know it, who need not send what would be deleted at once.
func (p *Pruner) Advertised() retention.Policy { return p.Keep.AtLeast(p.MinAge) }

// An arrival is a backup that could be deleted.
type arrival struct {
	name  string
	began time.Time // no client can change it
	ended time.Time
	holds []string
}

// Received applies the policy after the backup name was received: to the complete backups of the same series and the same
// source, as far as that is on record.
func (p *Pruner) Received(ctx context.Context, f host.Folder, name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	naming, ok := engine.NamingOf(name)
	if !ok {
		return nil
	}
	content, err := f.List(ctx)
	if err != nil {
		return err
	}
	origins, _, err := content.Recorded("")
	if err != nil {
		return nil // the sender tells of it, since it lists the folder, too
	}
	series := slices.DeleteFunc(content.InDirectory, func(b btrfs.Subvolume) bool { return !naming.Ours(b.Name) })
	all := p.ofSource(series, origins, name)
	mayLive := content.MayLive()
	for i, a := range all {
		if why, ok := mayLive[a.name]; ok {
			all[i].holds = append(a.holds, why)
		}
	}
	names := p.outdated(all)
	if len(names) == 0 {
		return nil
	}
	_, err = f.Delete(ctx, names, host.DeleteOptions{})
	return err
}

// ofSource gives those of the series that are of the same source as the named backup, in the order in which they were received.
func (p *Pruner) ofSource(series []btrfs.Subvolume, origins host.Origins, name string) (all []arrival) {
	var origin btrfs.UUID
	for _, b := range series {
		if b.ReadOnly && b.Name == name {
			origin = origins[b.ReceivedUUID]
			p.bring(b.UUID.String())
		}
	}
	slices.SortFunc(series, kin.ByAge)
	for _, b := range series {
		if !copies.IsComplete(b) || origin.IsZero() || origins[b.ReceivedUUID] != origin {
			continue
		}
		a := arrival{name: b.Name, began: b.Created, ended: b.ReceivedAt}
		if p.brought[b.UUID.String()] {
			a.holds = []string{"just received"}
		}
		if why := b.InUse(); why != "" {
			a.holds = append(a.holds, why)
		}
		all = append(all, a)
	}
	return all
}

// Finished applies the policy after a backup of a directory was made: to those of the same series and source.
func (p *Pruner) Finished(ctx context.Context, f host.TreeBackups, made tree.Record) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	naming, ok := engine.NamingOf(made.Name)
	if !ok {
		return nil
	}
	p.bring(made.Name)
	found, err := f.ListTrees(ctx)
	if err != nil {
		return err
	}
	var all []arrival
	complete := -1
	for _, r := range found.Backups {
		if !naming.Ours(r.Name) || !r.Same(made.Origin) {
			continue
		}
		if r.Complete() {
			complete = len(all)
		}
		a := arrival{name: r.Name, began: r.Finished, ended: r.Finished}
		if p.brought[r.Name] {
			a.holds = []string{"just made"}
		}
		all = append(all, a)
	}
	if complete >= 0 {
		all[complete].holds = append(all[complete].holds, "the newest complete one")
	}
	names := p.outdated(all)
	if len(names) == 0 {
		return nil
	}
	_, err = f.DeleteTrees(ctx, names)
	return err
}

func (p *Pruner) bring(id string) {
	if p.brought == nil {
		p.brought = make(map[string]bool)
	}
	p.brought[id] = true
}

// outdated gives the names of what the policy gives up, of arrivals in their order. A clock that was set back makes none older
// than those before it; what arrived in the future of today's clock stays, and is not counted.
func (p *Pruner) outdated(all []arrival) (names []string) {
	now := p.Now()
	var latest time.Time
	var candidates []retention.Snapshot
	for i, a := range all {
		if !a.began.After(now) {
			latest = later(latest, a.began)
			a.began = latest
		}
		if now.Sub(later(a.began, a.ended)) < p.MinAge {
			a.holds = append(a.holds, fmt.Sprintf("younger than %s", p.MinAge))
		}
		candidates = append(candidates, retention.Snapshot{Name: a.name, Time: a.began, Number: i, Holds: a.holds})
	}
	for _, v := range retention.Decide(p.Keep, now, candidates) {
		if !v.Keep {
			names = append(names, v.Name)
		}
	}
	if len(names) > 0 {
		p.Log.Info(fmt.Sprintf("deleting %d: %s", len(names), strings.Join(names, " ")))
	}
	return names
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
