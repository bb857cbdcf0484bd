package mirror

import (
	"context"
	"crypto/sha256"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/changes"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/mirror/options"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

// Snapshots are those of a subvolume, in a folder on a host.
type Snapshots interface {
	String() string // names the subvolume
	Origin() host.Origin
	Folder() string // absolute path
	// Changes tells what differs between two of them.
	Changes(ctx context.Context, name, parent string, each func(changes.Change)) error
	// Nested gives the paths of subvolumes in the subvolume for each of which the named snapshot holds an empty directory.
	Nested(ctx context.Context, name string) ([]string, error)
}

// Follower is an engine.Destination: a folder of dated directories, each the copy of a snapshot. It grows out of the one before it by what
// the kernel tells to have changed between the two snapshots, so that neither side is walked. Each of these chains begins with a copy
// that rsync makes, and is compared as a whole from time to time.
type Follower struct {
	*Destination
	of Snapshots
	at host.Host // of the snapshots
	// FullEvery is how old the last comparison as a whole may be.
	FullEvery time.Duration

	made tree.Record // by the last Save
}

var (
	_ engine.Destination = (*Follower)(nil)
	_ engine.Opener      = (*Follower)(nil)
	_ engine.Lister      = (*Follower)(nil)
	_ engine.Linker      = (*Follower)(nil)
	_ engine.Marker      = (*Follower)(nil)
	_ engine.Placed      = (*Follower)(nil)
	_ engine.Rehearser   = (*Follower)(nil)
)

// Follow makes a destination follow snapshots, that are on a host. Its source is the subvolume that they are of.
func Follow(d *Destination, snapshots Snapshots, at host.Host, fullEvery time.Duration) *Follower {
	return &Follower{Destination: d, of: snapshots, at: at, FullEvery: fullEvery}
}

// List tells what the folder holds, as the engine knows the copies of snapshots.
func (f *Follower) List(ctx context.Context) (engine.Contents, error) {
	c, err := f.Destination.List(ctx)
	if err != nil {
		return c, err
	}
	source := f.of.Origin().Subvolume
	c.Origins = make(map[btrfs.UUID]btrfs.UUID)
	for _, r := range f.found.Backups {
		if f.ofAnother(r) != "" {
			c.Taken = append(c.Taken, r.Name)
			continue
		}
		b := f.described(r)
		c.InDirectory = append(c.InDirectory, b)
		c.Origins[b.ReceivedUUID] = source
	}
	c.All = c.InDirectory
	return c, nil
}

// described gives a backup as the subvolume that a copy of its snapshot would be. One that is of no snapshot is a copy of nothing else.
func (f *Follower) described(r tree.Record) btrfs.Subvolume {
	order := uint64(r.Sequence)
	b := btrfs.Subvolume{ID: order, Name: r.Name, ReadOnly: true, CreatedIn: order, ChangedIn: order, ReceivedIn: order, Created: r.Finished,
		ReceivedAt: r.Finished}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%d", f.found.ID, r.Name, r.Sequence))
	copy(b.UUID[:], sum[:])
	if b.ReceivedUUID = snapshotOf(r); b.ReceivedUUID.IsZero() {
		b.ReceivedUUID = b.UUID
	}
	return b
}

// snapshotOf gives the UUID that tells copies of the snapshot which a backup is of; zero if it is of none.
func snapshotOf(r tree.Record) (uuid btrfs.UUID) {
	if uuid.UnmarshalText([]byte(r.Snapshot)) != nil {
		return btrfs.UUID{}
	}
	return uuid
}

// Save makes a copy of a snapshot.
func (f *Follower) Save(ctx context.Context, t engine.Transfer) (engine.Result, error) {
	f.turnTo(t.Snapshot)
	f.Log.Info(fmt.Sprintf("%s: copying %s", f, f.source))
	r, err := f.copy(ctx, t, f.save)
	if err == nil {
		r.Backup = f.described(f.made)
		f.found.Backups = append(f.found.Backups, f.made) // upon which the next one builds
	}
	return worded(f.source, f, t.Snapshot.Name, r, err)
}

// Rehearse lets rsync tell what it would copy of a snapshot that was taken.
func (f *Follower) Rehearse(ctx context.Context, t engine.Transfer) (engine.Result, error) {
	if t.Snapshot.UUID.IsZero() {
		return engine.Result{}, nil
	}
	f.turnTo(t.Snapshot)
	if base := f.baseOf(t); base.Name != "" {
		t.Parent = &btrfs.Subvolume{Name: base.Name}
	}
	return f.Destination.Rehearse(ctx, t)
}

// turnTo makes a snapshot the directory that rsync copies.
func (f *Follower) turnTo(s btrfs.Subvolume) {
	origin := f.source.origin
	f.source = NewSource(f.at, path.Join(f.of.Folder(), s.Name), f.source.SourceOptions)
	f.source.origin = origin
}

// baseOf gives the record of the backup that a transfer builds upon: the copy of its parent, or else the one that was finished last, whose
// files may be those of the snapshot.
func (f *Follower) baseOf(t engine.Transfer) (base tree.Record) {
	for _, r := range f.found.Backups {
		if f.ofAnother(r) != "" {
			continue
		}
		base = r
		if t.Parent != nil && snapshotOf(r) == t.Parent.Identity() {
			break
		}
	}
	return base
}

// save makes the copy grow where it can, and else lets rsync copy as from any directory.
func (f *Follower) save(ctx context.Context, t engine.Transfer, c copier) (r engine.Result, err error) {
	base := f.baseOf(t)
	order := tree.Order{Name: t.Snapshot.Name, Base: base.Name, Origin: f.source.origin}
	c.atMost = base.Bytes
	if c.first, err = f.leavingOutNested(ctx, t.Snapshot.Name, c.first); err != nil {
		return r, err
	}
	g, err := f.growthFor(ctx, t, base)
	if err != nil {
		return r, err
	}
	compared := t.Started
	filled, err := f.fillAnyhow(ctx, order, c, g)
	switch {
	case err != nil || !filled.grew:
	case t.Started.Sub(base.Compared) < f.FullEvery:
		compared = base.Compared
	default:
		filled, err = f.compare(ctx, order, c, filled)
	}
	filled.of = tree.Version{Snapshot: t.Snapshot.Identity().String(), Compared: compared}
	r, f.made, err = f.conclude(ctx, t, order, c, filled, err)
	return r, err
}

// leavingOutNested adds filters for the empty directories that snapshots hold in the place of other subvolumes, of which no difference
// of snapshots tells.
func (f *Follower) leavingOutNested(ctx context.Context, snapshot string, filters []string) ([]string, error) {
	nested, err := f.of.Nested(ctx, snapshot)
	if err != nil {
		return nil, hint.Newf(fmt.Errorf("looking for the subvolumes in %s: %w", f.of, err), "the next run tries again")
	}
	filters = slices.Clone(filters)
	for _, at := range nested {
		filters = append(filters, options.Exclude("/"+options.Literal(at)))
	}
	return filters, nil
}
