package partial

import (
	"maps"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
)

// Flags are those of files by their paths: of all files, or of those that differ from the parent.
type Flags struct {
	Of    map[string]btrfs.Flags
	Since bool
}

// FlagsOf gives the flags of all files that the last of the streams makes. Of each stream it is told what is known.
func FlagsOf(streams []Stream, known []Flags) (map[string]btrfs.Flags, error) {
	s, t := &Selection{streams: streams}, newTree()
	all := make(map[*node]btrfs.Flags)
	for i := range streams {
		if err := s.follow(t, i, nil); err != nil {
			return nil, err
		}
		if !known[i].Since {
			clear(all)
		}
		for path, flags := range known[i].Of {
			if n, err := t.at(path, false); err == nil {
				all[n] = flags
			}
		}
	}
	maps.DeleteFunc(all, func(_ *node, flags btrfs.Flags) bool { return flags == 0 })
	named := make(map[string]btrfs.Flags)
	if len(all) > 0 {
		t.root.name(".", all, named)
	}
	return named, nil
}

// name finds the paths of nodes.
func (n *node) name(path string, of map[*node]btrfs.Flags, to map[string]btrfs.Flags) {
	if flags, ok := of[n]; ok {
		to[path] = flags
	}
	for name, child := range n.children {
		if path != "." {
			name = path + "/" + name
		}
		child.name(name, of, to)
	}
}
