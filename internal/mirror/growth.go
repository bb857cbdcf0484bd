package mirror

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/changes"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/grow"

	"golang.org/x/sys/unix"
)

const (
	// maxNames is how many names a difference may tell of that a copy grows by; a message to another machine holds as many.
	maxNames = 100_000
	// maxNamesSize is how long their paths may be together, in bytes.
	maxNamesSize = 8 << 20
)

// growthFor gives what the copy of a snapshot can grow by; nil if it is to be copied as a whole.
func (f *Follower) growthFor(ctx context.Context, t engine.Transfer, base tree.Record) (*tree.Growth, error) {
	folder := f.dir.Status()
	switch {
	case base.Name == "":
		return nil, nil
	case t.Parent == nil || snapshotOf(base) != t.Parent.Identity():
		f.Log.Info(fmt.Sprintf("%s: %s is the copy of no snapshot upon which this one builds: looking at all files", f, base.Name))
		return nil, nil
	case !base.Complete():
		f.Log.Info(fmt.Sprintf("%s: files are missing in %s: looking at all files", f, base.Name))
		return nil, nil
	case folder.Btrfs:
		f.Log.Info(fmt.Sprintf("%s: lies on a btrfs, where backups are snapshots of each other: looking at all files; --engine btrfs sends to it", f))
		return nil, nil
	case !folder.Privileged:
		f.Log.Info(fmt.Sprintf("%s: looking at all files, since this is not done as root there", f))
		return nil, nil
	}
	var all []changes.Change
	names := 0
	err := f.of.Changes(ctx, t.Snapshot.Name, t.Parent.Name, func(c changes.Change) {
		if names++; names <= maxNames {
			all = append(all, c)
		}
	})
	if err != nil && ctx.Err() != nil {
		return nil, err
	}
	if err != nil { // as of a stream that makes no sense (tried: Linux 6.18, after many exchanges of names)
		f.Log.Warn(fmt.Sprintf("%s: looking at all files, since the kernel does not tell what changed: %v", f, err))
		return nil, nil
	}
	g := &tree.Growth{Name: t.Snapshot.Name, Base: base.Name, Changes: growthOf(all)}
	if names > maxNames || g.Changes.Names() > maxNames || sizeOf(g.Changes) > maxNamesSize {
		f.Log.Info(fmt.Sprintf("%s: %d names differ from %s: looking at all files", f, names, base.Name))
		return nil, nil
	}
	return g, tree.CheckGone(base.Name, goneIn(all), base.Files, f.MaxDelete)
}

func sizeOf(c grow.Changes) (n int) {
	for _, paths := range [...][]string{c.Gone, c.Anew} {
		for _, p := range paths {
			n += len(p)
		}
	}
	for _, moves := range [...][]grow.Move{c.Moved, c.Links} {
		for _, m := range moves {
			n += len(m.From) + len(m.To)
		}
	}
	return n
}

// goneIn counts the files that are no directories and are gone, under whatever name.
func goneIn(all []changes.Change) (n int64) {
	for _, c := range all {
		if c.Kind == changes.Deleted && c.Type != manifest.Directory {
			n++
		}
	}
	return n
}

// growthOf tells what is to be done for what differs between two snapshots. What differs in a file is copied with all of it, since what
// is in a backup never changes.
func growthOf(all []changes.Change) (g grow.Changes) {
	for _, c := range all {
		differs := c.Kind == changes.Created || c.Content || c.Metadata || c.Times || c.Anew
		switch {
		case c.Kind == changes.Deleted:
			g.Gone = append(g.Gone, c.Path)
			continue
		case c.Link != "":
			if g.Links = append(g.Links, grow.Move{From: c.Link, To: c.Path}); c.Kind != changes.Created { // another file had the path
				g.Gone = append(g.Gone, c.Old())
			}
			continue
		case c.Kind == changes.Created:
		case c.Type != manifest.Directory && differs:
			g.Gone = append(g.Gone, c.Old())
		case c.Kind == changes.Renamed:
			g.Moved = append(g.Moved, grow.Move{From: c.From, To: c.Path})
		}
		if differs {
			g.Anew = append(g.Anew, c.Path)
		}
	}
	g.Anew = withDirectories(g.Anew)
	return g
}

// withDirectories adds the directories of paths: what is copied there changes their times.
func withDirectories(paths []string) []string {
	known := make(map[string]bool, len(paths))
	for _, at := range paths {
		known[at] = true
	}
	for _, at := range slices.Clone(paths) {
		if dir := path.Dir(at); at != "." && !known[dir] {
			known[dir] = true
			paths = append(paths, dir)
		}
	}
	return paths
}

// grow makes a partial copy out of its base and has the rest copied. If it cannot, grew is false, and nothing was made.
func (d *Destination) grow(ctx context.Context, g *tree.Growth, f *filling, c copier) (err error) {
	if err := d.dir.GrowTree(ctx, *g); err != nil {
		if ctx.Err() != nil || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) { // of which a copy as a whole takes no less
			return err
		}
		d.Log.Warn(fmt.Sprintf("%s: looking at all files, since the copy cannot grow: %v", d, err))
		return nil
	}
	f.grew = true
	isRoot := func(at string) bool { return at == "." } // with which rsync would take what is in it
	if list := slices.DeleteFunc(slices.Clone(g.Changes.Anew), isRoot); len(list) > 0 {
		if c.list, err = listOf(list); err != nil {
			return err
		}
		defer c.list.Close()
		if f.told, f.missing, err = c.run(ctx); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(g.Changes.Anew, isRoot) {
		root := c
		root.list, root.rootAlone, root.Progress = nil, true, nil
		if _, _, err := root.run(ctx); err != nil {
			return err
		}
	}
	w := f.work
	w.Sticky = nil // such directories grew with their attributes
	return d.repair(ctx, c, w, f.told.retouched)
}

// listOf writes paths to a file without a name, for rsync to read.
func listOf(paths []string) (*os.File, error) {
	list, err := os.CreateTemp("", "btrfs-backup-")
	if err != nil {
		return nil, err
	}
	err = os.Remove(list.Name())
	if err == nil {
		_, err = list.WriteString(strings.Join(paths, "\x00") + "\x00")
	}
	if err == nil {
		_, err = list.Seek(0, 0)
	}
	if err != nil {
		return nil, errors.Join(err, list.Close())
	}
	return list, nil
}

// itemized matches what rsync tells of a file that it would copy, change or delete.
var itemized = regexp.MustCompile(`^([<>ch.][fdLDS].{9} .{9} |\*deleting +\S* *)`)

// compare lets rsync look for differences between the snapshot and what grew. There must be none; if there are, all is copied.
func (f *Follower) compare(ctx context.Context, order tree.Order, c copier, filled filling) (filling, error) {
	f.Log.Info(fmt.Sprintf("%s: comparing all of %s with its snapshot, which was last done before %s", f, order.Name, order.Base))
	var differ []string
	look := c
	look.tells = func(line string) {
		if at := itemized.FindStringIndex(line); at != nil {
			differ = append(differ, unescaped(line[at[1]:]))
		}
	}
	look.own, look.to = slices.Concat(filled.options, c.own, []string{"--dry-run"}), f.argument(c.link, filled.work.Path+"/.")
	_, missing, err := look.run(ctx)
	switch {
	case err != nil:
		return filled, err
	case missing != nil:
		filled.missing = missing
	case len(differ) > 0:
		f.Log.Warn(fmt.Sprintf("%s: %s: what grew out of %s differs from its snapshot in %s: copying all that differs", f,
			order.Name, order.Base, engine.Few(differ)))
		return f.fillAnyhow(ctx, order, c, nil)
	default:
		f.Log.Info(fmt.Sprintf("%s: %s: no difference", f, order.Name))
	}
	return filled, nil
}
