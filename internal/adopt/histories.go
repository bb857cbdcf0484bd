package adopt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/copies"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/kin"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

// histories gives what a place holds that a source of its kind can go on with, the newest first.
func (s Source) histories(ctx context.Context, place inventory.Place) (all []History, err error) {
	if !s.Subvolume.IsZero() {
		if all, err = s.ofSubvolumes(place); err != nil {
			return nil, err
		}
	}
	trees, err := s.ofTrees(ctx, place.Trees.Backups)
	all = append(all, trees...)
	slices.SortFunc(all, func(a, b History) int { return cmp.Or(b.Newest.Compare(a.Newest), cmp.Compare(a.Of, b.Of)) })
	return all, err
}

// add counts a backup.
func (h *History) add(name string, at, arrived time.Time) {
	h.Backups++
	h.names = append(h.names, name)
	if h.Oldest.IsZero() || at.Before(h.Oldest) {
		h.Oldest = at
	}
	if h.Newest.IsZero() || !at.Before(h.Newest) {
		h.Newest, h.Name = at, name
	}
	if arrived.After(h.arrived) {
		h.arrived = arrived
	}
}

// ofSubvolumes sorts backups by their sources; those of which none is on record, by the series of their names. A relative of one that
// is on record is of the same source.
func (s Source) ofSubvolumes(place inventory.Place) ([]History, error) {
	origins, about, err := place.Recorded(place.Folder)
	if err != nil {
		return nil, err
	}
	lineage := kin.NewLineage(place.All)
	ofFamily := make(map[btrfs.UUID]btrfs.UUID)
	for _, b := range place.InDirectory {
		if origin := origins[b.ReceivedUUID]; copies.IsComplete(b) && !origin.IsZero() {
			ofFamily[lineage.Family(b)] = origin
		}
	}
	recorded, unrecorded := make(map[btrfs.UUID]*History), make(map[engine.Naming]*History)
	for _, b := range place.InDirectory {
		if !copies.IsComplete(b) || btrfs.IsIncoming(b.Name) {
			continue
		}
		var h *History
		if of := cmp.Or(origins[b.ReceivedUUID], ofFamily[lineage.Family(b)]); !of.IsZero() {
			h = in(recorded, of)
		} else {
			naming, _ := engine.NamingOf(b.Name)
			h = in(unrecorded, naming)
		}
		h.add(b.Name, inventory.TimeOf(b), b.ReceivedAt)
		h.backups = append(h.backups, b.ReceivedUUID)
	}
	var all []History
	for uuid, h := range recorded {
		h.UUID, h.Of, h.Own = uuid, about.Name(uuid), uuid == s.Subvolume
		machine := about.Sources[uuid].Machine
		h.Unnamed = machine != "" && s.Machine != "" && machine != s.Machine
		h.Doubt = s.doubt(*h)
		all = append(all, *h)
	}
	for _, h := range unrecorded {
		h.Unnamed = true
		all = append(all, *h)
	}
	return all, nil
}

func in[K comparable](histories map[K]*History, of K) *History {
	if histories[of] == nil {
		histories[of] = new(History)
	}
	return histories[of]
}

// doubt tells why the source of a history seems to live, as another one; "" if it does not.
func (s Source) doubt(h History) string {
	if h.Own {
		return ""
	}
	for _, sub := range s.there.All {
		if sub.UUID == h.UUID && !sub.ReadOnly {
			return fmt.Sprintf("it is on the filesystem of %s still, as %s", s, sub.Name)
		}
	}
	if s.there.Top.IsZero() {
		return fmt.Sprintf("only root can see whether it is on the filesystem of %s still", s)
	}
	if s.there.Top == h.UUID {
		return fmt.Sprintf("it is the top level of the filesystem of %s", s)
	}
	if h.arrived.After(s.created) {
		return fmt.Sprintf("a backup of it arrived on %s, after %s was made", h.arrived.Local().Format(time.DateOnly), s)
	}
	return ""
}

// ofTrees sorts backups of directories, the oldest first, by their sources.
func (s Source) ofTrees(ctx context.Context, backups []tree.Record) (all []History, err error) {
	begun := false // there is a backup of the source itself
	for _, r := range backups {
		i := slices.IndexFunc(all, func(h History) bool { return h.origin.Same(r.Origin) })
		if i < 0 {
			i = len(all)
			all = append(all, History{origin: r.Origin, Own: r.Same(s.Origin.Origin)})
		}
		h := &all[i]
		h.Of = r.Source // the name that it had last
		h.add(r.Name, inventory.TimeIn(r.Name), r.Finished)
		if begun = begun || h.Own; begun && !h.Own {
			h.Doubt = fmt.Sprintf("a backup of it was made there after the first one of %s", s)
		}
	}
	for i := range all {
		h := &all[i]
		h.Unnamed = h.origin.Machine == "" || h.origin.Machine != s.Machine
		if h.Own || h.Doubt != "" || h.Unnamed || s.host.String() != "" {
			continue
		}
		_, directory, _ := strings.Cut(h.Of, ":")
		lives, err := isThere(ctx, s.host, directory)
		if err != nil {
			return all, err
		}
		if lives {
			h.Doubt = "that directory is there still"
		}
	}
	return all, nil
}

// isThere tells that a directory is there and not empty, as the place is where a disk was mounted.
func isThere(ctx context.Context, h host.Host, directory string) (bool, error) {
	if !path.IsAbs(directory) {
		return false, nil
	}
	dir, err := h.Open(ctx, directory)
	if err != nil { // whatever keeps it from being opened keeps it from being backed up
		return false, ctx.Err()
	}
	return !dir.Status().Empty, errors.Join(dir.Close())
}
