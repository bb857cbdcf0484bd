package partial

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
)

// A node is a file or directory of the subvolume that streams make, whatever names it gets. Its number is the same whenever the same
// streams are followed.
type node struct {
	number   int
	children map[string]*node // of a directory; nil: it is none
	before   map[string]*node // those at the beginning of the stream in which they changed last
	changed  int              // that stream
	above    []*node          // directories that it has been in
	copied   []*node          // what data was cloned from
}

// A tree follows streams that build on each other.
type tree struct {
	root   *node
	nodes  int
	stream int
	uuid   btrfs.UUID // of the snapshot of the stream
	parent btrfs.UUID
}

func newTree() *tree {
	return &tree{root: &node{children: make(map[string]*node)}, nodes: 1, stream: -1}
}

// begin begins with the next stream.
func (t *tree) begin(uuid, parent btrfs.UUID) {
	t.stream++
	t.uuid, t.parent = uuid, parent
}

// at gives what has a path now or, with past, had it at the beginning of the stream.
func (t *tree) at(path string, past bool) (*node, error) {
	n := t.root
	for name := range strings.SplitSeq(path, "/") {
		if name == "" && path == "" || name == "." {
			continue
		}
		children := n.children
		if past && n.before != nil && n.changed == t.stream {
			children = n.before
		}
		next := children[name]
		if next == nil {
			return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
		}
		n = next
	}
	return n, nil
}

// place gives the directory of a path, which is about to change, and the last name.
func (t *tree) place(path string) (dir *node, name string, err error) {
	above, name := "", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		above, name = path[:i], path[i+1:]
	}
	if dir, err = t.at(above, false); err != nil {
		return nil, "", err
	}
	if dir.children == nil || name == "" {
		return nil, "", fmt.Errorf("%q: %w", path, fs.ErrInvalid)
	}
	if dir.before == nil || dir.changed != t.stream {
		dir.before, dir.changed = maps.Clone(dir.children), t.stream
	}
	return dir, name, nil
}

func (t *tree) put(n *node, path string) error {
	dir, name, err := t.place(path)
	if err != nil {
		return err
	}
	dir.children[name] = n
	if !slices.Contains(n.above, dir) {
		n.above = append(n.above, dir)
	}
	return nil
}

func (t *tree) remove(path string) error {
	dir, name, err := t.place(path)
	if err == nil {
		delete(dir.children, name)
	}
	return err
}

// follow applies a command, and gives what it is about: nil for what begins and ends a stream.
func (t *tree) follow(c sendstream.Command) (*node, error) {
	if c.Type == sendstream.CmdSubvol || c.Type == sendstream.CmdSnapshot || c.Type == sendstream.CmdEnd {
		return nil, nil
	}
	path, err := c.Text(sendstream.AttrPath)
	if err != nil {
		return nil, err
	}
	switch c.Type {
	case sendstream.CmdMkfile, sendstream.CmdMkdir, sendstream.CmdMknod, sendstream.CmdMkfifo, sendstream.CmdMksock, sendstream.CmdSymlink:
		n := &node{number: t.nodes}
		if t.nodes++; c.Type == sendstream.CmdMkdir {
			n.children = make(map[string]*node)
		}
		return n, t.put(n, path)
	case sendstream.CmdLink:
		return t.move(c, sendstream.AttrPathLink, path, false)
	case sendstream.CmdRename:
		return t.move(c, sendstream.AttrPath, "", true)
	}
	n, err := t.at(path, false)
	if err != nil {
		return nil, err
	}
	switch c.Type {
	case sendstream.CmdUnlink, sendstream.CmdRmdir:
		err = t.remove(path)
	case sendstream.CmdClone:
		err = t.clone(n, c)
	}
	return n, err
}

// move gives another name, or one more.
func (t *tree) move(c sendstream.Command, from sendstream.AttrType, to string, away bool) (*node, error) {
	old, err := c.Text(from)
	if err == nil && away {
		to, err = c.Text(sendstream.AttrPathTo)
	}
	if err != nil {
		return nil, err
	}
	n, err := t.at(old, false)
	if err == nil && away {
		err = t.remove(old)
	}
	if err == nil {
		err = t.put(n, to)
	}
	return n, err
}

// clone notes from what data comes.
func (t *tree) clone(n *node, c sendstream.Command) error {
	uuid, err := c.UUID(sendstream.AttrCloneUUID)
	if err != nil {
		return err
	}
	path, err := c.Text(sendstream.AttrClonePath)
	if err != nil {
		return err
	}
	if uuid != t.uuid && uuid != t.parent {
		return fmt.Errorf("%s has data of another subvolume", path)
	}
	from, err := t.at(path, uuid == t.parent)
	if err == nil && from != n && !slices.Contains(n.copied, from) {
		n.copied = append(n.copied, from)
	}
	return err
}
