package volume

import (
	"context"
	"fmt"
	"path"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/sendstream"
	"btrfs-backup/internal/engine"
	"btrfs-backup/internal/hint"
	"btrfs-backup/internal/host"
	"btrfs-backup/transport"

	"golang.org/x/time/rate"
)

// Destination is an engine.Destination: a folder on a btrfs filesystem.
type Destination struct {
	folder
	limit *rate.Limiter
}

var _ engine.Destination = (*Destination)(nil)

// NewDestination names the folder at an absolute path.
func NewDestination(h host.Host, folderPath string, o Options) *Destination {
	d := &Destination{folder: folder{host: h, path: path.Clean(folderPath), Options: o}}
	if o.Limit > 0 {
		d.limit = transport.NewLimiter(o.Limit)
	}
	return d
}

// Open opens the folder and, if asked to, creates it.
func (d *Destination) Open(ctx context.Context, create bool) error {
	if err := d.open(ctx, create, d.check); err != nil {
		return fmt.Errorf("destination %s: %w", d, engine.WithoutPath(err, d.path))
	}
	return nil
}

func (d *Destination) check(dir host.Status) error {
	if !dir.Btrfs && !d.SkipChecks {
		return hint.New(fmt.Errorf("%s is %w", dir.Path, btrfs.ErrNotBtrfs),
			"a destination must lie on a btrfs filesystem: is its disk mounted?")

	}
	return nil
}

// Accepts gives the best format of the btrfs program there.
func (d *Destination) Accepts(ctx context.Context) (sendstream.Format, error) {
	f, err := d.host.Format(ctx)
	return f, d.senderError(err)
}

// Origins gives the record that was found by List.
func (d *Destination) Origins(context.Context) (map[btrfs.UUID]btrfs.UUID, error) {
	o, err := host.ParseOrigins(d.held.Origins)
	if err != nil {
		return nil, host.BadOrigins(d.String(), err)
	}
	return o, nil
}

// Receive runs `btrfs receive` in the folder.
func (d *Destination) Receive(ctx context.Context, s engine.Shipment) (engine.Receiver, error) {
	order := host.ReceiveOrder{Name: s.Snapshot.Name, Key: keyOf(s), Verbose: d.Verbose, Limit: d.limit, Wire: s.Wire}
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
func keyOf(s engine.Shipment) string {
	var parent btrfs.Subvolume
	if s.Parent != nil {
		parent = *s.Parent
	}
	return fmt.Sprint(s.Snapshot.UUID, parent.UUID, s.Format.Protocol, s.Format.Compressed)
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
