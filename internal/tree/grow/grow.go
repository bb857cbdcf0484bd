// Package grow makes the directory of a backup out of the one before it, its base, and of what changed since. Files that did not change
// are linked, under whatever path they have now; what is to be copied is left to others.
//
// It goes by the manifest of the base: no directory is read, and of each file that is taken over no more is asked than whether it is
// still what the manifest says. A base that somebody changed is an AlteredError, and nothing is to be built upon it in this way.
package grow

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"

	"golang.org/x/sys/unix"
)

// Changes are what became of the files of the base. Paths are relative to the tree, and in it.
type Changes struct {
	Gone  []string // in the base, of what is not taken over: it is gone, or is to be copied anew
	Moved []Move   // of what has another path now; all that is in a directory goes with it, but for what is told of by itself
	Links []Move   // further names of files that are in the base
	Anew  []string // in the new tree, of what is to be copied, and of directories whose attributes are
}

// A Move leads from a path in the base to one in the new tree.
type Move struct{ From, To string }

// Names counts the paths that changes tell of.
func (c Changes) Names() int { return len(c.Gone) + len(c.Moved) + len(c.Links) + len(c.Anew) }

// maxMoved bounds memory: so many files may have another path than in the base, with all in directories that were moved.
const maxMoved = 500_000

var most = maxMoved // smaller in a test

// An AlteredError tells that the base is not what its manifest says, or not what the changes are about.
type AlteredError struct{ Path, What string }

func (e *AlteredError) Error() string { return fmt.Sprintf("%s: %s", e.Path, e.What) }

// ErrTooMany tells that more files have other paths than are kept in memory.
var ErrTooMany = fmt.Errorf("more than %d files have other paths", maxMoved)

// An Order is what a tree is made of, and where. All that is open is borrowed.
type Order struct {
	Base     *os.File  // its directory
	Manifest io.Reader // what it held when it was made
	Changes
	Into  *os.File  // an empty directory on the same filesystem
	Kept  io.Writer // gets the manifest of what was taken over under the path that it had
	Moved io.Writer // gets that of what was taken over under another path
}

// Tree makes all of the new tree but what is to be copied anew. Directories have the attributes that they had in the base, but for
// those that are Anew, and the owner alone may look into these. After an error, what was made is of no use.
func Tree(ctx context.Context, o Order) error {
	if err := o.Changes.check(); err != nil {
		return err
	}
	l := newLinking(ctx)
	g := &grower{Order: o, linking: l, gone: setOf(o.Gone), anew: setOf(o.Anew), moved: make(map[string]string), links: make(map[string][]string),
		early: make(map[string]bool)}
	for _, m := range o.Changes.Moved {
		g.moved[m.From] = m.To
	}
	for _, l := range o.Links {
		g.links[l.From] = append(g.links[l.From], l.To)
	}
	l.failed(g.grow())
	g.closeTo(0)
	err := l.end()
	if g.into != nil {
		g.into.Release()
	}
	if err != nil {
		return err
	}
	return g.finish()
}

func (g *grower) grow() (err error) {
	if g.into, err = walk.OpenDir(g.Order.Into); err != nil {
		return err
	}
	if err := disinherit(g.into); err != nil {
		return err
	}
	if g.kept, err = manifest.NewWriter(g.Kept); err != nil {
		return err
	}
	return g.takeAll()
}

// check refuses paths that lead out of the new tree.
func (c Changes) check() error {
	paths := slices.Clone(c.Anew)
	for _, m := range slices.Concat(c.Moved, c.Links) {
		if m.To == "." {
			return errors.New("nothing can be moved to the root")
		}
		paths = append(paths, m.To)
	}
	for _, p := range paths {
		if !filepath.IsLocal(p) || path.Clean(p) != p || strings.ContainsRune(p, 0) {
			return fmt.Errorf("%q is no path in a tree", p)
		}
	}
	return nil
}

func setOf(paths []string) map[string]bool {
	set := make(map[string]bool, len(paths))
	for _, p := range paths {
		set[p] = true
	}
	return set
}

// A grower is at work. Of the changes, it forgets what it met.
type grower struct {
	Order
	*linking
	into  *walk.Dir // the root of the new tree
	gone  map[string]bool
	moved map[string]string
	links map[string][]string
	anew  map[string]bool // stays
	early map[string]bool // directories that were made before their turn, since something was moved there

	kept  *manifest.Writer
	apart []manifest.Entry // what has another path
	level []*level         // directories of the base from the root to the present one
}

// takeAll takes all files of the base in the order of its manifest.
func (g *grower) takeAll() error {
	entries, err := manifest.NewReader(g.Manifest)
	if err != nil {
		return err
	}
	defer entries.Close()
	for {
		e, err := entries.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil && g.ctx.Err() != nil {
			err = context.Cause(g.ctx)
		}
		if err == nil {
			err = g.take(e)
		}
		if err != nil {
			return err
		}
	}
}

// take takes one entry, whose directory is the last level, or one above it.
func (g *grower) take(e manifest.Entry) error {
	if e.Path == "." {
		return g.takeRoot(e)
	}
	dir := path.Dir(e.Path)
	g.closeTo(g.depthOf(dir))
	if len(g.level) == 0 {
		return &AlteredError{e.Path, "its directory is missing in the manifest"}
	}
	above := g.level[len(g.level)-1]
	name := path.Base(e.Path)
	to, err := g.pathOf(e.Path, name, above)
	if err != nil {
		return err
	}
	isDir, further := e.Type == manifest.Directory, g.links[e.Path]
	switch {
	case to == "" && !isDir && further == nil:
		return nil
	case !isDir && further == nil && above.into != nil && to == path.Join(above.to, name): // as nearly all
		if above.files = append(above.files, e); len(above.files) == mostLinks {
			g.handOver(above)
		}
		return g.write(e, to)
	}
	if err := checkSame(above.from, name, &e); err != nil {
		return err
	}
	if isDir {
		return g.takeDirectory(e, name, to, above)
	}
	if to != "" {
		if err := g.link(above, name, to, e); err != nil {
			return err
		}
	}
	for _, to := range further {
		if err := g.link(above, name, to, e); err != nil {
			return err
		}
	}
	delete(g.links, e.Path)
	return nil
}

// depthOf gives the number of levels down to a directory of the base, 0 if it is none of those that are open.
func (g *grower) depthOf(dir string) int {
	for n := len(g.level); n > 0; n-- {
		if g.level[n-1].entry.Path == dir {
			return n
		}
	}
	return 0
}

// pathOf gives the path in the new tree of what is in a directory; "" for what is not taken over.
func (g *grower) pathOf(at, name string, above *level) (string, error) {
	if to, ok := g.moved[at]; ok {
		delete(g.moved, at)
		return to, nil
	}
	if g.gone[at] {
		delete(g.gone, at)
		return "", nil
	}
	if above.into == nil {
		return "", &AlteredError{at, "its directory is gone, and nothing tells of it"}
	}
	return path.Join(above.to, name), nil
}

// checkSame compares a file of the base with its entry.
func checkSame(dir *walk.Dir, name string, e *manifest.Entry) error {
	is, err := dir.File(name, e.Path)
	if errors.Is(err, unix.ENOENT) {
		return &AlteredError{e.Path, "it is missing"}
	}
	if err != nil {
		return &os.PathError{Op: "lstat", Path: e.Path, Err: err}
	}
	switch {
	case is.Type != e.Type || is.Inode != e.Inode:
		return &AlteredError{e.Path, "it was replaced"}
	case is.Size != e.Size || is.ModTime != e.ModTime:
		return &AlteredError{e.Path, "it was modified"}
	case is.Mode != e.Mode || is.UID != e.UID || is.GID != e.GID:
		return &AlteredError{e.Path, "its mode or owner was changed"}
	}
	return nil
}

func (g *grower) takeRoot(e manifest.Entry) error {
	from, err := walk.OpenDir(g.Base)
	if err != nil {
		return err
	}
	g.enter(&level{entry: e, to: ".", from: from, into: g.into.Hold()})
	if err := checkSame(from, ".", &e); err != nil {
		return err
	}
	return g.note(e, ".", g.into)
}

// takeDirectory opens a directory of the base, and makes the one in the new tree.
func (g *grower) takeDirectory(e manifest.Entry, name, to string, above *level) error {
	from, err := above.from.Dir(name)
	if err != nil {
		return &os.PathError{Op: "open", Path: e.Path, Err: err}
	}
	l := &level{entry: e, to: to, from: from}
	if to != "" {
		if l.into, err = g.makeDirectory(to, above); err != nil {
			from.Release()
			return err
		}
	}
	g.enter(l)
	if to == "" {
		return nil
	}
	return g.note(e, to, l.into)
}

// makeDirectory makes and opens a directory in the new tree, if it was not made early.
func (g *grower) makeDirectory(to string, above *level) (*walk.Dir, error) {
	dir, err := g.directory(path.Dir(to), above)
	if err != nil {
		return nil, err
	}
	defer dir.Release()
	return g.makeIn(dir, to, g.early[to])
}

func (g *grower) makeIn(dir *walk.Dir, to string, mayBeThere bool) (*walk.Dir, error) {
	name := path.Base(to)
	err := unix.Mkdirat(dir.Descriptor(), name, 0o700)
	if err == unix.EEXIST && !mayBeThere {
		return nil, &AlteredError{to, "two directories would have this path"}
	}
	if err != nil && err != unix.EEXIST {
		return nil, &os.PathError{Op: "mkdir", Path: to, Err: err}
	}
	made, err := dir.Dir(name)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: to, Err: err}
	}
	return made, nil
}

// directory opens a directory of the new tree, which is released by whoever asks. It is most often the one that belongs to the present
// one of the base; others may not have been made yet.
func (g *grower) directory(at string, above *level) (*walk.Dir, error) {
	switch {
	case above.into != nil && above.to == at:
		return above.into.Hold(), nil
	case at == ".":
		return g.into.Hold(), nil
	}
	dir, err := g.directory(path.Dir(at), above)
	if err != nil {
		return nil, err
	}
	defer dir.Release()
	made, err := dir.Dir(path.Base(at))
	if err == unix.ENOENT {
		g.early[at] = true
		return g.makeIn(dir, at, false)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: at, Err: err}
	}
	return made, nil
}

// link gives a file of the base a name in the new tree.
func (g *grower) link(from *level, name, to string, e manifest.Entry) error {
	into, err := g.directory(path.Dir(to), from)
	if err != nil {
		return err
	}
	defer into.Release()
	if err := linkAs(from.from, name, e.Path, into, path.Base(to)); err != nil {
		return err
	}
	return g.write(e, to)
}

// note writes down a directory that was made, unless that is done when its attributes have been copied.
func (g *grower) note(e manifest.Entry, to string, made *walk.Dir) error {
	if g.anew[to] {
		return nil
	}
	is, err := made.File(".", to)
	if err != nil {
		return &os.PathError{Op: "lstat", Path: to, Err: err}
	}
	e.Inode, e.ChangeTime = is.Inode, is.ChangeTime
	return g.write(e, to)
}

func (g *grower) write(e manifest.Entry, to string) error {
	if to == e.Path {
		return g.kept.Write(e)
	}
	if len(g.apart) >= most {
		return ErrTooMany
	}
	e.Path = to
	g.apart = append(g.apart, e)
	return nil
}

func (g *grower) enter(l *level) {
	l.settles = l.into != nil && !g.anew[l.to]
	l.open.Store(1)
	g.level = append(g.level, l)
}

// closeTo leaves the levels beyond a number of them: all that is taken over is in these directories, but for what is moved there later.
// Such directories are Anew.
func (g *grower) closeTo(n int) {
	for ; len(g.level) > n; g.level = g.level[:len(g.level)-1] {
		last := g.level[len(g.level)-1]
		g.handOver(last)
		g.failed(last.done())
	}
}

// finish writes what has other paths, and sees to it that all changes were met.
func (g *grower) finish() error {
	if err := g.kept.Close(); err != nil {
		return err
	}
	for _, missed := range [...][]string{slices.Sorted(maps.Keys(g.gone)), slices.Sorted(maps.Keys(g.moved)), slices.Sorted(maps.Keys(g.links))} {
		if len(missed) > 0 {
			return &AlteredError{missed[0], "it is missing in the manifest"}
		}
	}
	moved, err := manifest.NewWriter(g.Order.Moved)
	if err != nil {
		return err
	}
	slices.SortFunc(g.apart, func(a, b manifest.Entry) int { return manifest.Compare(a.Path, b.Path) })
	for _, e := range g.apart {
		if err := moved.Write(e); err != nil {
			return err
		}
	}
	if err := moved.Close(); err != nil {
		return err
	}
	failpoint.Reach("grown")
	return nil
}
