package offsite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/plan"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/seal"
	"github.com/btrfs-backup/btrfs-backup/internal/store"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

// A Reader looks at what stores hold.
type Reader struct {
	store.Options
	Now func() time.Time
	// Identities read the names of sources where these are hidden. None are needed.
	Identities seal.Identities
}

// Look gives the store that a place means, with all sources in it, or the one source. What a backup is named after these is an error.
func (r Reader) Look(ctx context.Context, at Place) (inventory.Place, *Found, error) {
	found, err := Find(ctx, at, r.Options)
	if err != nil {
		return inventory.Place{}, nil, err
	}
	var p inventory.Place
	switch {
	case found.Source == "":
		p, err = r.overview(ctx, found)
	case found.Name != "":
		err = hint.Newf(fmt.Errorf("%s is a backup, or nothing", found), "name its source: %s/%s", found.Place, found.Source)
	default:
		p, err = r.Shelf(found).Look(ctx)
	}
	if err != nil {
		return p, nil, errors.Join(err, found.Close())
	}
	return p, found, nil
}

// overview tells of all sources of a store, as far as their indexes do.
func (r Reader) overview(ctx context.Context, f *Found) (p inventory.Place, err error) {
	p.Folder, p.Stored = f.Place.String(), true
	sources, err := f.Store.Sources(ctx)
	if err != nil {
		return p, err
	}
	if p.Below, err = r.indexed(ctx, f, sources); err == nil {
		joinMembers(sources, p.Below)
	}
	return p, err
}

// indexed tells of some sources of a store, as far as their indexes do.
func (r Reader) indexed(ctx context.Context, f *Found, sources []string) ([]inventory.Place, error) {
	places := make([]inventory.Place, len(sources))
	return places, store.InParallel(len(sources), func(i int) error {
		c, err := f.Store.Indexed(ctx, sources[i])
		if err == nil {
			of := *f
			of.Source = sources[i]
			places[i] = (&shelf{reader: r, found: &of}).place(c)
		}
		return err
	})
}

func joinMembers(sources []string, places []inventory.Place) {
	of := make(map[string]*inventory.Streams)
	for i, p := range places {
		of[sources[i]] = p.Streams
	}
	inventory.JoinMembers(of)
}

// Shelf gives the backups of the source that was found.
func (r Reader) Shelf(f *Found) inventory.Shelf { return &shelf{reader: r, found: f} }

// shelf is an inventory.Shelf.
type shelf struct {
	reader  Reader
	found   *Found
	catalog *store.Catalog
}

func (s *shelf) Look(ctx context.Context) (inventory.Place, error) {
	c, err := s.found.Store.Catalog(ctx, s.found.Source)
	if err == nil && len(c.Backups)+len(c.Rest) == 0 {
		err = hint.Newf(missingError(fmt.Sprintf("there are no backups of %s in %s", s.found.Source, s.found.Place)),
			"`btrfs-backup list %s` shows the sources there", s.found.Place)
	}
	if err != nil {
		return inventory.Place{}, err
	}
	s.catalog = c
	p := s.place(c)
	others := membersIn(c)
	places, err := s.reader.indexed(ctx, s.found, others)
	joinMembers(append(others, s.found.Source), append(places, p))
	return p, err
}

// membersIn gives the other members of the sets of which a catalog tells.
func membersIn(c *store.Catalog) (others []string) {
	for _, b := range c.Backups {
		for _, m := range b.Set {
			if m != c.Source && !slices.Contains(others, m) {
				others = append(others, m)
			}
		}
	}
	return others
}

// place describes what a catalog tells of.
func (s *shelf) place(c *store.Catalog) inventory.Place {
	all, broken := listing(c)
	folder := s.found.At(s.found.Source, "")
	streams := &inventory.Streams{Shelf: s, Source: s.sourceName(c), Of: make(map[string]btrfs.UUID), Chains: chainsOf(all, broken, 0),
		Unknown: s.reader.Trusts == nil}
	names := make(map[btrfs.UUID]string)
	for _, b := range c.Backups {
		names[b.UUID] = b.Name
		streams.Of[b.Name] = b.Source
	}
	for _, b := range c.Backups {
		stored := uint64(b.Stored())
		sent := b.Stored()
		e := inventory.Entry{Place: folder, Name: b.Name, Time: timeOf(b.Manifest), UUID: uuidOf(b.Manifest),
			ReceivedUUID: b.UUID, Parent: names[b.Parent], ReadOnly: true, Kind: inventory.Backup, Sent: &sent, Freed: &stored, Faults: b.Faults,
			Signer: b.Signer, Written: b.Committed, Members: b.Set, Verified: b.Verified}
		_, lost := streams.Chains.Line(b.Name)
		switch {
		case len(b.Faults) > 0:
			e.Kind, e.Notes = inventory.Broken, []string{"BROKEN: " + progress.Few(b.Faults)}
		case lost != "":
			e.Notes = []string{"LOST: " + orUnknown(names[b.Parent], lost) + ", on which it builds"}
		default:
			e.Complete = true
		}
		if b.Full() {
			e.Notes = append(e.Notes, "complete")
		}
		if b.Locked.After(s.reader.Now()) { // as the server was told
			e.Notes = append(e.Notes, "locked until "+b.Locked.Local().Format(time.DateOnly))
		}
		if !b.Verified.IsZero() {
			e.Notes = append(e.Notes, "verified "+b.Verified.Local().Format(time.DateOnly))
		}
		if streams.Unknown {
			e.Notes = append(e.Notes, "unknown signer")
		}
		streams.Content = append(streams.Content, e)
	}
	for _, r := range c.Rest {
		streams.Content = append(streams.Content, s.rest(folder, r))
	}
	streams.Chains.Unfinished, streams.Chains.Locked = s.mayBuildOn(c), lockedIn(c, s.reader.Now())
	newest := streams.Newest()
	for i := range streams.Content {
		if e := &streams.Content[i]; e.Name == newest {
			e.Notes = append([]string{"newest"}, e.Notes...)
		}
	}
	return inventory.Place{Folder: folder, Stored: true, Streams: streams}
}

func orUnknown(name, lost string) string {
	if name != "" {
		return name + " is broken, or lacks one"
	}
	return lost + " is missing"
}

// rest describes what is no backup.
func (s *shelf) rest(folder string, r store.Rest) inventory.Entry {
	size, sent := uint64(r.Bytes), r.Bytes
	e := inventory.Entry{Place: folder, Name: restName(r), Time: cmp.Or(inventory.TimeIn(r.Name), r.Written), Kind: inventory.Unfinished,
		Sent: &sent, Freed: &size, Written: r.Written}
	switch {
	case r.Foreign:
		e.Kind, e.Faults, e.Notes = inventory.Foreign, []string{r.Why}, []string{"FOREIGN: " + r.Why}
	case r.Spare:
		e.Notes = []string{"one more copy, in case the other is damaged"}
	case r.Superseded:
		e.Kind, e.Notes = inventory.Deleting, []string{"stored once more since"}
	case r.IsGarbage(s.reader.Now()):
		e.Kind, e.Notes = inventory.Deleting, []string{"unfinished, and given up"}
	default:
		e.UnderWay, e.Notes = true, []string{"unfinished"}
	}
	return e
}

// mayBuildOn gives what an upload under way may build on: nobody but its machine knows that, so it is all that is older.
func (s *shelf) mayBuildOn(c *store.Catalog) (names []string) {
	for _, r := range c.Rest {
		isDone := slices.ContainsFunc(c.Backups, func(b store.Backup) bool { return b.Name == r.Name && len(b.Faults) == 0 })
		if r.Foreign || r.Spare || isDone || r.IsGarbage(s.reader.Now()) {
			continue
		}
		for _, b := range c.Backups {
			if b.Name < r.Name && !slices.Contains(names, b.Name) {
				names = append(names, b.Name)
			}
		}
	}
	return names
}

// sourceName tells what the backups are of, as people know it; "" if that is hidden.
func (s *shelf) sourceName(c *store.Catalog) string {
	if len(s.reader.Identities) > 0 {
		for _, b := range slices.Backward(c.Backups) {
			if p, err := b.Private(s.reader.Identities); err == nil {
				return p.Host + ":" + p.Path
			}
		}
	}
	return store.PlainName(s.found.Source)
}

// Lock keeps other runs of this machine out, as Destination.Lock does.
func (s *shelf) Lock(ctx context.Context, waiting func(*lock.HeldError)) (func() error, error) {
	return lockSource(ctx, s.found.Store, s.found.Source, s.found.Place.String(), waiting)
}

// Locked asks the server of the manifests: what belongs to them is locked as long.
func (s *shelf) Locked(ctx context.Context, names []string) (map[string]time.Time, error) {
	until := make(map[string]time.Time)
	for _, b := range s.catalog.Backups {
		if !slices.Contains(names, b.Name) {
			continue
		}
		locked, err := s.found.Store.LockedUntil(ctx, &b.Manifest)
		if err != nil {
			return nil, err
		}
		if locked.After(s.reader.Now()) {
			until[b.Name] = locked
		}
	}
	return until, nil
}

// Delete deletes what Look found.
func (s *shelf) Delete(ctx context.Context, names []string) ([]string, error) {
	isWanted := func(r store.Rest) bool { return !r.Foreign && slices.Contains(names, restName(r)) }
	return deleteFrom(ctx, s.found.Store, s.catalog, names, isWanted)
}

// deleteFrom deletes backups, what builds on others before these, and what is no backup and wanted.
func deleteFrom(ctx context.Context, in *store.Store, c *store.Catalog, names []string, isWanted func(store.Rest) bool) (deleted []string, err error) {
	var errs []error
	for _, r := range c.Rest {
		if !isWanted(r) {
			continue
		}
		if err := in.DeleteRest(ctx, r); err != nil {
			errs = append(errs, err)
			continue
		}
		deleted = append(deleted, restName(r))
	}
	var backups []*store.Backup
	for i := range c.Backups {
		if b := &c.Backups[i]; slices.Contains(names, b.Name) {
			backups = append(backups, b)
		}
	}
	if len(backups) > 0 {
		c.SortForDeletion(backups)
		gone, err := in.Delete(ctx, c.Source, backups)
		errs = append(errs, err)
		for _, b := range gone {
			deleted = append(deleted, b.Name)
		}
	}
	return deleted, errors.Join(errs...)
}

// chainsOf tells how backups build on each other. Those that are broken are as if they were missing, but known by name.
func chainsOf(all []btrfs.Subvolume, broken []store.Backup, maxParentAge time.Duration) *plan.Chains {
	c := &plan.Chains{On: make(map[string]string), MaxParentAge: maxParentAge}
	names := make(map[btrfs.UUID]string)
	for _, b := range all {
		names[b.UUID] = b.Name
	}
	for _, b := range broken {
		names[b.UUID] = b.Name // what builds on it has its snapshot for the parent
	}
	for _, b := range all {
		c.On[b.Name] = ""
		if !b.ParentUUID.IsZero() {
			c.On[b.Name] = cmp.Or(names[b.ParentUUID], b.ParentUUID.String()) // of one that is missing
		}
	}
	return c
}

// lockSource keeps other runs of this machine out of what a store at a place has of a source, by a directory of this machine.
func lockSource(ctx context.Context, in *store.Store, source, at string, waiting func(*lock.HeldError)) (release func() error, err error) {
	path := filepath.Join(in.State, "stores", in.ID, source)
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("locking %s: %w", at, err)
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", at, err)
	}
	l, err := lock.Acquire(ctx, dir, waiting)
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return func() error { return errors.Join(l.Release(), dir.Close()) }, nil
}
