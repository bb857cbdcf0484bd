package changes

import (
	"io"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
)

// Of gives the changes that a stream made by btrfs send --no-data makes to the older tree, which is nil if the stream builds upon
// none, sorted by Compare. Among them are directories of which no more than the time changed.
func Of(r io.Reader, older, newer Tree) ([]Change, error) {
	f, err := fold(r, mostNodes)
	if err != nil {
		return nil, err
	}
	c := &comparison{folded: f, older: older, newer: newer, told: make(map[string]int), moved: make(map[uint64][]int),
		linked: make(map[uint64]*inode)}
	nodes := append([]*node{f.root}, f.nodes...)
	for _, n := range nodes {
		if err := c.add(n); err != nil {
			return nil, err
		}
	}
	if err := c.addLinks(); err != nil {
		return nil, err
	}
	if err := c.replace(); err != nil {
		return nil, err
	}
	c.all = slices.DeleteFunc(c.all, func(one Change) bool { return one.Kind == "" })
	slices.SortFunc(c.all, Compare)
	return c.all, nil
}

// A comparison makes changes of what was folded.
type comparison struct {
	*folded
	older, newer Tree

	all    []Change
	told   map[string]int    // the index of each path in the newer tree of files with several names
	moved  map[uint64][]int  // by inode, the index of each name that is gone
	linked map[uint64]*inode // files with several names that were modified
	gained []gain
}

// A gain is a further name of an inode.
type gain struct {
	at    int // in all
	entry manifest.Entry
	inode *inode
}

// add adds what became of a name.
func (c *comparison) add(n *node) error {
	old, was := n.oldPath(c.root)
	path, is := n.path(c.root)
	switch {
	case was && is:
		return c.addKept(n, old, path)
	case was:
		e, err := c.older.Stat(old)
		if err != nil {
			return err
		}
		c.moved[e.Inode] = append(c.moved[e.Inode], len(c.all))
		c.all = append(c.all, Change{Kind: Deleted, Path: old, Type: e.Type, Was: e.Size})
	case is:
		e, err := c.newer.Stat(path)
		if err != nil {
			return err
		}
		if !n.inode.made {
			c.gained = append(c.gained, gain{len(c.all), e, n.inode})
			c.note(e, path, n.inode)
		}
		c.all = append(c.all, Change{Kind: Created, Path: path, Type: e.Type, Is: e.Size})
	}
	return nil
}

// addKept adds a name that is in both trees, if something differs.
func (c *comparison) addKept(n *node, old, path string) error {
	one := Change{Path: path, Kind: Modified}
	if old != path {
		one.From = old
		if n.dir != n.wasIn || n.name != n.wasName {
			one.Kind = Renamed
		}
	}
	if i := *n.inode; one.Kind != Renamed && !i.content && !i.truncated && !i.metadata && !i.times {
		return nil
	}
	e, err := c.newer.Stat(path)
	if err != nil {
		return err
	}
	was, err := c.older.Stat(old)
	if err != nil {
		return err
	}
	one.compare(n.inode, was, e)
	if one.Kind == Renamed || one.differs() {
		c.note(e, path, n.inode)
		c.all = append(c.all, one)
	}
	return nil
}

// compare tells how two entries of one inode differ.
func (one *Change) compare(i *inode, was, is manifest.Entry) {
	one.Type, one.Was, one.Is = is.Type, was.Size, is.Size
	one.Content = i.content || was.Size != is.Size
	one.Metadata = i.metadata
	one.Times = was.ModTime != is.ModTime
}

func (one *Change) differs() bool { return one.Content || one.Metadata || one.Times }

// note remembers a file with several names, of which the stream may tell one only. Its change is added next.
func (c *comparison) note(e manifest.Entry, path string, i *inode) {
	if e.Type == manifest.Directory || e.Links < 2 {
		return
	}
	c.told[path] = len(c.all)
	if known := c.linked[e.Inode]; known != nil && known != i {
		known.merge(*i)
	} else {
		c.linked[e.Inode] = i
	}
}

func (i *inode) merge(with inode) {
	i.content, i.truncated = i.content || with.content, i.truncated || with.truncated
	i.metadata, i.times = i.metadata || with.metadata, i.times || with.times
}

// addLinks adds the other names of files that were modified, and makes a name that is gone and a further one of the same file a
// renaming.
func (c *comparison) addLinks() error {
	for number, i := range c.linked {
		names, err := c.newer.Names(number)
		if err != nil {
			return err
		}
		for _, path := range names {
			if err := c.addLink(path, i); err != nil {
				return err
			}
		}
	}
	for _, g := range c.gained {
		gone := c.moved[g.entry.Inode]
		if len(gone) == 0 {
			if err := c.addFurther(g); err != nil {
				return err
			}
			continue
		}
		c.moved[g.entry.Inode] = gone[1:]
		one := Change{Kind: Renamed, Path: c.all[g.at].Path, From: c.all[gone[0]].Path}
		was, err := c.older.Stat(one.From)
		if err != nil {
			return err
		}
		one.compare(g.inode, was, g.entry)
		c.all[g.at], c.all[gone[0]] = one, Change{}
	}
	return nil
}

// addFurther tells of which file a further name is, if nothing differs in that.
func (c *comparison) addFurther(g gain) error {
	names, err := c.older.Names(g.entry.Inode)
	if err != nil || len(names) == 0 {
		return err
	}
	was, err := c.older.Stat(names[0])
	if err != nil {
		return err
	}
	var file Change
	if file.compare(g.inode, was, g.entry); !file.differs() {
		c.all[g.at].Link = names[0]
	}
	return nil
}

// addLink adds a name of a file, or what the stream told of the file under its other names.
func (c *comparison) addLink(path string, i *inode) error {
	if at, told := c.told[path]; told {
		if one := &c.all[at]; one.Kind != Created {
			one.Content, one.Metadata = one.Content || i.content, one.Metadata || i.metadata
		}
		return nil
	}
	n, err := c.find(path)
	if err != nil {
		return err
	}
	old, was := n.oldPath(c.root)
	if n.inode.made || !was { // it has been told
		return nil
	}
	n.inode = i
	return c.addKept(n, old, path)
}

// replace makes what was deleted and created again in the same place one change.
func (c *comparison) replace() error {
	deleted := make(map[string]int)
	for i, one := range c.all {
		if one.Kind == Deleted {
			deleted[one.Path] = i
		}
	}
	for i, one := range c.all {
		at, ok := deleted[one.Path]
		if one.Kind != Created || !ok || c.all[at].Type != one.Type {
			continue
		}
		was, err := c.older.Stat(one.Path)
		if err != nil {
			return err
		}
		is, err := c.newer.Stat(one.Path)
		if err != nil {
			return err
		}
		one.Kind, one.Anew = Modified, true
		one.compare(&inode{content: one.Type == manifest.Regular || one.Type == manifest.Symlink}, was, is)
		one.Metadata = was.Mode != is.Mode || was.UID != is.UID || was.GID != is.GID || was.Device != is.Device
		c.all[i], c.all[at] = one, Change{}
	}
	return nil
}

// Count sums changes up.
type Count struct {
	Created      int   `json:"created"`
	Deleted      int   `json:"deleted"`
	Renamed      int   `json:"renamed"`
	Modified     int   `json:"modified"`
	BytesCreated int64 `json:"bytes_created"` // of regular files
	BytesDeleted int64 `json:"bytes_deleted"`
	BytesGrown   int64 `json:"bytes_grown"` // of those that are in both trees; less than 0 if they shrank
}

// Add counts a change.
func (s *Count) Add(c Change) {
	switch c.Kind {
	case Created:
		s.Created++
		s.BytesCreated += c.Is
	case Deleted:
		s.Deleted++
		s.BytesDeleted += c.Was
	case Renamed:
		s.Renamed++
	case Modified:
		s.Modified++
	}
	if c.Kind == Renamed || c.Kind == Modified {
		s.BytesGrown += c.Is - c.Was
	}
}

// Changes is how many there are.
func (s *Count) Changes() int { return s.Created + s.Deleted + s.Renamed + s.Modified }
