package job

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/internal/removal"
	"github.com/btrfs-backup/btrfs-backup/internal/store"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
	"github.com/btrfs-backup/btrfs-backup/lock"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// Named gives the orders to delete what places name.
func (m *Machines) Named(ctx context.Context, places []Place) (orders []removal.Order, err error) {
	var errs []error
	for _, p := range places {
		order, name, err := m.named(ctx, p)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		i := slices.IndexFunc(orders, func(o removal.Order) bool { return o.Host == order.Host && o.Folder == order.Folder })
		if i < 0 {
			i, orders = len(orders), append(orders, order)
		}
		orders[i].Choice = append(orders[i].Choice.(removal.Named), name)
	}
	return orders, errors.Join(errs...)
}

// named gives the order for what a place names, and that name.
func (m *Machines) named(ctx context.Context, p Place) (o removal.Order, name string, err error) {
	o.Choice = removal.Named{}
	s, ok := p.(Store)
	if !ok {
		h, at := m.At(p)
		o.Host, o.Folder = h, path.Dir(at)
		return o, path.Base(at), nil
	}
	r, found, err := m.FindStored(ctx, s)
	if err != nil {
		return o, "", err
	}
	if name = found.Name; name == "" {
		return o, "", hint.Newf(fmt.Errorf("%s is no backup", found), "name one: STORE/SOURCE/BACKUP; `btrfs-backup list %s` shows what there is", found)
	}
	found.Name = ""
	o.Shelf, o.Folder = r.Shelf(found), found.String()
	return o, name, nil
}

// InFolders gives the orders to delete what is chosen in all folders that places stand for. A source stands for its snapshot folder.
// Each place may fail alone.
func (m *Machines) InFolders(ctx context.Context, places []Place, snapshotFolder string, choice func(i int) removal.Choice) (
	orders []removal.Order, err error,
) {
	var errs []error
	for i, p := range places {
		if err := m.checkFolder(ctx, p, snapshotFolder); err != nil {
			errs = append(errs, err)
			continue
		}
		found, err := m.Look(ctx, p, snapshotFolder)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, folder := range found.Folders() {
			o := removal.Order{Host: folder.Host, Folder: folder.Path, Choice: choice(i)}
			if folder.Stored {
				if folder.Streams == nil { // there is no source in the store
					continue
				}
				o.Shelf = folder.Streams.Shelf
			}
			orders = append(orders, o)
		}
	}
	return orders, errors.Join(errs...)
}

// checkFolder fails where a place is a snapshot or backup itself.
func (m *Machines) checkFolder(ctx context.Context, p Place, snapshotFolder string) error {
	if _, ok := p.(Store); ok {
		return nil // whoever lists it finds out
	}
	h, at := m.At(p)
	if v, err := inventory.Find(ctx, h, at, snapshotFolder); err == nil && v.IsVersion() {
		return hint.Newf(fmt.Errorf("%s is no folder of snapshots or backups", p), "name the folder: %s", path.Dir(p.String()))
	}
	return nil
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
	return slices.ContainsFunc(places, func(other Place) bool { return isAt(other, p) })
}

// Names tells that a place is what a store has of a source of the job, as far as its name tells.
func (s *Spec) Names(p Place) bool {
	return slices.ContainsFunc(s.sources(), func(source Place) bool {
		machine, dir, _ := strings.Cut(originOf(source).Source, ":")
		return slices.ContainsFunc(s.Destinations, func(to Place) bool {
			below, ok := strings.CutPrefix(p.String(), to.String()+"/")
			below, _, _ = strings.Cut(below, "/")
			return ok && below == store.SourceName(machine, dir)
		})
	})
}

// isAt tells that one place is another one or, of a store, something in it.
func isAt(one, p Place) bool {
	if _, ok := one.(Store); ok && strings.HasPrefix(p.String(), one.String()+"/") {
		return true
	}
	return one.String() == p.String()
}

// SnapshotFolders gives the folders of this machine in which there are snapshots of the sources, or what is sent on.
func (s *Spec) SnapshotFolders() (all []string) {
	for _, p := range s.sources() {
		local, ok := p.(Local)
		switch {
		case !ok:
		case s.Subvolume.Relay:
			all = append(all, local.Path)
		case path.IsAbs(s.Subvolume.Folder):
			all = append(all, s.Subvolume.Folder)
		default:
			all = append(all, path.Join(local.Path, s.Subvolume.Folder))
		}
	}
	return all
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

// PolicyAt is RetentionAt where the job does not keep all, which is an error.
func (s *Spec) PolicyAt(p Place, known lock.State) (choice removal.ByPolicy, err error) {
	choice, err = s.RetentionAt(p, known)
	if err == nil && choice.Snapshots == (retention.Policy{}) && choice.Backups == (retention.Policy{}) {
		err = hint.New(fmt.Errorf("%s: its job keeps all", p), GivePolicy)
	}
	return choice, err
}

// RetentionAt gives what the retention of the job is at one of its places: for snapshots at a source, else for what is certainly a backup
// of its sources.
func (s *Spec) RetentionAt(p Place, known lock.State) (choice removal.ByPolicy, err error) {
	choice = removal.ByPolicy{Naming: &engine.Naming{Prefix: s.Prefix, Scheme: s.Scheme}, Of: []inventory.Owner{},
		Policy: inventory.Policy{Prefix: s.Prefix, Rule: s.Compat}}
	isSource := func(source Place) bool { return source.String() == p.String() }
	if !s.Subvolume.Relay && slices.ContainsFunc(s.sources(), isSource) {
		choice.Snapshots = s.KeepSnapshots
	} else if choice.Backups = s.KeepBackups; s.at(p).KeepBackups != (retention.Policy{}) {
		choice.Backups = s.at(p).KeepBackups
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

// at gives what differs at a destination, also for what is in it.
func (s *Spec) at(p Place) To {
	for _, d := range s.Destinations {
		if isAt(d, p) {
			return s.To[d.String()]
		}
	}
	return To{}
}

// GivePolicy is the hint where no policy is known.
const GivePolicy = "give one: --keep-backups 14d8w12m, --keep-snapshots 24h7d"

// originOf tells how a source is known where backups of it are.
func originOf(source Place) tree.Origin {
	if local, ok := source.(Local); ok {
		return host.OriginHere(local.Path)
	}
	return tree.Origin{Source: engine.PlaceName(source.String())}
}

// ownerOf tells how backups of a source are known.
func ownerOf(source Place, known lock.State) (owner inventory.Owner, err error) {
	name := engine.PlaceName(source.String())
	owner.Origin = originOf(source)
	texts, err := known.Source(name)
	for _, text := range texts {
		var uuid btrfs.UUID
		if uuid.UnmarshalText([]byte(text)) == nil {
			owner.UUIDs = append(owner.UUIDs, uuid)
		}
	}
	return owner, err
}
