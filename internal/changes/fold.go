package changes

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
)

const (
	maxPath = 4096 // linux/limits.h: PATH_MAX, which the kernel's streams keep
	maxName = 255
	// mostNodes bounds memory: each is a name that the stream told of, or a directory above one.
	mostNodes = 4 << 20
)

// errTooMany tells that the difference is too large.
var errTooMany = fmt.Errorf("more than %d names differ", mostNodes)

// A node is a name in a tree that changes with the stream. It is known from when the stream tells of it.
type node struct {
	dir  *node // that it is in now; nil: it is gone, or the root
	name string

	wasIn   *node // that it is in in the older tree; nil: it is not there
	wasName string

	names map[string]*node // of a directory, those that are known; nil is one that is gone
	inode *inode
}

// An inode is what one or several names stand for. Names of one that the stream does not tell to be one have several.
type inode struct {
	made      bool // by the stream
	content   bool
	truncated bool // to a size that may be the same
	metadata  bool
	times     bool
}

// folded is what a stream made of the older tree.
type folded struct {
	root  *node
	nodes []*node // in the order in which they became known
	limit int
}

// fold reads a stream to its end.
func fold(r io.Reader, limit int) (*folded, error) {
	f := &folded{limit: limit}
	commands := sendstream.NewReader(r)
	for first := true; ; first = false {
		c, err := commands.Next()
		if err == io.EOF {
			return f, nil
		}
		if err == nil && first {
			f.root = &node{inode: &inode{made: c.Type == sendstream.CmdSubvol}}
			continue
		}
		if err == nil {
			err = f.apply(c)
		}
		if err != nil {
			return nil, err
		}
	}
}

// apply does what a command does.
func (f *folded) apply(c sendstream.Command) error {
	if c.Type == sendstream.CmdEnd {
		return nil
	}
	path, err := c.Text(sendstream.AttrPath)
	if err != nil {
		return err
	}
	if err := f.do(c, path); err != nil {
		return fmt.Errorf("%w: %v %.200q: %w", sendstream.ErrCorrupt, c.Type, path, err)
	}
	return nil
}

func (f *folded) do(c sendstream.Command, path string) error {
	switch c.Type {
	case sendstream.CmdMkfile, sendstream.CmdMkdir, sendstream.CmdMknod, sendstream.CmdMkfifo, sendstream.CmdMksock, sendstream.CmdSymlink:
		return f.put(&node{inode: &inode{made: true}}, path)
	case sendstream.CmdRename:
		to, err := c.Text(sendstream.AttrPathTo)
		if err != nil {
			return err
		}
		return f.rename(path, to)
	case sendstream.CmdLink:
		from, err := c.Text(sendstream.AttrPathLink)
		if err != nil {
			return err
		}
		n, err := f.find(from)
		if err != nil {
			return err
		}
		return f.put(&node{inode: n.inode}, path)
	case sendstream.CmdUnlink, sendstream.CmdRmdir:
		n, err := f.find(path)
		if err == nil && n == f.root {
			err = errors.New("it is the root")
		}
		if err == nil {
			n.leave()
		}
		return err
	}
	n, err := f.find(path)
	if err != nil {
		return err
	}
	return n.inode.change(c.Type)
}

func (i *inode) change(t sendstream.CommandType) error {
	switch t {
	case sendstream.CmdWrite, sendstream.CmdEncodedWrite, sendstream.CmdClone, sendstream.CmdUpdateExtent, sendstream.CmdFallocate:
		i.content = true
	case sendstream.CmdTruncate:
		i.truncated = true
	case sendstream.CmdSetXattr, sendstream.CmdRemoveXattr, sendstream.CmdChmod, sendstream.CmdChown, sendstream.CmdFileattr:
		i.metadata = true
	case sendstream.CmdUtimes:
		i.times = true
	default:
		return errors.New("it is not expected here")
	}
	return nil
}

// find gives the node at a path. What the stream did not tell of yet is as in the older tree.
func (f *folded) find(path string) (*node, error) {
	if len(path) >= maxPath {
		return nil, errors.New("the path is too long")
	}
	n := f.root
	if path == "" || path == "." {
		return n, nil
	}
	for name := range strings.SplitSeq(path, "/") {
		if err := checkName(name); err != nil {
			return nil, err
		}
		child, known := n.names[name]
		if known && child == nil || !known && n.inode.made {
			return nil, errors.New("there is no such file")
		}
		if !known {
			child = &node{wasIn: n, wasName: name, inode: &inode{}}
			if err := f.add(child); err != nil {
				return nil, err
			}
			child.enter(n, name)
		}
		n = child
	}
	return n, nil
}

func (f *folded) add(n *node) error {
	if len(f.nodes) >= f.limit {
		return errTooMany
	}
	f.nodes = append(f.nodes, n)
	return nil
}

// put gives a new node a path.
func (f *folded) put(n *node, path string) error {
	dir, name, err := f.place(path)
	if err != nil {
		return err
	}
	if err := f.add(n); err != nil {
		return err
	}
	n.enter(dir, name)
	return nil
}

// place gives the directory of a path whose name is to be taken. What has it is replaced; a name that the stream did not tell of is
// free, since no other is taken by a stream.
func (f *folded) place(path string) (dir *node, name string, err error) {
	above, name := "", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		above, name = path[:i], path[i+1:]
	}
	if err := checkName(name); err != nil {
		return nil, "", err
	}
	if dir, err = f.find(above); err != nil {
		return nil, "", err
	}
	if there := dir.names[name]; there != nil {
		there.leave()
	}
	return dir, name, nil
}

func checkName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > maxName || strings.ContainsAny(name, "/\x00") {
		return errors.New("not a path within a tree")
	}
	return nil
}

func (f *folded) rename(from, to string) error {
	n, err := f.find(from)
	if err != nil {
		return err
	}
	if n == f.root {
		return errors.New("it is the root")
	}
	if strings.HasPrefix(to, from+"/") {
		return errors.New("it is moved into itself")
	}
	if from == to {
		return nil
	}
	n.leave()
	dir, name, err := f.place(to)
	if err != nil {
		return err
	}
	n.enter(dir, name)
	return nil
}

func (n *node) enter(dir *node, name string) {
	if dir.names == nil {
		dir.names = make(map[string]*node)
	}
	dir.names[name], n.dir, n.name = n, dir, name
}

// leave takes a node out of its directory. Names that the stream gave for a while are forgotten: there are many.
func (n *node) leave() {
	if n.dir == n.wasIn && n.name == n.wasName {
		n.dir.names[n.name] = nil
	} else {
		delete(n.dir.names, n.name)
	}
	n.dir, n.name = nil, ""
}

// path gives the path of a node in the newer tree; ok tells that it is there.
func (n *node) path(root *node) (path string, ok bool) {
	var parts []string
	for ; n.dir != nil; n = n.dir {
		parts = append(parts, n.name)
	}
	return joined(parts), n == root
}

// oldPath gives the path of a node in the older tree; ok tells that it is there.
func (n *node) oldPath(root *node) (path string, ok bool) {
	var parts []string
	for ; n.wasIn != nil; n = n.wasIn {
		parts = append(parts, n.wasName)
	}
	return joined(parts), n == root && !root.inode.made
}

// joined makes a path of its names, the last one first.
func joined(names []string) string {
	if len(names) == 0 {
		return "."
	}
	size := len(names) - 1
	for _, name := range names {
		size += len(name)
	}
	var path strings.Builder
	path.Grow(size)
	for i := len(names) - 1; i >= 0; i-- {
		path.WriteString(names[i])
		if i > 0 {
			path.WriteByte('/')
		}
	}
	return path.String()
}
