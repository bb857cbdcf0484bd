package btrfstest

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Types of files, as differences name them.
const (
	regular   = "regular file"
	directory = "directory"
	symlink   = "symlink"
	character = "character device"
	block     = "block device"
)

// Kinds of differences that more is done with.
const (
	mtime    = "mtime"
	hardLink = "hard link"
)

var fileTypes = map[uint32]string{
	unix.S_IFREG:  regular,
	unix.S_IFDIR:  directory,
	unix.S_IFLNK:  symlink,
	unix.S_IFIFO:  "fifo",
	unix.S_IFSOCK: "socket",
	unix.S_IFCHR:  character,
	unix.S_IFBLK:  block,
}

// entry is what one side of a comparison has under a path.
type entry struct {
	path     string
	fileType string
	size     int64             // of a regular file
	facts    map[string]string // readable value by kind of difference
}

func (e *entry) fact(kind string) string {
	if value, ok := e.facts[kind]; ok {
		return value
	}
	return "none"
}

// side is one of the two trees of a comparison.
type side struct {
	root  string
	own   bool             // with OwnAttributes
	first map[inode]*entry // of the path that an inode was met under first
}

type inode struct{ dev, ino uint64 }

func newSide(root string, ignore []string) *side {
	return &side{root: root, own: !slices.Contains(ignore, OwnAttributes), first: make(map[inode]*entry)}
}

func (s *side) path(path string) string { return filepath.Join(s.root, path) }

func (s *side) names(path string) ([]string, error) {
	list, err := os.ReadDir(s.path(path))
	if err != nil {
		return nil, err
	}
	names := make([]string, len(list))
	for i, entry := range list {
		names[i] = entry.Name()
	}
	return names, nil
}

func (s *side) read(path string) (*entry, error) {
	var st unix.Stat_t
	if err := unix.Lstat(s.path(path), &st); err != nil {
		return nil, &os.PathError{Op: "lstat", Path: s.path(path), Err: err}
	}
	id := inode{st.Dev, st.Ino}
	if first := s.first[id]; first != nil {
		return first.linkedAt(path), nil
	}
	e := &entry{path: path, fileType: fileTypes[st.Mode&unix.S_IFMT], facts: map[string]string{
		"mode":  fmt.Sprintf("%04o", st.Mode&0o7777),
		"owner": fmt.Sprintf("%d:%d", st.Uid, st.Gid),
		mtime:   time.Unix(st.Mtim.Unix()).UTC().Format(time.RFC3339Nano),
	}}
	switch e.fileType {
	case regular:
		e.size = st.Size
		e.facts["size"] = fmt.Sprint(st.Size)
	case character, block:
		e.facts["device"] = fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	case symlink:
		target, err := os.Readlink(s.path(path))
		if err != nil {
			return nil, err
		}
		e.facts["target"] = fmt.Sprintf("%q", target)
	}
	if e.fileType != directory {
		s.first[id] = e
	}
	return e, s.addXattrs(e, path)
}

// linkedAt gives what a hard link has under its own path. The first path of its group is a fact, too.
func (e *entry) linkedAt(path string) *entry {
	link := &entry{path: path, fileType: e.fileType, size: e.size, facts: maps.Clone(e.facts)}
	link.facts[hardLink] = fmt.Sprintf("%q", e.path)
	return link
}

// linkedLike tells that both are links to the same path.
func (e *entry) linkedLike(other *entry) bool {
	first, ok := e.facts[hardLink]
	return ok && first == other.facts[hardLink]
}

func (s *side) addXattrs(e *entry, path string) error {
	attrs, err := readXattrs(s.path(path))
	if err != nil {
		return &os.PathError{Op: "reading xattrs", Path: s.path(path), Err: err}
	}
	for name, value := range attrs {
		if !s.own && (strings.HasPrefix(name, "btrfs.") || strings.HasPrefix(name, "trusted.SGI_ACL_")) {
			continue
		}
		e.facts[fmt.Sprintf("xattr %q", name)] = fmt.Sprintf("%q", value)
	}
	return nil
}
