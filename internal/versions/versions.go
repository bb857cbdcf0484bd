// Package versions tells what snapshots and backups held, wherever they are: what differs between two of them, and which versions of a
// file there are. It changes nothing.
package versions

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/changes"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
	"github.com/btrfs-backup/btrfs-backup/lock"

	"golang.org/x/sys/unix"
)

// A Pair is two snapshots or backups, or the same directory or file in two, that are compared.
type Pair struct {
	From, To inventory.Found
	Member   string // of the sets that they are of; "": of none
}

// Pairs gives what is to be compared of two snapshots, backups or sets.
func Pairs(ctx context.Context, from, to inventory.Found) ([]Pair, error) {
	if from.Within != to.Within {
		return nil, hint.New(fmt.Errorf("%s and %s are two paths in what is compared", from, to), "name the same path in both")
	}
	if from.Set == nil && to.Set == nil {
		return []Pair{{From: from, To: to}}, nil
	}
	if from.Set == nil || to.Set == nil {
		return nil, hint.New(fmt.Errorf("one of %s and %s is a set", from, to), "name a member of it, or two sets")
	}
	before, err := from.Parts(ctx)
	if err != nil {
		return nil, err
	}
	after, err := to.Parts(ctx)
	if err != nil {
		return nil, err
	}
	var pairs []Pair
	for _, t := range after {
		member := path.Base(t.Folder)
		i := slices.IndexFunc(before, func(f inventory.Found) bool { return path.Base(f.Folder) == member })
		if i >= 0 {
			pairs = append(pairs, Pair{before[i], t, member})
		}
	}
	return pairs, nil
}

// LastTwo gives the two newest snapshots, backups or sets in a folder that are of one series. A source stands for its snapshots.
func LastTwo(ctx context.Context, h host.Trees, at, snapshotFolder, prefix string) (from, to inventory.Found, err error) {
	p, err := inventory.Look(ctx, h, at, snapshotFolder)
	if err != nil {
		return from, to, err
	}
	newest, ok := p.Newest(prefix)
	naming, _ := engine.NamingOf(newest.Name)
	before, found := p.Before(newest, func(name string) bool { return naming.Ours(name) })
	if !ok || !found {
		return from, to, hint.New(fmt.Errorf("%s does not hold two complete snapshots or backups of a series", p.Folder), "name two to be compared")
	}
	if from, err = inventory.Find(ctx, h, path.Join(p.Path, before.Name), ""); err != nil {
		return from, to, err
	}
	to, err = inventory.Find(ctx, h, path.Join(p.Path, newest.Name), "")
	return from, to, err
}

// Compare tells what differs, by the names that it had, or has if it is new; with sums, how much alone. What this program keeps among
// snapshots is left out.
func (p Pair) Compare(ctx context.Context, sums bool) (d Difference, err error) {
	began := time.Now()
	d = Difference{Member: p.Member, From: p.From.String(), To: p.To.String(), Backwards: p.isBackwards(), Changes: []Change{}}
	err = p.compare(ctx, func(c changes.Change) {
		switch {
		case !within(p.To.Within, c), isOurs(c):
		case c.LooksSame():
			d.LookSame++
		case !c.IsNoise():
			d.Count.Add(c)
			if !sums {
				d.Changes = append(d.Changes, Change(c))
			}
		}
	})
	if err != nil {
		return d, err
	}
	slices.SortStableFunc(d.Changes, func(a, b Change) int { return manifest.Compare(a.first(), b.first()) })
	d.Took = time.Since(began)
	return d, nil
}

// isBackwards tells that what was named first is the newer one.
func (p Pair) isBackwards() bool {
	from, to := inventory.TimeIn(p.From.Name), inventory.TimeIn(p.To.Name)
	return !to.IsZero() && from.After(to)
}

// isOurs tells that a change is one of what this program writes into a snapshot folder.
func isOurs(c changes.Change) bool {
	name := path.Base(c.Path)
	_, isLatest := host.LatestOf(name)
	return name == lock.LedgerFile || isLatest && c.Type == manifest.Symlink
}

// within tells that a change is one of what is at a path.
func within(at string, c changes.Change) bool {
	is := func(p string) bool { return p == at || strings.HasPrefix(p, at+"/") }
	return at == "" || is(c.Path) || c.From != "" && is(c.From)
}

// compare tells each change. If there is an error, what was told is not all.
func (p Pair) compare(ctx context.Context, each func(changes.Change)) error {
	if p.From.Tree && p.To.Tree {
		return p.byManifests(ctx, each)
	}
	if p.From.Host != p.To.Host {
		moved, ok := p.onOneSide(ctx)
		if !ok {
			return p.byManifests(ctx, each)
		}
		p = moved
	}
	err := p.byStream(ctx, each)
	if errors.Is(err, unix.EXDEV) || errors.Is(err, btrfs.ErrNotBtrfs) || errors.Is(err, btrfs.ErrNotSubvolume) {
		if moved, ok := p.onOneSide(ctx); ok {
			return moved.byStream(ctx, each)
		}
		return p.byManifests(ctx, each)
	}
	return err
}

func (p Pair) byStream(ctx context.Context, each func(changes.Change)) error {
	dir, err := p.To.Host.Open(ctx, p.To.Folder)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Changes(ctx, host.ChangesOrder{Name: p.To.Name, From: p.From.Path()}, each)
}

// onOneSide gives the pair with a copy in the place of one of the two, so that both are on one filesystem. A copy is one by its UUID.
func (p Pair) onOneSide(ctx context.Context) (Pair, bool) {
	if there, ok := copyOf(ctx, p.From, p.To); ok {
		return Pair{From: there, To: p.To}, true
	}
	if there, ok := copyOf(ctx, p.To, p.From); ok {
		return Pair{From: p.From, To: there}, true
	}
	return p, false
}

// copyOf finds a copy of a snapshot or backup in the folder of another one.
func copyOf(ctx context.Context, of, beside inventory.Found) (there inventory.Found, ok bool) {
	id := of.Subvolume.Identity()
	if id.IsZero() || of.Subvolume.AlteredIn != 0 || beside.Subvolume.ID == 0 {
		return there, false
	}
	_, content, err := beside.Host.List(ctx, beside.Folder)
	if err != nil {
		return there, false
	}
	for _, s := range content.InDirectory {
		if s.Identity() == id && s.ReadOnly && s.AlteredIn == 0 && !btrfs.IsIncoming(s.Name) {
			there = beside
			there.Name, there.Subvolume = s.Name, s
			return there, true
		}
	}
	return there, false
}

// byManifests compares what was written down of both, wherever they are.
func (p Pair) byManifests(ctx context.Context, each func(changes.Change)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	from, to := manifestOf(ctx, p.From), manifestOf(ctx, p.To)
	defer from.Close()
	defer to.Close()
	err := changes.Manifests(from, to, each)
	if errors.Is(err, tree.ErrNoManifest) {
		return hint.Newf(fmt.Errorf("comparing %s and %s: %w", p.From, p.To, err),
			"they are on two filesystems, without a copy of one beside the other; `btrfs-backup verify BACKUP` makes the manifest of a backup")
	}
	return err
}

// manifestOf reads the manifest of a backup while it comes.
func manifestOf(ctx context.Context, f inventory.Found) *io.PipeReader {
	r, w := io.Pipe()
	go func() {
		dir, err := f.Host.Open(ctx, f.Folder)
		if err == nil {
			err = dir.Manifest(ctx, f.Name, w)
			dir.Close()
		}
		w.CloseWithError(err)
	}()
	return r
}
