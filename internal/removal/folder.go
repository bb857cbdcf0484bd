package removal

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/internal/set"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
	"github.com/btrfs-backup/btrfs-backup/lock"

	"golang.org/x/sys/unix"
)

// A folder is an open folder of snapshots or backups, as it was listed.
type folder struct {
	inventory.Place
	dir     *host.Dir
	trees   *host.TreeDir // nil: it cannot be opened as one
	noTrees error         // why
	judge   *inventory.Judge
	entries []inventory.Entry
	sets    []host.Set // in the directory above, of which this folder may be a member
}

func openFolder(ctx context.Context, h host.Trees, at string) (*folder, error) {
	f := &folder{Place: inventory.Place{Folder: engine.PlaceName(h.String() + at), Host: h, Path: at}}
	var err error
	if f.dir, err = h.Open(ctx, at); err != nil {
		return nil, hint.New(err, "name the folder of a destination, or the snapshot folder of a source")
	}
	f.trees, f.noTrees = h.OpenTrees(ctx, at, tree.OpenOptions{})
	if err := f.list(ctx); err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

func (f *folder) close() {
	if f.trees != nil {
		_ = f.trees.Close()
	}
	_ = f.dir.Close() // nothing is under way any more
}

// list reads everything anew.
func (f *folder) list(ctx context.Context) (err error) {
	if f.Content, err = f.dir.List(ctx); err != nil {
		return err
	}
	if f.trees != nil {
		if f.Trees, err = f.trees.ListTrees(ctx); err != nil {
			return err
		}
	}
	if len(f.Trees.Below) > 0 || f.trees == nil {
		sets, err := f.dir.ListSets(ctx)
		if err != nil {
			return err
		}
		f.Sets = slices.DeleteFunc(sets, host.Set.Unfinished)
	}
	if f.judge, err = f.Judge(); err != nil {
		return err
	}
	f.entries = f.Entries("")
	f.sets, err = f.setsAbove(ctx)
	return err
}

// setsAbove gives the sets in the directory above. Whoever may not look there is told of none.
func (f *folder) setsAbove(ctx context.Context) ([]host.Set, error) {
	if f.Path == "/" {
		return nil, nil
	}
	sets, err := set.In(ctx, f.Host, path.Dir(f.Path))
	if err != nil && ctx.Err() == nil && (f.trees == nil || errors.Is(err, unix.EACCES)) {
		return nil, nil
	}
	return sets, err
}

func (f *folder) entry(name string) (inventory.Entry, bool) {
	i := slices.IndexFunc(f.entries, func(e inventory.Entry) bool { return e.Name == name && e.Kind != inventory.Set })
	if i < 0 {
		return inventory.Entry{}, false
	}
	return f.entries[i], true
}

// isTree tells that a name is that of a backup that is known by its record.
func (f *folder) isTree(name string) bool {
	return slices.ContainsFunc(f.Trees.Backups, func(r tree.Record) bool { return r.Name == name })
}

// remove deletes what it can, and gives what is gone.
func (f *folder) remove(ctx context.Context, names []string) (deleted []string, err error) {
	var trees, subvolumes []string
	for _, name := range names {
		if f.isTree(name) {
			trees = append(trees, name)
		} else {
			subvolumes = append(subvolumes, name)
		}
	}
	var errs []error
	if len(subvolumes) > 0 {
		gone, err := f.dir.Delete(ctx, subvolumes, host.DeleteOptions{})
		deleted, errs = append(deleted, gone...), append(errs, f.explained(err))
	}
	if len(trees) > 0 {
		gone, err := f.trees.DeleteTrees(ctx, trees)
		deleted, errs = append(deleted, gone...), append(errs, f.explained(err))
	}
	if len(deleted) > 0 {
		ctx := context.WithoutCancel(ctx)
		errs = append(errs, f.dropFromLedger(ctx, deleted), f.relink(ctx, deleted))
	}
	return deleted, errors.Join(errs...)
}

// explained adds what an ordinary user lacks.
func (f *folder) explained(err error) error {
	isRight := errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EROFS)
	switch {
	case err == nil || hint.Of(err) != "" || !isRight || f.dir.Status().Privileged:
		return err
	case f.Host.String() != "":
		return hint.New(err, "log in there as root (root@HOST), or use --ssh-sudo")
	}
	return hint.New(err, "run as root (sudo)")
}

// dropFromLedger removes the entries of what is gone: they hold nothing any more.
func (f *folder) dropFromLedger(ctx context.Context, gone []string) error {
	if f.Ledger.Content == nil {
		return nil
	}
	ledger, err := host.ParseLedger(f.Folder, f.Ledger, nil)
	if err != nil {
		return err
	}
	before := string(ledger.Marshal())
	ledger.DropMissing(func(name string) bool { return !slices.Contains(gone, name) })
	after := ledger.Marshal()
	if string(after) == before {
		return nil
	}
	if err := f.dir.WriteLedger(ctx, after); err != nil {
		return fmt.Errorf("%s still names what was deleted: %w", f.Folder+"/"+lock.LedgerFile, err)
	}
	return nil
}

// relink points the links to the newest elsewhere that led to what is gone.
func (f *folder) relink(ctx context.Context, gone []string) error {
	var errs []error
	done := make(map[string]bool)
	for _, name := range gone {
		naming, dated := engine.NamingOf(name)
		link := naming.Latest()
		if !dated || done[link] || !slices.Contains(f.Others, link) && !slices.Contains(f.Trees.Others, link) {
			continue
		}
		done[link] = true
		var newest, lost inventory.Entry
		for _, e := range f.entries {
			of, _ := engine.NamingOf(e.Name)
			switch isGone := slices.Contains(gone, e.Name); {
			case of != naming:
			case isGone && e.Time.After(lost.Time):
				lost = e
			case !isGone && e.Complete && e.Time.After(newest.Time):
				newest = e
			}
		}
		if newest.Name != "" && lost.Time.After(newest.Time) {
			errs = append(errs, f.dir.Link(ctx, link, newest.Name))
		}
	}
	return errors.Join(errs...)
}
