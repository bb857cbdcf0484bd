package volume

import (
	"context"
	"fmt"
	"path"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/stream"
)

// Backups are a folder from which backups are sent back.
type Backups struct {
	sender
	origin host.Origin
}

var (
	_ stream.Sender     = (*Backups)(nil)
	_ stream.Attributed = (*Backups)(nil)
)

// NewBackups names the folder at an absolute path.
func NewBackups(h host.Host, folderPath string, o Options) *Backups {
	return &Backups{sender: sender{folder{host: h, path: path.Clean(folderPath), Options: o}}}
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

// AllAttributes tells of those of a backup that no stream holds.
func (b *Backups) AllAttributes(ctx context.Context, backup string) ([]byte, error) {
	return b.Attributes(ctx, stream.Transfer{Transfer: engine.Transfer{Snapshot: btrfs.Subvolume{Name: backup}}}, true)
}
