package job

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/engine"
	"btrfs-backup/internal/hint"
	"btrfs-backup/internal/host"
	"btrfs-backup/internal/inventory"
	"btrfs-backup/internal/removal"
	"btrfs-backup/internal/tree"
	"btrfs-backup/lock"
	"btrfs-backup/retention"
)

// Named gives the orders to delete what places name.
func (m *Machines) Named(places []Place) (orders []removal.Order) {
	for _, p := range places {
		h, at := m.At(p)
		i := slices.IndexFunc(orders, func(o removal.Order) bool { return o.Host == h && o.Folder == path.Dir(at) })
		if i < 0 {
			i, orders = len(orders), append(orders, removal.Order{Host: h, Folder: path.Dir(at), Choice: removal.Named{}})
		}
		orders[i].Choice = append(orders[i].Choice.(removal.Named), path.Base(at))
	}
	return orders
}

// InFolders gives the orders to delete what is chosen in all folders that places stand for. A source stands for its snapshot folder.
// Each place may fail alone.
func (m *Machines) InFolders(ctx context.Context, places []Place, snapshotFolder string, choice func(i int) removal.Choice) (
	orders []removal.Order, err error,
) {
	var errs []error
	for i, p := range places {
		h, at := m.At(p)
		if v, err := inventory.Find(ctx, h, at, snapshotFolder); err == nil && v.IsVersion() {
			errs = append(errs, hint.Newf(fmt.Errorf("%s is no folder of snapshots or backups", p), "name the folder: %s", path.Dir(p.String())))
			continue
		}
		found, err := inventory.Look(ctx, h, at, snapshotFolder)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, folder := range found.Folders() {
			orders = append(orders, removal.Order{Host: h, Folder: folder.Path, Choice: choice(i)})
		}
	}
	return orders, errors.Join(errs...)
}

// ForsakenOf gives the names under which a destination may be on record.
func ForsakenOf(text string) removal.Forsaken {
	f := removal.Forsaken{Text: text, Names: []string{text, engine.PlaceName(text)}}
	if p, err := ParsePlace(text); err == nil {
		f.Names = append([]string{engine.PlaceName(p.String())}, f.Names...)
	}
	return f
}

// Has tells that a place is a source or a destination of the job. A folder from which backups are sent on is that of the job that fills it.
func (s *Spec) Has(p Place) bool {
	places := s.Destinations
	if !s.Subvolume.Relay {
		places = slices.Concat(s.sources(), places)
	}
	return slices.ContainsFunc(places, func(other Place) bool { return other.String() == p.String() })
}

func (s *Spec) sources() (all []Place) {
	if s.Source != nil {
		all = append(all, s.Source)
	}
	for _, m := range s.Members {
		all = append(all, m.Source)
	}
	return all
}

// PolicyAt gives what the retention of the job is at one of its places: for snapshots at a source, else for what is certainly a backup of
// its sources. It is an error if the job keeps all there.
func (s *Spec) PolicyAt(p Place, known lock.State) (choice removal.ByPolicy, err error) {
	choice = removal.ByPolicy{Naming: &engine.Naming{Prefix: s.Prefix, Scheme: s.Scheme}, Of: []inventory.Owner{},
		Policy: inventory.Policy{Prefix: s.Prefix, Rule: s.Compat}}
	isSource := func(source Place) bool { return source.String() == p.String() }
	if !s.Subvolume.Relay && slices.ContainsFunc(s.sources(), isSource) {
		choice.Snapshots = s.KeepSnapshots
	} else if choice.Backups = s.KeepBackups; s.To[p.String()].KeepBackups != (retention.Policy{}) {
		choice.Backups = s.To[p.String()].KeepBackups
	}
	if choice.Snapshots == (retention.Policy{}) && choice.Backups == (retention.Policy{}) {
		return choice, hint.New(fmt.Errorf("%s: its job keeps all", p), GivePolicy)
	}
	for _, d := range s.Destinations {
		choice.Destinations = append(choice.Destinations, engine.PlaceName(d.String()))
	}
	for _, source := range s.sources() {
		owner, err := ownerOf(source, known)
		if err != nil {
			return choice, err
		}
		choice.Of = append(choice.Of, owner)
	}
	return choice, nil
}

// GivePolicy is the hint where no policy is known.
const GivePolicy = "give one: --keep-backups 14d8w12m, --keep-snapshots 24h7d"

// ownerOf tells how backups of a source are known.
func ownerOf(source Place, known lock.State) (owner inventory.Owner, err error) {
	name := engine.PlaceName(source.String())
	owner.Origin = tree.Origin{Source: name}
	if local, ok := source.(Local); ok {
		owner.Origin = host.OriginHere(local.Path)
	}
	texts, err := known.Source(name)
	for _, text := range texts {
		var uuid btrfs.UUID
		if uuid.UnmarshalText([]byte(text)) == nil {
			owner.UUIDs = append(owner.UUIDs, uuid)
		}
	}
	return owner, err
}
