package host

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

// A guard looks at the commands of a stream that another machine made. btrfs receive trusts them: it joins paths as they are,
// clones from any subvolume of the filesystem, and of an attribute that comes twice it takes the last one
// (btrfs-progs/common/send-stream.c: read_cmd), whatever was checked.
type guard struct {
	fresh  func(stream btrfs.UUID) error // may this be received? nil: yes
	parent func(uuid btrfs.UUID) error   // may it build on this one? nil: yes

	begun     bool
	own, base btrfs.UUID // of the stream and of its parent
}

// foreign gives what looks at each command of a stream from elsewhere, for sendstream.CopyAllowed; one for each stream.
func foreign() func(sendstream.Command) error { return new(guard).allow }

func (g *guard) allow(c sendstream.Command) error {
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

func (g *guard) begin(c sendstream.Command) error {
	if g.begun {
		return errors.New("a stream holds one subvolume")
	}
	g.begun = true
	own, err := c.UUID(sendstream.AttrUUID)
	if err != nil {
		return err
	}
	if g.own = own; g.fresh != nil {
		if err := g.fresh(g.own); err != nil {
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
	if g.base = base; g.parent != nil {
		return g.parent(g.base)
	}
	return nil
}

// clone lets a stream take data from itself and its parent. It could name any other subvolume, of whomever.
func (g *guard) clone(c sendstream.Command) error {
	from, err := c.UUID(sendstream.AttrCloneUUID)
	if err != nil {
		return err
	}
	if uuid := btrfs.UUID(from); uuid != g.own && (uuid != g.base || g.base.IsZero()) {
		return fmt.Errorf("it takes data of the subvolume %s, which is neither its own nor its parent", uuid)
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

// A guarded is a writer for a stream from another machine, which comes in pieces: only what the guard allows reaches w.
type guarded struct {
	*io.PipeWriter
	done chan error
}

func newGuarded(w io.Writer) guarded {
	r, in := io.Pipe()
	g := guarded{in, make(chan error, 1)}
	go func() {
		_, err := sendstream.CopyAllowed(w, r, foreign())
		r.CloseWithError(cmp.Or(err, io.ErrClosedPipe))
		g.done <- err
	}()
	return g
}

// end ends the stream, which failed with err if that is not nil, and waits until w has it.
func (g guarded) end(err error) error {
	g.CloseWithError(err)
	checkErr := <-g.done
	var read *sendstream.ReadError
	if err != nil && (checkErr == nil || errors.As(checkErr, &read)) {
		return err
	}
	return checkErr
}
