package inventory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/kin"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"

	"golang.org/x/sys/unix"
)

// Holds gives the reasons to keep what is in the folder that no policy knows, by name.
func (p Place) Holds() (map[string][]string, error) {
	ledger, err := host.ParseLedger(p.Folder, p.Ledger, func(string) bool { return true })
	if err != nil {
		return nil, err
	}
	holds := make(map[string][]string)
	for name, why := range p.InUse() {
		holds[name] = []string{why}
	}
	for name, why := range p.MayLive() {
		holds[name] = append(holds[name], why)
	}
	for _, s := range p.InDirectory {
		for _, h := range ledger.Holds(s.Name) {
			holds[s.Name] = append(holds[s.Name], h.String())
		}
	}
	return holds, nil
}

// subvolumeSources identifies the source of a subvolume in the folder: the one on record for it or a relative, or else its family. Of
// backups for which nothing is on record, as earlier programs left them, it is the same.
func (p Place) subvolumeSources() (func(btrfs.Subvolume) btrfs.UUID, error) {
	origins, _, err := p.Recorded(p.Folder)
	if err != nil {
		return nil, err
	}
	lineage := kin.NewLineage(p.All)
	ofFamily := make(map[btrfs.UUID]btrfs.UUID)
	for _, s := range p.InDirectory {
		if origin := origins[s.ReceivedUUID]; s.Received() && !origin.IsZero() {
			ofFamily[lineage.Family(s)] = origin
		}
	}
	return func(s btrfs.Subvolume) btrfs.UUID {
		switch {
		case s.Received():
			return cmp.Or(origins[s.ReceivedUUID], ofFamily[lineage.Family(s)])
		case s.ParentUUID.IsZero(): // of a top level that has no UUID
			return btrfs.UUID{}
		}
		return lineage.Family(s)
	}, nil
}

// subvolumes lists the place at an absolute path: the snapshot folder of a source if there is one, else the place itself. The folder
// is relative to place unless it is absolute; then only a subvolume that can be written to is a source. Both are asked for at once,
// since a machine may be far away.
func subvolumes(ctx context.Context, h host.Trees, place, snapshotFolder string) (Place, error) {
	absolute := path.IsAbs(snapshotFolder)
	if !absolute {
		snapshotFolder = path.Join(place, snapshotFolder)
	}
	inner := make(chan Place, 1)
	innerErr := make(chan error, 1)
	go func() {
		c, err := list(ctx, h, path.Clean(snapshotFolder))
		inner <- c
		innerErr <- err
	}()
	outer, status, err := listed(ctx, h, place)
	c, noInner := <-inner, <-innerErr
	if absolute && !(status.IsRoot && !status.Subvolume.ReadOnly) {
		return outer, err
	}
	if err != nil || errors.Is(noInner, fs.ErrNotExist) || errors.Is(noInner, unix.ENOTDIR) {
		return outer, err
	}
	return c, noInner
}

func list(ctx context.Context, h host.Trees, folder string) (Place, error) {
	p, _, err := listed(ctx, h, folder)
	return p, err
}

func listed(ctx context.Context, h host.Trees, folder string) (Place, host.Status, error) {
	status, content, err := h.List(ctx, folder)
	name := engine.PlaceName(h.String() + folder)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Place{}, status, hint.New(missing{name, err}, "check the spelling; is its disk mounted?")
	case err != nil:
		return Place{}, status, err
	case !status.Btrfs:
		return Place{}, status, hint.New(fmt.Errorf("%s: %w", name, btrfs.ErrNotBtrfs), "is its disk mounted?")
	}
	return Place{Folder: name, Host: h, Path: folder, Content: content}, status, nil
}

// missing is the error about a folder that is not there.
type missing struct {
	folder string
	cause  error
}

func (e missing) Error() string { return "there is no folder " + e.folder }
func (e missing) Unwrap() error { return e.cause }
