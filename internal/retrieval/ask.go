package retrieval

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/internal/files"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/transport"
)

// An Ask is an order as people give it.
type Ask struct {
	Order            // To may be missing: files go to where they were
	As    Target     // the path that what is wanted had; no Host: Paths name it
	Typed string     // that path as people typed it
	Here  host.Trees // this machine
}

// A MeantError tells that files are certainly meant, and not a whole subvolume, but that they cannot be restored.
type MeantError struct{ error }

func (e MeantError) Unwrap() error { return e.error }

// Resolve finds out what is wanted, and where it goes.
func (a Ask) Resolve(ctx context.Context) (Order, error) {
	o := a.Order
	o.Paths = slices.Clone(o.Paths)
	if err := CheckBackup(o.Backup); err != nil {
		return o, MeantError{err}
	}
	if a.As.Host != nil && o.Backup.Within != "" {
		err := fmt.Errorf("%s is a file or directory in a backup, which goes to no second one", o.Backup)
		return o, MeantError{hint.New(err, "name where it is to be written: --to "+transport.Quote(a.As.String()))}
	}
	was := Target{Host: a.Here, InPlace: true}
	if a.As.Host != nil {
		dir, below, err := meant(ctx, o.Backup, a.As.Host, a.As.Dir)
		if err != nil {
			return o, a.relative(ctx, err)
		}
		was.Host, was.Dir, o.Paths = a.As.Host, dir, []string{below}
	}
	if err := o.strip(ctx); err != nil {
		return o, err
	}
	if len(o.Paths) == 0 {
		o.Paths = []string{"."}
	}
	if o.To.Host != nil {
		return o, nil
	}
	if was.Dir == "" {
		var err error
		if was.Dir, err = home(ctx, o.Backup); err != nil {
			return o, err
		}
	}
	o.To = was
	return o, nil
}

// relative explains an error about the path that a file had, if that is in the backup by the path as it was typed.
func (a Ask) relative(ctx context.Context, err error) error {
	if path.IsAbs(a.Typed) || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	clean, cleanErr := files.Clean(a.Typed)
	if cleanErr != nil {
		return err
	}
	found, findErr := lookFor(ctx, a.Backup, clean)
	if findErr != nil || found.Type == manifest.Directory { // which may be the name of what is to be new
		return err
	}
	forward := "name it by its path there: --path " + transport.Quote(clean)
	if of, _, ofErr := sourcesOf(ctx, a.Backup); ofErr == nil && pathOf(of) != "" {
		forward = "the path must be as it was: " + transport.Quote(path.Join(pathOf(of), clean))
	}
	return MeantError{hint.New(fmt.Errorf("%s is in %s, but %s is not what it was", clean, a.Backup, a.As), forward)}
}

// lookFor finds one path in a backup.
func lookFor(ctx context.Context, b inventory.Found, at string) (files.Found, error) {
	from, err := b.Host.Open(ctx, b.Folder)
	if err != nil {
		return files.Found{}, err
	}
	defer from.Close()
	found, err := find(ctx, b, from, files.Selection{Backup: b.Name, Paths: []string{at}})
	if err != nil {
		return files.Found{}, err
	}
	return found[0], nil
}

func isAtOrBeneath(dir, at string) bool {
	_, ok := beneath(dir, path.Clean(at))
	return ok || path.Clean(at) == dir
}

// strip leaves the path of the source out of paths that begin with it, unless that is a path in the backup, too.
func (o *Order) strip(ctx context.Context) error {
	var source string
	for i, chosen := range o.Paths {
		if !path.IsAbs(chosen) || o.Backup.Within != "" {
			continue
		}
		if source == "" {
			of, now, err := sourcesOf(ctx, o.Backup)
			if err != nil {
				return err
			}
			if source = pathOf(of); pathOf(now) != "" && isAtOrBeneath(pathOf(now), chosen) {
				source = pathOf(now)
			}
		}
		clean, err := files.Clean(chosen)
		if err != nil {
			return err
		}
		_, asItIs := lookFor(ctx, o.Backup, clean)
		if !errors.Is(asItIs, fs.ErrNotExist) {
			continue
		}
		below, ok := beneath(source, path.Clean(chosen))
		if path.Clean(chosen) == source {
			below, ok = ".", true
		}
		if !ok || source == "" {
			return hint.Newf(asItIs, "--path names a file by its path in %s, without that of what it is a backup of", o.Backup)
		}
		o.Paths[i] = below
	}
	return nil
}
