package volume

import (
	"context"
	"fmt"
	"io"
	"path"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/sendstream"
	"btrfs-backup/internal/engine"
	"btrfs-backup/internal/hint"
	"btrfs-backup/internal/host"
	"btrfs-backup/internal/progress"
	"btrfs-backup/internal/stream"
)

// Backups are a folder from which backups are sent back.
type Backups struct {
	folder
	origin host.Origin
}

var (
	_ stream.Sender     = (*Backups)(nil)
	_ stream.Attributed = (*Backups)(nil)
)

// NewBackups names the folder at an absolute path.
func NewBackups(h host.Host, folderPath string, o Options) *Backups {
	return &Backups{folder: folder{host: h, path: path.Clean(folderPath), Options: o}}
}

// Open opens the folder.
func (b *Backups) Open(ctx context.Context) error {
	err := b.open(ctx, func(dir host.Status) error {
		if !dir.Btrfs {
			return hint.New(btrfs.ErrNotBtrfs, "is its disk mounted?")
		}
		return nil
	})
	if err != nil {
		err = fmt.Errorf("folder %s: %w", b, hint.WithoutPath(err, b.path))
	}
	return err
}

// List lists the folder. Whoever may only add backups, or fetch snapshots, may not.
func (b *Backups) List(ctx context.Context) (host.Content, error) { return b.dir.Relatives(ctx, nil) }

// Continue records that a source goes on with the history of others.
func (b *Backups) Continue(ctx context.Context, c host.Continuation) error {
	return b.dir.Continue(ctx, c)
}

// SetOrigin tells of what the backups are.
func (b *Backups) SetOrigin(of host.Origin) { b.origin = of }

// Origin tells of what the backups are.
func (b *Backups) Origin() host.Origin { return b.origin }

// CheckProgram fails if the btrfs program is missing on the machine.
func (b *Backups) CheckProgram(ctx context.Context) error { return b.checkProgram(ctx, b) }

// Send runs `btrfs send` and checks its output on the way to w.
func (b *Backups) Send(ctx context.Context, t stream.Transfer, after sendstream.Prefix, w io.Writer) error {
	return b.send(ctx, t, after, w)
}

// Measure runs `btrfs send --no-data`, which reads no file's content.
func (b *Backups) Measure(ctx context.Context, t stream.Transfer) (progress.Total, error) {
	return b.measure(ctx, t)
}

// Attributes tells of those that no stream holds, as they are on record.
func (b *Backups) Attributes(ctx context.Context, t stream.Transfer, all bool) ([]byte, error) {
	return b.attributes(ctx, t, all)
}

// AllAttributes tells of those of a backup that no stream holds.
func (b *Backups) AllAttributes(ctx context.Context, backup string) ([]byte, error) {
	return b.attributes(ctx, stream.Transfer{Transfer: engine.Transfer{Snapshot: btrfs.Subvolume{Name: backup}}}, true)
}

func (f *folder) checkProgram(ctx context.Context, of fmt.Stringer) error {
	_, err := f.host.Format(ctx)
	if err = programMissing(err); err != nil {
		return fmt.Errorf("source %s: %w", of, err)
	}
	return nil
}

func (f *folder) send(ctx context.Context, t stream.Transfer, after sendstream.Prefix, w io.Writer) error {
	order := sendOrder(t)
	order.After, order.Wire, order.Verbose = after, t.Wire, f.Verbose
	summary, err := f.dir.Send(ctx, order, w)
	if summary.Restarts > 0 {
		f.Log.Warn("btrfs send was suspended and began again; the repeated part was dropped", "times", summary.Restarts)
	}
	return f.senderError(err)
}

func (f *folder) measure(ctx context.Context, t stream.Transfer) (progress.Total, error) {
	bytes, err := f.dir.Measure(ctx, sendOrder(t))
	return progress.Total{Bytes: bytes, AtMost: t.Format.Compressed}, f.senderError(err)
}

// attributes tells of those that no stream holds.
func (f *folder) attributes(ctx context.Context, t stream.Transfer, all bool) ([]byte, error) {
	parent := t.ParentName()
	if all {
		parent = ""
	}
	l, err := f.dir.Attributes(ctx, t.Snapshot.Name, parent)
	if err != nil {
		return nil, err
	}
	return l.Encode()
}

func sendOrder(t stream.Transfer) host.SendOrder {
	return host.SendOrder{Snapshot: t.Snapshot.Name, Parent: t.ParentName(), Format: t.Format}
}
