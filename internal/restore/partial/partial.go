// Package partial makes of streams that build on each other such that make only some files, and tells which parts of the streams hold
// what these need. The streams without the content of files are followed from the first one on, so it is known under which names the
// wanted files were at any time, and from which others data was cloned.
//
// The new streams have UUIDs of their own: what they make is no copy of the snapshot, and never passes for one.
package partial

import (
	"crypto/rand"
	"io"
	"maps"
	"slices"

	"golang.org/x/crypto/blake2b"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
)

// A Stream is one in parts.
type Stream struct {
	UUID     btrfs.UUID
	Parent   btrfs.UUID // zero: it is complete by itself
	Protocol int
	// Names gives the commands of each part, where an UPDATE_EXTENT stands for data of a file.
	Names func(visit func(part int, commands []byte) error) error
}

// A Selection is of files.
type Selection struct {
	streams []Stream
	secret  []byte
	final   *tree
	made    map[int]bool // nodes that are made
	filled  map[int]bool // those that get their data
	parts   []map[int]bool

	at   *tree // of the next stream to be written
	next int
}

// Follow follows streams, the first of which is complete by itself.
func Follow(streams []Stream) (*Selection, error) {
	s := &Selection{streams: streams, secret: make([]byte, 16), final: newTree()}
	_, _ = rand.Read(s.secret) // which never fails
	for i := range streams {
		if err := s.follow(s.final, i, nil); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// follow follows a stream. visit is told of each command, and what it is about.
func (s *Selection) follow(t *tree, i int, visit func(part int, n *node, c sendstream.Command) error) error {
	stream := s.streams[i]
	t.begin(stream.UUID, stream.Parent)
	return stream.Names(func(part int, commands []byte) error {
		for c, err := range sendstream.Commands(commands, stream.Protocol) {
			var n *node
			if err == nil {
				n, err = t.follow(c)
			}
			if err == nil && visit != nil {
				err = visit(part, n, c)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Has tells whether the last snapshot has a path. The root is ".".
func (s *Selection) Has(path string) (there, isDirectory bool) {
	n, err := s.final.at(path, false)
	return err == nil, err == nil && n.children != nil
}

// Choose chooses files and directories of the last snapshot, with all that is in these.
func (s *Selection) Choose(paths []string) error {
	s.made, s.filled = make(map[int]bool), make(map[int]bool)
	for _, path := range paths {
		n, err := s.final.at(path, false)
		if err != nil {
			return err
		}
		s.fill(n)
	}
	s.make(s.final.root)
	s.parts = make([]map[int]bool, len(s.streams))
	t := newTree()
	for i := range s.streams {
		s.parts[i] = make(map[int]bool)
		err := s.follow(t, i, func(part int, n *node, c sendstream.Command) error {
			if c.Type == sendstream.CmdUpdateExtent && s.filled[n.number] {
				s.parts[i][part] = true
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// fill chooses a node, what is in it, and what data comes from.
func (s *Selection) fill(n *node) {
	if s.filled[n.number] {
		return
	}
	s.filled[n.number] = true
	s.make(n)
	for _, child := range n.children {
		s.fill(child)
	}
	for _, from := range n.copied {
		s.fill(from)
	}
}

// make lets a node be made, in whatever directories it has been.
func (s *Selection) make(n *node) {
	if s.made[n.number] {
		return
	}
	s.made[n.number] = true
	for _, dir := range n.above {
		s.make(dir)
	}
}

// Parts gives the parts of a stream that are needed, in order.
func (s *Selection) Parts(i int) []int { return slices.Sorted(maps.Keys(s.parts[i])) }

// UUID gives that of what a stream makes here in place of a snapshot.
func (s *Selection) UUID(of btrfs.UUID) (uuid btrfs.UUID) {
	if of.IsZero() {
		return uuid
	}
	h, err := blake2b.New256(s.secret)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	h.Write(of[:])
	copy(uuid[:], h.Sum(nil))
	return uuid
}

// Write writes a stream that makes what was chosen. Part gives one that is needed.
func (s *Selection) Write(w io.Writer, i int, part func(n int) ([]byte, error)) error {
	if s.at == nil || s.next > i {
		s.at, s.next = newTree(), 0
	}
	for ; s.next < i; s.next++ {
		if err := s.follow(s.at, s.next, nil); err != nil {
			return err
		}
	}
	stream, t := s.streams[i], s.at
	s.next = i + 1
	s.at = nil // unless it is written to its end
	t.begin(stream.UUID, stream.Parent)
	if _, err := w.Write(sendstream.Header(stream.Protocol)); err != nil {
		return err
	}
	err := stream.Names(func(n int, commands []byte) error {
		if s.parts[i][n] {
			content, err := part(n)
			if err != nil {
				return err
			}
			commands = sendstream.WithoutHeader(content)
		}
		return s.write(w, t, stream.Protocol, commands)
	})
	if err == nil {
		s.at = t
	}
	return err
}

func (s *Selection) write(w io.Writer, t *tree, protocol int, commands []byte) error {
	for c, err := range sendstream.Commands(commands, protocol) {
		var n *node
		if err == nil {
			n, err = t.follow(c)
		}
		if err == nil && s.isWanted(c, n) {
			_, err = w.Write(s.renamed(c))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// isWanted tells that a command is about something that was chosen.
func (s *Selection) isWanted(c sendstream.Command, n *node) bool {
	switch c.Type {
	case sendstream.CmdUpdateExtent:
		return false
	case sendstream.CmdWrite, sendstream.CmdEncodedWrite, sendstream.CmdClone:
		return s.filled[n.number]
	}
	return n == nil || s.made[n.number]
}

// renamed gives a command with the UUIDs that the new streams have.
func (s *Selection) renamed(c sendstream.Command) []byte {
	if c.Type != sendstream.CmdSubvol && c.Type != sendstream.CmdSnapshot && c.Type != sendstream.CmdClone {
		return c.Raw
	}
	var attrs []byte
	for t, value := range c.Attrs() {
		if (t == sendstream.AttrUUID || t == sendstream.AttrCloneUUID) && len(value) == len(btrfs.UUID{}) {
			uuid := s.UUID(btrfs.UUID(value))
			value = uuid[:]
		}
		attrs = sendstream.AppendAttr(attrs, t, value)
	}
	return sendstream.AppendCommand(nil, c.Type, attrs)
}
