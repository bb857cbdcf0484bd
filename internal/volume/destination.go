package volume

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/receive"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/copies"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/stream"
	"github.com/btrfs-backup/btrfs-backup/lock"
	"github.com/btrfs-backup/btrfs-backup/retention"
	"github.com/btrfs-backup/btrfs-backup/transport"

	"golang.org/x/time/rate"
)

// Destination is an engine.Destination: a folder on a btrfs filesystem.
type Destination struct {
	folder
	from  stream.Sender
	limit *rate.Limiter
	about host.About        // of the backups, when they were last listed
	there []btrfs.Subvolume // on the filesystem, when they were
	found *host.Content     // what came with the lock, for the List that follows
}

var (
	_ engine.Destination = (*Destination)(nil)
	_ engine.Opener      = (*Destination)(nil)
	_ engine.Checker     = (*Destination)(nil)
	_ engine.Lister      = (*Destination)(nil)
	_ engine.Marker      = (*Destination)(nil)
	_ engine.Placed      = (*Destination)(nil)
	_ engine.Describer   = (*Destination)(nil)
	_ stream.Target      = (*Destination)(nil)
	_ stream.Verifier    = (*Destination)(nil)
	_ stream.Recorder    = (*Destination)(nil)
)

// NewDestination names the folder at an absolute path, for the snapshots of a source.
func NewDestination(h host.Host, folderPath string, from stream.Sender, o Options) *Destination {
	d := &Destination{folder: folder{host: h, path: path.Clean(folderPath), Options: o}, from: from}
	if o.Limit > 0 {
		d.limit = transport.NewLimiter(o.Limit)
	}
	return d
}

// Open opens the folder.
func (d *Destination) Open(ctx context.Context) error { return d.named(d.open(ctx, d.check)) }

// Create makes the folder.
func (d *Destination) Create(ctx context.Context) error { return d.named(d.create(ctx, d.check)) }

func (d *Destination) named(err error) error {
	if err != nil {
		err = fmt.Errorf("destination %s: %w", d, hint.WithoutPath(err, d.path))
	}
	return err
}

func (d *Destination) check(dir host.Status) error {
	if dir.NoReceive != "" {
		return hint.New(errors.New(dir.NoReceive), "use a key that may send backups")
	}
	if !dir.Btrfs && !d.SkipChecks {
		return hint.New(fmt.Errorf("%s is %w", dir.Path, btrfs.ErrNotBtrfs),
			"is its disk mounted? If it has no btrfs: --engine mirror")
	}
	return withHint(dir.CheckWritable(), d.lacking(needToWrite))
}

// Mark identifies the folder by its place on its filesystem, wherever that is mounted.
func (d *Destination) Mark(context.Context) (id string, err error) { return d.identity(), nil }

func (d *Destination) identity() string {
	at := d.At()
	return fmt.Sprintf("%s%s/%d/%d", at.Machine, at.Filesystem, at.Subvolume, at.Inode)
}

// CheckPrograms fails if the btrfs program is needed there, and missing.
func (d *Destination) CheckPrograms(ctx context.Context) error {
	if !d.Stock {
		return nil
	}
	_, err := d.host.StockFormat(ctx)
	return d.named(programMissing(err))
}

// Accepts gives the best format that is received there. Without a limit, which counts streams, the data of snapshots on the same machine is
// taken from these.
func (d *Destination) Accepts(ctx context.Context) (sendstream.Format, error) {
	if d.Stock {
		f, err := d.host.StockFormat(ctx)
		return f, d.receiverError(err)
	}
	f := receive.Format
	from, ok := d.from.(interface{ snapshots() host.Snapshots })
	f.NoData = ok && d.limit == nil && d.dir.Copies(from.snapshots())
	return f, nil
}

// Lock locks the folder, and lists it for the next List where both cost no more than one.
func (d *Destination) Lock(ctx context.Context, waiting func(*lock.HeldError)) (release func() error, err error) {
	d.found = nil
	if d.dir != nil {
		if both, ok := d.dir.Folder.(host.LockLister); ok {
			found, release, err := both.LockList(ctx, waiting)
			if err != nil {
				return nil, err
			}
			d.found = &found
			return func() error { d.found = nil; return release() }, nil
		}
	}
	return d.folder.Lock(ctx, waiting)
}

func (d *Destination) list(ctx context.Context) (host.Content, error) {
	if found := d.found; found != nil {
		d.found = nil
		return *found, nil
	}
	return d.dir.List(ctx)
}

// List lists the folder. Where it is a source for others, what these need is in its ledger.
func (d *Destination) List(ctx context.Context) (engine.Contents, error) {
	found, err := d.list(ctx)
	if err != nil {
		return engine.Contents{}, err
	}
	d.there = found.All
	c := engine.Contents{Listing: found.Listing, InUse: found.InUse(),
		Taken: found.Others, Identity: d.identity(), Free: &found.Free}
	if found.Keeps != "" {
		if c.Keeps, err = retention.Parse(found.Keeps); err != nil {
			return c, fmt.Errorf("destination %s: it keeps backups by a policy of its own: %w", d, err)
		}
	}
	isTop := d.near.IsRoot && d.near.Subvolume.ID == topLevel
	if isOurs := slices.Contains(found.Others, path.Dir(host.OriginsFile)); !isTop && !isOurs {
		c.Foreign = found.Others
		for _, s := range found.InDirectory {
			if !s.ReadOnly {
				c.Foreign = append(c.Foreign, s.Name)
			}
		}
	}
	c.Ledger, c.NoPrune = host.ParseLedger(d.String(), found.Ledger, nil)
	origins, about, err := found.RecordedOwn(d.String())
	if d.about = about; err != nil {
		c.NoPrune = err
	}
	c.Origins = about.Resolve(origins)
	c.Held = held(found.InDirectory, c.Origins, about)
	c.MayLive = about.LivingOf(found.InDirectory, origins)
	return c, nil
}

// topLevel is the ID of the subvolume that every filesystem has. Many keep subvolumes of all kinds in it.
const topLevel = 5 // linux/btrfs_tree.h: BTRFS_FS_TREE_OBJECTID

// Save sends a snapshot to the folder.
func (d *Destination) Save(ctx context.Context, t engine.Transfer) (engine.Result, error) {
	return stream.Course{From: d.from, To: d, Log: d.Log, Progress: d.Progress}.Save(ctx, t)
}

// Describe makes the manifest of a backup, where it is.
func (d *Destination) Describe(ctx context.Context, backup string) error {
	if err := d.dir.MakeManifest(ctx, backup); err != nil {
		return hint.Newf(fmt.Errorf("%s: making the manifest of %s: %w", d, backup, err), "the backup is complete; verify makes the manifest, too")
	}
	return nil
}

// Verify looks for the parent among what was listed last, and lists anew if it may be there by now. The program btrfs receive, unlike
// the native receiver, also takes what was altered meanwhile.
func (d *Destination) Verify(ctx context.Context, t stream.Transfer, received btrfs.Subvolume) error {
	if !d.Stock {
		if err := verify(t.Transfer, received, d.there); !errors.Is(err, copies.ErrWrongParent) {
			return err
		}
	}
	found, err := d.dir.List(ctx)
	if err != nil {
		return err
	}
	d.there = found.All
	_, d.about, _ = found.Recorded(d.String()) // what cannot be read was told
	return verify(t.Transfer, received, d.there)
}

// verify compares the received subvolume with the snapshot that was sent. There are the subvolumes of the destination's
// filesystem, since any copy of the parent there may have been taken.
func verify(t engine.Transfer, received btrfs.Subvolume, there []btrfs.Subvolume) error {
	switch {
	case !received.ReadOnly || received.ReceivedUUID != t.Snapshot.Identity():
		return fmt.Errorf("the received subvolume is not complete: read-only %t, received UUID %s instead of %s",
			received.ReadOnly, received.ReceivedUUID, t.Snapshot.Identity())
	case t.Parent == nil && !received.ParentUUID.IsZero():
		return fmt.Errorf("the received subvolume has the parent %s although a complete copy was sent", received.ParentUUID)
	case t.Parent == nil:
		return nil
	}
	if !copies.BuildsOn(received, *t.Parent, there) {
		return fmt.Errorf("%w %s: it has the parent %s", copies.ErrWrongParent, t.Parent.Name, received.ParentUUID)
	}
	return nil
}

// Keeps tells that the attributes of a backup of the parent are on record, as of the last listing. Verify makes one if there was none since that backup was made.
func (d *Destination) Keeps(parent btrfs.Subvolume) bool {
	_, known := d.about.Attributes(parent.Identity())
	return known
}

// Receive receives a backup in the folder.
func (d *Destination) Receive(ctx context.Context, t stream.Transfer) (stream.Receiver, error) {
	order := host.ReceiveOrder{Name: t.Snapshot.Name, Key: keyOf(t), Verbose: d.Verbose, Stock: d.Stock, Limit: d.limit,
		Wire: t.Wire, Taken: t.Taken}
	if from, ok := d.from.(interface{ snapshots() host.Snapshots }); ok && t.Format.NoData {
		order.From = &host.DataSource{Dir: from.snapshots(), Snapshot: t.Snapshot.Name, Parent: t.ParentName()}
		order.Copied = t.Copied
	}
	r, err := d.dir.Receive(ctx, order)
	if err != nil {
		return nil, d.receiverError(err)
	}
	explained := receiver{r, d}
	if resumer, ok := r.(host.Resumer); ok {
		return resumable{explained, resumer}, nil
	}
	return explained, nil
}

// keyOf identifies a stream: equal keys, equal streams.
func keyOf(t stream.Transfer) string {
	var parent btrfs.Subvolume
	if t.Parent != nil {
		parent = *t.Parent
	}
	return fmt.Sprint(t.Snapshot.UUID, parent.UUID, t.Format.Protocol, t.Format.Compressed)
}

// receiver explains what goes wrong with a host.Receiver.
type receiver struct {
	host.Receiver
	d *Destination
}

func (r receiver) Close(ctx context.Context) (btrfs.Subvolume, error) {
	s, err := r.Receiver.Close(ctx)
	return s, r.d.receiverError(err)
}

type resumable struct {
	receiver
	host.Resumer
}
