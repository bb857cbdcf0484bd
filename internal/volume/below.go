package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

// Subvolumes are those in a source, and in those, by their paths from it.
type Subvolumes struct {
	Found    []string            // the source itself first, as "", and each before what it holds
	Nested   map[string][]string // of each found, all in it that no snapshot of it holds, by their paths from there
	ReadOnly int                 // skipped, with what is in them
	Excluded int                 // as is asked for
	Hidden   []string            // something else is mounted there
	Dated    []string            // their folders at a destination would be taken for backups
}

// Below finds the subvolumes at and below an absolute path. The snapshot folder, see NewSource, of each of them is passed over. A
// source that is no subvolume is btrfs.ErrNotSubvolume.
func Below(ctx context.Context, h host.Host, source, snapshotFolder string, excluded func(path string) bool) (Subvolumes, error) {
	w := below{Subvolumes: Subvolumes{Nested: make(map[string][]string)}, host: h, source: path.Clean(source),
		folder: snapshotFolder, excluded: excluded}
	err := w.enter(ctx, "", 0)
	return w.Subvolumes, err
}

type below struct {
	Subvolumes
	host           host.Host
	source, folder string
	excluded       func(path string) bool
}

// enter looks into a subvolume, which must be that of the ID unless that is 0.
func (w *below) enter(ctx context.Context, at string, id uint64) error {
	full := path.Join(w.source, at)
	dir, err := w.host.Open(ctx, full)
	if id != 0 && errors.Is(err, fs.ErrNotExist) { // deleted meanwhile
		return nil
	}
	if err != nil {
		return fmt.Errorf("source %s: %w", engine.PlaceName(w.host.String()+full), hint.WithoutPath(err, full))
	}
	defer dir.Close()
	switch status := dir.Status(); {
	case id == 0 && (!status.Btrfs || !status.IsRoot):
		return hint.New(fmt.Errorf("source %s: %w", engine.PlaceName(w.host.String()+full), btrfs.ErrNotSubvolume),
			"--recursive is for a subvolume and those below it: leave it out")
	case id != 0 && (!status.IsRoot || status.Subvolume.ID != id):
		w.Hidden = append(w.Hidden, at)
		return nil
	}
	nested, err := dir.Nested(ctx)
	if err != nil {
		return err
	}
	w.Found = append(w.Found, at)
	for _, n := range nested {
		w.Nested[at] = append(w.Nested[at], n.Path)
		if err := w.sort(ctx, at, n); err != nil {
			return err
		}
	}
	return nil
}

// sort goes into a nested subvolume, or notes why not.
func (w *below) sort(ctx context.Context, at string, n host.Nested) error {
	inner := path.Join(at, n.Path)
	_, dated := engine.NamingOf(path.Base(inner))
	switch {
	case w.isOurs(at, n.Path):
	case n.ReadOnly:
		w.ReadOnly++
	case w.excluded(inner):
		w.Excluded++
	case dated:
		w.Dated = append(w.Dated, inner)
	default:
		return w.enter(ctx, inner, n.ID)
	}
	return nil
}

// isOurs tells what is, or lies in, a folder of ours, or is being received.
func (w *below) isOurs(at, nested string) bool {
	folder := w.folder
	if !path.IsAbs(folder) {
		folder = path.Join(w.source, at, folder)
	}
	full := path.Join(w.source, at, nested)
	return isAtOrBelow(full, path.Clean(folder)) || btrfs.IsIncoming(path.Base(full)) || path.Base(full) == tree.StateDir
}

func isAtOrBelow(p, dir string) bool {
	for ; p != dir; p = path.Dir(p) {
		if p == "/" {
			return false
		}
	}
	return true
}
