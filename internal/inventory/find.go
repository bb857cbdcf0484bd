package inventory

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
)

// A Found is what a path means: a snapshot, backup or set, or something in it; or else, without a Name, a directory.
type Found struct {
	Host host.Trees
	host.Location
}

// String names what was found as people know it.
func (f Found) String() string {
	return engine.PlaceName(f.Host.String() + path.Join(f.Path(), f.Within))
}

// Find tells what the absolute path on a host means, in one call: nothing is listed. Where there is no link to the newest, as beside
// received backups, .latest means the newest complete one all the same; the snapshot folder of a source is relative to it. A missing
// one is fs.ErrNotExist.
func Find(ctx context.Context, h host.Trees, at, snapshotFolder string) (Found, error) {
	locator, ok := h.(host.Locator)
	if !ok {
		return Found{}, fmt.Errorf("%s: nothing can be looked for there", h)
	}
	l, err := locator.Locate(ctx, at)
	isMissing := errors.Is(err, fs.ErrNotExist)
	if isMissing {
		if newest, ok := latest(ctx, h, at, snapshotFolder); ok {
			l, err = locator.Locate(ctx, newest)
		}
	}
	if err != nil && h.String() != "" {
		err = prefixed{h.String(), err}
	}
	if isMissing && err != nil && hint.Of(err) == "" {
		err = hint.Newf(err, "`btrfs-backup list %s` shows what there is; is its disk mounted?", engine.PlaceName(h.String()+path.Dir(at)))
	}
	return Found{h, l}, err
}

// latest gives the path with the newest complete one in the place of a link to that.
func latest(ctx context.Context, h host.Trees, at, snapshotFolder string) (string, bool) {
	names := strings.Split(path.Clean(at), "/")
	i := slices.IndexFunc(names, func(name string) bool {
		_, ok := host.LatestOf(name)
		return ok
	})
	if i < 0 {
		return "", false
	}
	p, err := Look(ctx, h, path.Join("/", path.Join(names[:i]...)), snapshotFolder)
	if err != nil {
		return "", false
	}
	prefix, _ := host.LatestOf(names[i])
	newest, ok := p.Newest(prefix)
	return path.Join(p.Path, newest.Name, path.Join(names[i+1:]...)), ok
}

// prefixed tells on which machine an error occurred.
type prefixed struct {
	machine string
	error
}

func (e prefixed) Error() string { return e.machine + ": " + e.error.Error() }
func (e prefixed) Unwrap() error { return e.error }

// ErrFolder is the error about a folder of backups in the place of one of them.
var ErrFolder = errors.New("is a folder of backups: one of them must be named")

// FindVersion is Find for what must be a snapshot, backup or set, or in one. The error about a directory names what is in it instead;
// the snapshot folder of a source is relative to it.
func FindVersion(ctx context.Context, h host.Trees, at, snapshotFolder string) (Found, error) {
	f, err := Find(ctx, h, at, snapshotFolder)
	if err != nil || f.IsVersion() {
		return f, err
	}
	if _, unfinished := btrfs.IncomingOf(path.Base(f.Folder)); unfinished {
		return f, hint.New(fmt.Errorf("%s is unfinished: it is no backup", f), "the next run goes on with it, or removes it")
	}
	p, listErr := Look(ctx, h, f.Folder, snapshotFolder)
	newest, ok := p.Newest("")
	switch {
	case listErr == nil && ok && p.Path != f.Folder:
		return f, hint.Newf(fmt.Errorf("%s is a source, and no snapshot or backup", f),
			"its snapshots are in %s; the newest is %s", p.Folder, p.in(newest.Name))
	case listErr == nil && ok:
		return f, hint.Newf(fmt.Errorf("%s %w", f, ErrFolder),
			"the newest is %s; `btrfs-backup list %s` shows all", p.in(newest.Name), f)
	case listErr == nil && len(p.Below) > 0:
		return f, hint.Newf(fmt.Errorf("%s is no snapshot or backup", f), "`btrfs-backup list %s` shows the folders of backups in it", f)
	case f.Subvolume.ID != 0 && !f.Subvolume.ReadOnly:
		return f, hint.New(fmt.Errorf("%s is no snapshot or backup: it can be written to", f), "what was a backup is none any more once it was made writable")
	}
	return f, hint.Newf(fmt.Errorf("%s is no snapshot or backup", f), "`btrfs-backup list %s` shows what there is", path.Dir(f.String()))
}

// Parts gives the backups of all members of a set, with the same path in each; of anything else, it is f itself.
func (f Found) Parts(ctx context.Context) ([]Found, error) {
	if f.Set == nil {
		return []Found{f}, nil
	}
	var parts []Found
	var errs []error
	for _, member := range f.Set.Members {
		part, err := Find(ctx, f.Host, path.Join(f.Folder, member, f.Name), "")
		if err == nil && !part.IsVersion() {
			err = fmt.Errorf("%s is no backup", part)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		parts = append(parts, part)
	}
	return parts, errors.Join(errs...)
}

// Newest gives the newest complete snapshot, backup or set in the place whose name begins with a prefix. In a folder of sets, only
// sets count.
func (p Place) Newest(prefix string) (Entry, bool) {
	complete := p.complete(prefix)
	if len(complete) == 0 {
		return Entry{}, false
	}
	return complete[len(complete)-1], true
}

// Before gives the newest complete one that is older than another, among those whose names are wanted.
func (p Place) Before(other Entry, wanted func(name string) bool) (Entry, bool) {
	for _, e := range slices.Backward(p.complete("")) {
		if e.Name != other.Name && !e.Time.After(other.Time) && wanted(e.Name) {
			return e, true
		}
	}
	return Entry{}, false
}

// At gives the newest complete snapshot, backup or set that was there at a time. If all are younger, the error names the oldest.
func (p Place) At(t time.Time, prefix string) (Entry, error) {
	complete := p.complete(prefix)
	if len(complete) == 0 {
		return Entry{}, hint.Newf(fmt.Errorf("%s holds no complete snapshot or backup", p.Folder), "`btrfs-backup list %s` shows what there is", p.Folder)
	}
	after := slices.IndexFunc(complete, func(e Entry) bool { return e.Time.After(t) })
	switch after {
	case -1:
		return complete[len(complete)-1], nil
	case 0:
		return Entry{}, hint.Newf(fmt.Errorf("%s holds nothing as old as %s", p.Folder, t.Format("2006-01-02 15:04:05")),
			"the oldest is %s", p.in(complete[0].Name))
	}
	return complete[after-1], nil
}

// complete gives what a restore can be made from, by time.
func (p Place) complete(prefix string) []Entry {
	all := p.Entries(prefix)
	all = slices.DeleteFunc(all, func(e Entry) bool {
		return !e.Complete || e.Time.IsZero() || len(p.Sets) > 0 && e.Kind != Set
	})
	slices.SortStableFunc(all, func(a, b Entry) int { return a.Time.Compare(b.Time) })
	return all
}

// in gives what has a name in the place, as people can name it.
func (p Place) in(name string) string { return strings.TrimSuffix(p.Folder, "/") + "/" + name }
