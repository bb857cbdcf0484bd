package retrieval

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/files"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

// sourcesOf gives what a backup or snapshot is of, as far as that is on record, and what goes on with its history: the first is its own.
func sourcesOf(ctx context.Context, b inventory.Found) (own tree.Origin, now tree.Origin, err error) {
	switch {
	case b.Record != nil:
		return b.Record.Origin, b.Record.Origin, nil
	case b.Subvolume.ID == 0:
		return own, now, nil
	}
	dir, err := b.Host.Open(ctx, b.Folder)
	if err != nil {
		return own, now, err
	}
	defer dir.Close()
	if b.Subvolume.Received() {
		content, err := dir.List(ctx)
		if err != nil {
			return own, now, err
		}
		origins, about, err := content.RecordedOwn(b.Folder)
		if err != nil {
			return own, now, err
		}
		source := origins[b.Subvolume.ReceivedUUID]
		now = about.Sources[about.Newest(source, origins)].Origin
		return cmp.Or(about.Sources[source].Origin, now), now, nil
	}
	own, err = snapshotted(ctx, b, dir.Status())
	return own, own, err
}

// snapshotted gives the source of a snapshot that lies in the very subvolume that it was taken of.
func snapshotted(ctx context.Context, b inventory.Found, at host.Status) (of tree.Origin, err error) {
	if !at.Btrfs || b.Subvolume.ParentUUID.IsZero() || at.Subvolume.UUID != b.Subvolume.ParentUUID {
		return of, nil
	}
	for folder := b.Folder; ; folder = path.Dir(folder) {
		dir, err := b.Host.Open(ctx, folder)
		if err != nil {
			return of, err
		}
		status := dir.Status()
		if err := dir.Close(); err != nil || status.IsRoot || folder == "/" {
			return host.OriginOf(b.Host, folder), err
		}
	}
}

// pathOf gives the path in the name of a source, which is MACHINE:/PATH or ssh://MACHINE/PATH.
func pathOf(of tree.Origin) string {
	if name, err := strconv.Unquote(of.Source); err == nil { // see host.PlaceName
		of.Source = name
	}
	if _, rest, ok := strings.Cut(of.Source, "://"); ok {
		if i := strings.Index(rest, "/"); i >= 0 {
			return path.Clean(rest[i:])
		}
		return ""
	}
	if i := strings.Index(of.Source, ":/"); i >= 0 {
		return path.Clean(of.Source[i+1:])
	}
	return ""
}

// home gives the directory of this machine that a backup is of, or else that of what goes on with its history.
func home(ctx context.Context, b inventory.Found) (dir string, err error) {
	of, now, err := sourcesOf(ctx, b)
	if err != nil {
		return "", err
	}
	dir, here := isHere(of)
	if !here {
		if at, ok := isHere(now); ok {
			return at, nil
		}
	}
	switch {
	case of.Source == "":
		return "", hint.New(fmt.Errorf("where the files of %s were is not on record", b), "tell where they are to be written: --to DIR")
	case !here:
		return "", hint.New(fmt.Errorf("%s is a backup of %s, which is not on this machine", b, of.Source),
			"tell where the files are to be written: --to DIR, --to HOST:/DIR")
	}
	return dir, nil
}

// isHere tells that a source was on this machine, and where.
func isHere(of tree.Origin) (dir string, ok bool) {
	dir = pathOf(of)
	if dir == "" || strings.Contains(of.Source, "://") {
		return "", false
	}
	here := host.OriginHere(dir)
	if of.Machine != "" && here.Machine != "" {
		return dir, of.Machine == here.Machine
	}
	return dir, of.Source == here.Source
}

// meant tells what an absolute path on a machine, as it was before it was lost, is in a backup: beneath the source on record, or else
// beneath what is mounted there, or the subvolume. below is the path in the backup, and dir what it is beneath. A path that is not in
// the backup is fs.ErrNotExist.
func meant(ctx context.Context, b inventory.Found, h host.Trees, at string) (dir, below string, err error) {
	of, now, err := sourcesOf(ctx, b)
	if err != nil {
		return "", "", err
	}
	source := pathOf(of)
	if _, ok := beneath(source, at); !ok {
		if _, ok := beneath(pathOf(now), at); ok {
			source = pathOf(now)
		}
	}
	isOnRecord := source != ""
	if !isOnRecord {
		if source, err = nearest(ctx, h, at); err != nil {
			return "", "", err
		}
	}
	below, ok := beneath(source, at)
	if !ok {
		return "", "", notThere(b, of, fmt.Sprintf("%s is not in %s", at, source))
	}
	from, err := b.Host.Open(ctx, b.Folder)
	if err != nil {
		return "", "", err
	}
	defer from.Close()
	found, err := find(ctx, b, from, files.Selection{Backup: b.Name, Paths: []string{below}})
	if errors.Is(err, fs.ErrNotExist) && path.Dir(below) != "." {
		_, aboveErr := from.FindFiles(ctx, files.Selection{Backup: b.Name, Paths: []string{path.Dir(below)}})
		if aboveErr == nil {
			return "", "", MeantError{err}
		}
	}
	if err != nil {
		return "", "", err
	}
	if !isOnRecord && found[0].Type == manifest.Directory {
		if err := mustExist(ctx, h, at); err != nil {
			return "", "", err
		}
	}
	return source, below, nil
}

// mustExist refuses to guess that a directory is meant that is not there: it may as well be the name of a new subvolume.
func mustExist(ctx context.Context, h host.Trees, at string) error {
	dir, err := h.Open(ctx, at)
	if err != nil {
		return err
	}
	return dir.Close()
}

func notThere(b inventory.Found, of tree.Origin, what string) error {
	err := fmt.Errorf("%s: %w", what, fs.ErrNotExist)
	if of.Source == "" {
		return hint.Newf(err, "name the file by its path in %s: --path FILE", b)
	}
	return hint.Newf(err, "%s is a backup of %s; --path FILE names a file by its path in it", b, of.Source)
}

// beneath gives the path of what lies in a directory.
func beneath(dir, at string) (below string, ok bool) {
	below, ok = strings.CutPrefix(at, strings.TrimSuffix(dir, "/")+"/")
	return below, ok && below != ""
}

// nearest gives the directory above a path, which may be missing, at which a filesystem is mounted or a subvolume begins.
func nearest(ctx context.Context, h host.Trees, at string) (string, error) {
	var before btrfs.DirID
	var subvolume uint64
	last := ""
	for dir := path.Dir(path.Clean(at)); ; dir = path.Dir(dir) {
		d, err := h.Open(ctx, dir)
		if errors.Is(err, fs.ErrNotExist) && dir != "/" {
			continue
		}
		if err != nil {
			return "", err
		}
		s := d.Status()
		if err := d.Close(); err != nil {
			return "", err
		}
		if last != "" && (s.DirID.Filesystem != before.Filesystem || s.Subvolume.ID != subvolume) {
			return last, nil
		}
		if dir == "/" {
			return dir, nil
		}
		before, subvolume, last = s.DirID, s.Subvolume.ID, dir
	}
}
