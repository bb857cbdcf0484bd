// Package guard looks at send streams that another machine made, before btrfs receive sees them.
package guard

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/sendstream"
)

// A Guard looks at the commands of one stream. btrfs receive trusts them: it joins paths as they are,
// clones from any subvolume of the filesystem, and of an attribute that comes twice it takes the last one
// (btrfs-progs/common/send-stream.c: read_cmd), whatever was checked.
type Guard struct {
	Fresh  func(stream btrfs.UUID) error // may this be received? nil: yes
	Parent func(uuid btrfs.UUID) error   // may it build on this one? nil: yes
	Clone  func() error                  // may data of the parent be cloned? nil: yes

	begun     bool
	own, base btrfs.UUID // of the stream and of its parent
}

// Allow is for sendstream.CopyAllowed.
func (g *Guard) Allow(c sendstream.Command) error {
	err := checkAttributes(c)
	switch c.Type {
	case sendstream.CmdSubvol, sendstream.CmdSnapshot:
		if err == nil {
			err = g.begin(c)
		}
	case sendstream.CmdClone:
		if err == nil {
			err = g.clone(c)
		}
	}
	if err != nil {
		return fmt.Errorf("refused: the stream's %v command: %w", c.Type, err)
	}
	return nil
}

func (g *Guard) begin(c sendstream.Command) error {
	if g.begun {
		return errors.New("a stream holds one subvolume")
	}
	g.begun = true
	own, err := c.UUID(sendstream.AttrUUID)
	if err != nil {
		return err
	}
	if g.own = own; g.Fresh != nil {
		if err := g.Fresh(g.own); err != nil {
			return err
		}
	}
	if c.Type == sendstream.CmdSubvol {
		return nil
	}
	base, err := c.UUID(sendstream.AttrCloneUUID)
	if err != nil {
		return err
	}
	if g.base = base; g.Parent != nil {
		return g.Parent(g.base)
	}
	return nil
}

// clone lets a stream take data from itself and its parent. It could name any other subvolume, of whomever.
func (g *Guard) clone(c sendstream.Command) error {
	from, err := c.UUID(sendstream.AttrCloneUUID)
	if err != nil {
		return err
	}
	if uuid := btrfs.UUID(from); uuid != g.own && (uuid != g.base || g.base.IsZero()) {
		return fmt.Errorf("it takes data of the subvolume %s, which is neither its own nor its parent", uuid)
	} else if uuid != g.own && g.Clone != nil {
		return g.Clone()
	}
	return nil
}

// checkAttributes refuses what no sender writes.
func checkAttributes(c sendstream.Command) error {
	if c.Type < sendstream.CmdSubvol || c.Type > sendstream.CmdEncodedWrite {
		return errors.New("it is not known")
	}
	var seen [sendstream.AttrEncryption + 1]bool
	for t, value := range c.Attrs() {
		if t < sendstream.AttrUUID || t > sendstream.AttrEncryption {
			return fmt.Errorf("its attribute %d is not known", t)
		}
		if seen[t] {
			return fmt.Errorf("its attribute %d comes twice", t)
		}
		seen[t] = true
		if err := checkAttribute(c.Type, t, value); err != nil {
			return err
		}
	}
	return nil
}

func checkAttribute(command sendstream.CommandType, t sendstream.AttrType, value []byte) error {
	switch t {
	case sendstream.AttrPath:
		if len(value) == 0 && ofRoot(command) {
			return nil
		}
	case sendstream.AttrPathLink:
		if command == sendstream.CmdSymlink { // what it points to, which is anything
			if strings.ContainsRune(string(value), 0) {
				return fmt.Errorf("%q is no target of a link", value)
			}
			return nil
		}
	case sendstream.AttrPathTo, sendstream.AttrClonePath:
	default:
		return nil
	}
	p := string(value)
	if p == "." || p == ".." || strings.HasPrefix(p, "../") || path.IsAbs(p) || path.Clean(p) != p || strings.ContainsRune(p, 0) {
		return fmt.Errorf("%q is no path in a subvolume", p)
	}
	return nil
}

// ofRoot tells whether a command can be about the root directory of the subvolume, whose path is empty.
func ofRoot(command sendstream.CommandType) bool {
	switch command {
	case sendstream.CmdSetXattr, sendstream.CmdRemoveXattr, sendstream.CmdChmod, sendstream.CmdChown,
		sendstream.CmdUtimes, sendstream.CmdFileattr:
		return true
	}
	return false
}

// A Writer is a writer for a stream from another machine, which comes in pieces: only what the guard allows reaches w.
type Writer struct {
	*io.PipeWriter
	done chan error
}

// NewWriter gives a Writer to w.
func NewWriter(w io.Writer) Writer {
	r, in := io.Pipe()
	g := Writer{in, make(chan error, 1)}
	go func() {
		_, err := sendstream.CopyAllowed(w, r, new(Guard).Allow)
		r.CloseWithError(cmp.Or(err, io.ErrClosedPipe))
		g.done <- err
	}()
	return g
}

// End ends the stream, which failed with err if that is not nil, and waits until w has it.
func (g Writer) End(err error) error {
	g.CloseWithError(err)
	checkErr := <-g.done
	var read *sendstream.ReadError
	if err != nil && (checkErr == nil || errors.As(checkErr, &read)) {
		return err
	}
	return checkErr
}
